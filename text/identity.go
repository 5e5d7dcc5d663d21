package text

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// identity returns a SHA-256 over all that decides what ids a text gets: the vocabulary by
// id, the special tokens, the switches of normalisation and the added tokens. Two
// tokenizers with the same identity give the same ids, whatever files they came from.
func (t *Tokenizer) identity() [sha256.Size]byte {
	var b []byte
	number := func(x int) { b = binary.LittleEndian.AppendUint64(b, uint64(int64(x))) }
	text := func(s string) {
		number(len(s))
		b = append(b, s...)
	}
	flags := func(all ...bool) {
		for _, x := range all {
			b = append(b, map[bool]byte{true: 1}[x])
		}
	}
	text("sift WordPiece 1") // change with the rules or the Unicode tables
	number(len(t.tokens))
	for id, token := range t.tokens {
		text(token)
		own, ok := t.vocab[token]
		flags(ok && int(own) == id) // else an added token, or a gap
	}
	for _, id := range []int32{t.PAD, t.UNK, t.CLS, t.SEP, t.MASK, t.inner} {
		number(int(id))
	}
	number(t.maxChars)
	flags(t.CleanText, t.SplitChinese, t.StripAccents, t.LowerCase)
	for _, a := range []*added{&t.raw, &t.folded} {
		last := make(map[string]addedToken) // of two with one content the later counts
		for _, token := range a.tokens {
			last[token.content] = token
		}
		tokens := make([]addedToken, 0, len(last))
		for _, token := range last {
			tokens = append(tokens, token)
		}
		slices.SortFunc(tokens, func(x, y addedToken) int { return strings.Compare(x.content, y.content) })
		number(len(tokens))
		for _, token := range tokens {
			text(token.content)
			number(int(token.id))
			flags(token.lstrip, token.rstrip, token.singleWord)
		}
	}
	return sha256.Sum256(b)
}
