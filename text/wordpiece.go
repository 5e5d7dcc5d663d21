package text

import "unicode/utf8"

// nextWord returns the first word of normalised text at or after i, an empty one at the
// end. A word is one punctuation character or a run of characters that are neither
// punctuation nor white space.
func nextWord(norm []byte, i int) (start, end int) {
	ascii := &propBlocks[0]
	for start = i; i < len(norm); {
		size := 1
		var p props
		if b := norm[i]; b < utf8.RuneSelf {
			p = ascii[b]
		} else {
			var r rune
			r, size = utf8.DecodeRune(norm[i:])
			p = propsOf(r)
		}
		switch {
		case p&(white|punct) == 0:
			i += size
		case i > start:
			return start, i
		case p&white == 0:
			return start, i + size
		default:
			i += size
			start = i
		}
	}
	return start, i
}

// appendWords appends the pieces of each word of normalised text. It may stop once ids
// is longer than limit.
func (t *Tokenizer) appendWords(ids []int32, norm []byte, limit int) []int32 {
	for i := 0; len(ids) <= limit; {
		start, end := nextWord(norm, i)
		if start == end {
			break
		}
		ids = t.appendPieces(ids, norm[start:end])
		i = end
	}
	return ids
}

// appendPieces appends the pieces of one word: from its start the longest piece in the
// vocabulary, then the longest that continues it, and so on. A word that cannot be cut
// so, or has more than maxChars characters, is one [UNK].
func (t *Tokenizer) appendPieces(ids []int32, word []byte) []int32 {
	if len(word) > t.maxChars && utf8.RuneCount(word) > t.maxChars {
		return append(ids, t.UNK)
	}
	if id, ok := t.vocab[string(word)]; ok { // most words are whole pieces
		return append(ids, id)
	}
	before, node := len(ids), int32(0)
	for len(word) > 0 {
		id, n := longest(&t.pieces, node, word)
		if n == 0 {
			return append(ids[:before], t.UNK)
		}
		ids = append(ids, id)
		word = word[n:]
		if node = t.inner; node < 0 && len(word) > 0 {
			return append(ids[:before], t.UNK)
		}
	}
	return ids
}
