// Package text turns sentences into token ids as bert-base-uncased does: BERT
// cleaning, lower-casing, accent stripping, punctuation splitting, WordPiece. It also
// reads labelled TSV files and fixes the order in which examples are drawn.
//
// It imports no other package of the engine but the random generator.
package text

import "sync"

// Encoding is one tokenised sequence, [CLS] a [SEP] or [CLS] a [SEP] b [SEP].
// Types holds 0 for [CLS] a [SEP] and 1 for b [SEP]. Both have the same length.
type Encoding struct {
	IDs, Types []int32
}

// Tokenizer is a BERT WordPiece tokenizer. It is immutable after Load and safe for
// concurrent use.
type Tokenizer struct {
	// Ids of the special tokens. MASK is -1 in a vocabulary without a mask token,
	// which fine-tuning does not need; see NeedMask.
	PAD, UNK, CLS, SEP, MASK int32

	// Path is the file that was read and Hash the SHA-256 of its bytes, in hex.
	Path, Hash string

	// What normalisation does, in this order.
	CleanText    bool // drop control characters, turn all white space into spaces
	SplitChinese bool // a space before and after each CJK ideograph
	StripAccents bool // canonical decomposition, then nonspacing marks dropped
	LowerCase    bool // character by character, without context (no final sigma)

	tokens   []string         // by id; "" where the vocabulary leaves a gap
	ids      map[string]int32 // the inverse
	maxChars int              // longer words become [UNK]
	prefix   string           // of a piece that continues a word, "##"
	pool     sync.Pool        // *scratch
}
