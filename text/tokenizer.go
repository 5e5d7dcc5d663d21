// Package text turns sentences into token ids as bert-base-uncased does: BERT
// cleaning, lower-casing, accent stripping, punctuation splitting, WordPiece. It also
// reads labelled TSV files and fixes the order in which examples are drawn.
package text

import (
	"sync"
	"unicode/utf8"

	"sift/fault"
)

// Encoding is one tokenised sequence, [CLS] a [SEP] or [CLS] a [SEP] b [SEP].
// Types holds 0 for [CLS] a [SEP] and 1 for b [SEP]. Both have the same length.
type Encoding struct {
	IDs, Types []int32
}

// Tokenizer is a BERT WordPiece tokenizer. It is immutable after Load and safe for
// concurrent use.
//
// Texts are Go strings, so they may hold what no Python string can: a byte that is not
// UTF-8 counts as U+FFFD, which cleaning removes.
type Tokenizer struct {
	// Ids of the special tokens. MASK is -1 in a vocabulary without a mask token,
	// which fine-tuning does not need; see NeedMask.
	PAD, UNK, CLS, SEP, MASK int32

	// Path is the file that holds the vocabulary and Hash the SHA-256 of its bytes, in
	// hex. Files are all that were read: Path, and a tokenizer_config.json if it
	// counted.
	Path, Hash string
	Files      []string

	// What normalisation does, in this order.
	CleanText    bool // drop control characters, turn all white space into spaces
	SplitChinese bool // a space before and after each CJK ideograph
	StripAccents bool // canonical decomposition, then nonspacing marks dropped
	LowerCase    bool // character by character, without context (no final sigma)

	tokens   []string         // by id, added tokens included; "" where there is a gap
	vocab    map[string]int32 // of the WordPiece model
	beyond   map[string]int32 // added tokens that the model lacks; nil if none
	pieces   trie             // of vocab
	inner    int32            // node of "##", the prefix of a piece that continues a word; -1 if none does
	maxChars int              // longer words become [UNK]
	fold     [utf8.RuneSelf]byte
	raw      added     // tokens found in the text as written
	folded   added     // tokens found in the normalised text
	pool     sync.Pool // *scratch
}

// scratch is the working memory of one call.
type scratch struct {
	norm    []byte
	pending []pendingMark
	ids     []int32
}

// VocabSize returns the largest id plus one: the rows that a word embedding must have.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token, spelt as in the vocabulary ("##ing", "[MASK]").
func (t *Tokenizer) ID(token string) (int, bool) {
	if id, ok := t.vocab[token]; ok {
		return int(id), true
	}
	id, ok := t.beyond[token]
	return int(id), ok
}

