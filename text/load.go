package text

import (
	"errors"

	"sift/fault"
)

// Load reads a tokenizer from a directory (its tokenizer.json, else its vocab.txt), a
// vocab.txt or a tokenizer.json.
func Load(path string) (*Tokenizer, error) {
	return nil, fault.As(fault.Internal, errors.New(path))
}

// VocabSize returns the largest id plus one: the rows a word embedding must have.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token, spelt as in the vocabulary ("##ing", "[MASK]").
func (t *Tokenizer) ID(token string) (int, bool) { id, ok := t.ids[token]; return int(id), ok }

// Token returns the token of an id, "" if the vocabulary has none.
func (t *Tokenizer) Token(id int) string { return t.tokens[id] }

// NeedMask returns an error that names the file if the vocabulary has no mask token.
func (t *Tokenizer) NeedMask() error { return nil }

// Encode tokenises a, or the pair a, b if b is not empty, into at most maxLength ids,
// special tokens included; maxLength 0 means no limit.
func (t *Tokenizer) Encode(a, b string, maxLength int) Encoding {
	return t.AppendEncode(Encoding{}, a, b, maxLength)
}

// AppendEncode is Encode onto the end of dst, without allocation where dst has room.
func (t *Tokenizer) AppendEncode(dst Encoding, a, b string, maxLength int) Encoding { return dst }

// AppendIDs appends the ids of s without special tokens around it.
func (t *Tokenizer) AppendIDs(dst []int32, s string) []int32 { return dst }
