package text

import (
	"slices"
	"unicode/utf8"
)

// skip marks an ASCII byte that normalisation removes.
const skip = 0xFF

// pendingMark is a nonstarter that waits to be put into canonical order.
type pendingMark struct {
	r     rune
	class uint8
}

// foldTable returns what normalisation makes of each ASCII byte.
func (t *Tokenizer) foldTable() (table [utf8.RuneSelf]byte) {
	for b := range table {
		p := propsOf(rune(b))
		table[b] = byte(b)
		switch {
		case t.CleanText && p&dropped != 0:
			table[b] = skip
		case t.CleanText && p&white != 0:
			table[b] = ' '
		case t.LowerCase && p&lowers != 0:
			table[b] = byte(lowerOf(rune(b)))
		}
	}
	return table
}

// normalise appends the normalised form of s to sc.norm: cleaning, spaces around CJK
// ideographs, canonical decomposition without nonspacing marks, lower case, each as
// the tokenizer's switches say. A byte that is not UTF-8 counts as U+FFFD, which
// cleaning removes.
//
// Order matters and is that of Hugging Face: a character removed by cleaning does not
// separate two marks, and lower-casing sees what decomposition made.
func (t *Tokenizer) normalise(sc *scratch, s string) {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf && len(sc.pending) == 0 {
			for i < len(s) && s[i] < utf8.RuneSelf {
				if b := t.fold[s[i]]; b != skip {
					sc.norm = append(sc.norm, b)
				}
				i++
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		p := propsOf(r)
		if t.CleanText {
			if p&dropped != 0 {
				continue
			}
			if p&white != 0 {
				r, p = ' ', white
			}
		}
		apart := t.SplitChinese && p&chinese != 0
		if apart {
			t.put(sc, ' ', white)
		}
		if t.StripAccents && p&decomposes != 0 {
			t.putDecomposed(sc, r)
		} else {
			t.put(sc, r, p)
		}
		if apart {
			t.put(sc, ' ', white)
		}
	}
	t.flush(sc)
}

// putDecomposed puts the canonical decomposition of r.
func (t *Tokenizer) putDecomposed(sc *scratch, r rune) {
	const base, count, lead, vowel, trail, vowels, trails = 0xAC00, 11172, 0x1100, 0x1161, 0x11A7, 21, 28
	if r < base || r >= base+count {
		for _, c := range decompositionOf(r) {
			t.put(sc, c, propsOf(c))
		}
		return
	}
	r -= base
	t.put(sc, lead+r/(vowels*trails), 0)
	t.put(sc, vowel+r/trails%vowels, 0)
	if r%trails != 0 {
		t.put(sc, trail+r%trails, 0)
	}
}

// put appends one character that does not decompose, or holds it back if it may have
// to change places with the marks after it.
func (t *Tokenizer) put(sc *scratch, r rune, p props) {
	if t.StripAccents {
		if p&nonstarter != 0 {
			if p&mark == 0 {
				sc.pending = append(sc.pending, pendingMark{r, classOf(r)})
			}
			return
		}
		t.flush(sc)
		if p&mark != 0 {
			return
		}
	}
	t.lower(sc, r, p)
}

// flush appends the marks held back, by combining class, equal classes as they came.
func (t *Tokenizer) flush(sc *scratch) {
	if len(sc.pending) == 0 {
		return
	}
	slices.SortStableFunc(sc.pending, func(a, b pendingMark) int { return int(a.class) - int(b.class) })
	for _, m := range sc.pending {
		t.lower(sc, m.r, propsOf(m.r))
	}
	sc.pending = sc.pending[:0]
}

// lower appends r, in lower case if asked. Casing is by character: a sigma at the end
// of a word stays a plain one.
func (t *Tokenizer) lower(sc *scratch, r rune, p props) {
	if t.LowerCase && p&lowers != 0 {
		if r == 'İ' {
			sc.norm = append(sc.norm, "i\u0307"...)
			return
		}
		r = lowerOf(r)
	}
	sc.norm = utf8.AppendRune(sc.norm, r)
}