// Token returns the token of an id, "" if the vocabulary has none.
func (t *Tokenizer) Token(id int) string {
	if id < 0 || id >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

// NeedMask returns an error that names the file if the vocabulary has no mask token,
// without which there is no masked-language-model training.
func (t *Tokenizer) NeedMask() error {
	if t.MASK < 0 {
		return fault.New(fault.Data, "%s: vocabulary: has no %s, which masked-LM training needs", t.Path, maskToken)
	}
	return nil
}

// Encode tokenises a, or the pair a, b if b is not empty, into at most maxLength ids,
// special tokens included; maxLength 0 means no limit.
//
// What is too long loses tokens at its end. A pair loses those of the longer text until
// it fits or the texts are equally long, and then of both; of an odd number the longer
// text keeps one more, b if they were equal. That is Hugging Face's longest-first. A
// maxLength below the number of special tokens cuts those too.
func (t *Tokenizer) Encode(a, b string, maxLength int) Encoding {
	return t.AppendEncode(Encoding{}, a, b, maxLength)
}

// EncodePair is Encode for a pair whose second text may be empty: [CLS] a [SEP] [SEP].
func (t *Tokenizer) EncodePair(a, b string, maxLength int) Encoding {
	e, _ := t.appendEncode(Encoding{}, a, b, true, maxLength)
	return e
}

// AppendEncode is Encode onto the end of dst, without allocation where dst has room.
func (t *Tokenizer) AppendEncode(dst Encoding, a, b string, maxLength int) Encoding {
	dst, _ = t.appendEncode(dst, a, b, b != "", maxLength)
	return dst
}

// AppendIDs appends the ids of s without special tokens around it.
func (t *Tokenizer) AppendIDs(dst []int32, s string) []int32 {
	sc := t.scratch()
	dst = t.appendText(dst, sc, s, unlimited)
	t.release(sc)
	return dst
}

// unlimited is a number of ids that no text in memory reaches.
const unlimited = int(^uint(0) >> 1)

// appendEncode appends a sequence to dst and says whether it was truncated.
func (t *Tokenizer) appendEncode(dst Encoding, a, b string, pair bool, maxLength int) (Encoding, bool) {
	special := 2
	if pair {
		special = 3
	}
	room := unlimited
	if maxLength > 0 {
		room = max(maxLength-special, 0)
	}

	sc := t.scratch()
	start := len(dst.IDs)
	dst.IDs = append(dst.IDs, t.CLS)
	dst.IDs = t.appendText(dst.IDs, sc, a, room)
	nA, nB := len(dst.IDs)-start-1, 0
	if pair {
		sc.ids = t.appendText(sc.ids[:0], sc, b, room)
		nB = len(sc.ids)
	}
	if nA > room && nB > room && room%2 == 1 {
		// Both were left off early, and the longer one keeps the odd token.
		nA = t.count(sc, a)
		nB = t.count(sc, b) // sc.ids holds b again
	}
	keepA, keepB := truncate(nA, nB, room)
	dst.IDs = append(dst.IDs[:start+1+keepA], t.SEP)
	for range keepA + 2 {
		dst.Types = append(dst.Types, 0)
	}
	if pair {
		dst.IDs = append(append(dst.IDs, sc.ids[:keepB]...), t.SEP)
		for range keepB + 1 {
			dst.Types = append(dst.Types, 1)
		}
	}
	t.release(sc)
	cut := keepA < nA || keepB < nB
	if n := len(dst.IDs) - start; maxLength > 0 && n > maxLength {
		dst.IDs = dst.IDs[:len(dst.IDs)-(n-maxLength)]
		dst.Types = dst.Types[:len(dst.Types)-(n-maxLength)]
		cut = true
	}
	return dst, cut
}

// count fills sc.ids with the ids of s and returns their number.
func (t *Tokenizer) count(sc *scratch, s string) int {
	sc.ids = t.appendText(sc.ids[:0], sc, s, unlimited)
	return len(sc.ids)
}

// truncate returns how many of a and b tokens stay within room.
func truncate(a, b, room int) (keepA, keepB int) {
	if a <= room-b {
		return a, b
	}
	short := min(a, b)
	long := max(short, room-short)
	if long > room-short {
		short, long = room/2, room/2+room%2
	}
	if a > b {
		return long, short
	}
	return short, long
}

// appendText appends the ids of s: added tokens as they stand, the words between them
// as pieces. It may stop once it has appended more than room ids.
func (t *Tokenizer) appendText(ids []int32, sc *scratch, s string, room int) []int32 {
	limit := unlimited
	if room < unlimited-len(ids) {
		limit = len(ids) + room
	}
	for done := 0; len(ids) <= limit; {
		token, start, stop, found := t.raw.cut(s, done)
		ids = t.appendPlain(ids, sc, s[done:start], limit)
		if !found {
			break
		}
		ids = append(ids, token.id)
		done = stop
	}
	return ids
}

// chunk is the number of bytes normalised in one go where the text has a space.
const chunk = 1 << 16

// appendPlain appends the ids of a text without raw added tokens. Long texts are taken
// chunk by chunk, so that the working memory stays small and the limit ends the work
// early: nothing of WordPiece reaches across a space.
func (t *Tokenizer) appendPlain(ids []int32, sc *scratch, s string, limit int) []int32 {
	for s != "" && len(ids) <= limit {
		part := s
		if len(s) > chunk && len(t.folded.tokens) == 0 {
			part = s[:endOfChunk(s)]
		}
		s = s[len(part):]
		sc.norm = sc.norm[:0]
		t.normalise(sc, part)
		if len(t.folded.tokens) == 0 {
			ids = t.appendWords(ids, sc.norm, limit)
		} else {
			ids = t.appendFolded(ids, sc.norm, limit)
		}
	}
	return ids
}

// endOfChunk returns the position of the first space beyond a chunk, or the end of s.
func endOfChunk(s string) int {
	for i := chunk; i < len(s); i++ {
		if s[i] == ' ' {
			return i
		}
	}
	return len(s)
}

// appendFolded appends the ids of normalised text in which added tokens may stand.
func (t *Tokenizer) appendFolded(ids []int32, norm []byte, limit int) []int32 {
	s := string(norm)
	for done := 0; len(ids) <= limit; {
		token, start, stop, found := t.folded.cut(s, done)
		ids = t.appendWords(ids, norm[done:start], limit)
		if !found {
			break
		}
		ids = append(ids, token.id)
		done = stop
	}
	return ids
}

func (t *Tokenizer) scratch() *scratch {
	if sc, ok := t.pool.Get().(*scratch); ok {
		return sc
	}
	return new(scratch)
}

// release keeps working memory for the next call, unless one huge word blew it up.
func (t *Tokenizer) release(sc *scratch) {
	if cap(sc.norm) <= 16*chunk && cap(sc.pending) <= chunk && cap(sc.ids) <= 4*chunk {
		t.pool.Put(sc)
	}
}
