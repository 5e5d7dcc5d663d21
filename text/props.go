package text

import "sort"

// props is what matters of a code point, as one bit each. The tables are those of
// Hugging Face's tokenizers, which mixes editions of Unicode, and not those of package
// unicode, which change with the Go release; docs/decisions/0004-wordpiece.md counts
// the differences.
type props uint8

const (
	dropped    props = 1 << iota // control, format, private use, NUL, U+FFFD: removed by cleaning
	white                        // White_Space
	punct                        // ASCII punctuation and symbols, Unicode category P
	mark                         // category Mn: removed by accent stripping
	nonstarter                   // canonical combining class above 0
	decomposes                   // has a canonical decomposition
	lowers                       // has a lower case of its own
	chinese                      // in the CJK blocks that BERT sets apart
)

type propRange struct {
	lo, hi rune
	p      props
}

// lowerRange maps lo, lo+stride, ..., hi to their lower case by adding delta.
type lowerRange struct {
	lo, hi, stride, delta rune
}

type decomposition struct {
	r  rune
	to string
}

type combiningClass struct {
	r     rune
	class uint8
}

const blockSize = 128

// propsOf returns the properties of a code point; surrogates and numbers beyond
// Unicode have none.
func propsOf(r rune) props {
	if uint32(r) < uint32(len(propIndex)*blockSize) {
		return propBlocks[propIndex[r/blockSize]][r%blockSize]
	}
	i := sort.Search(len(propRanges), func(i int) bool { return propRanges[i].hi >= r })
	if i < len(propRanges) && propRanges[i].lo <= r {
		return propRanges[i].p
	}
	return 0
}

// lowerOf returns the lower case of a code point that has property lowers, U+0130 excepted.
func lowerOf(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	i := sort.Search(len(lowerRanges), func(i int) bool { return lowerRanges[i].hi >= r })
	return r + lowerRanges[i].delta
}

// decompositionOf returns the canonical decomposition of a code point that has one and
// is no Hangul syllable.
func decompositionOf(r rune) string {
	i := sort.Search(len(decompositions), func(i int) bool { return decompositions[i].r >= r })
	return decompositions[i].to
}

// classOf returns the canonical combining class of a nonstarter that is no mark.
func classOf(r rune) uint8 {
	i := sort.Search(len(combiningClasses), func(i int) bool { return combiningClasses[i].r >= r })
	return combiningClasses[i].class
}
