package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is a token that is looked for in the text before words are formed.
type addedToken struct {
	content        string
	id             int32
	lstrip, rstrip bool // the token swallows the white space before, after it
	singleWord     bool // the token does not count inside a word
}

// added is a set of such tokens.
type added struct {
	tokens []addedToken // trie ids are indices
	trie   trie
	first  [256]bool // bytes that begin one
}

// newAdded builds a set; of two tokens with one content the later counts, and an empty
// one never.
func newAdded(tokens []addedToken) added {
	a := added{tokens: tokens}
	index := make(map[string]int32, len(tokens))
	for i, token := range tokens {
		if token.content != "" {
			index[token.content] = int32(i)
			a.first[token.content[0]] = true
		}
	}
	a.trie = newTrie(index)
	return a
}

// cut finds the first token of s that begins at from or later and counts, the longest of
// those that begin there. The text before it is s[from:start], the text after it s[stop:].
func (a *added) cut(s string, from int) (token addedToken, start, stop int, found bool) {
	for i := from; i < len(s) && len(a.tokens) > 0; i++ {
		if !a.first[s[i]] {
			continue
		}
		id, size := longest(&a.trie, 0, s[i:])
		if size == 0 {
			continue
		}
		token, start, stop = a.tokens[id], i, i+size
		if token.singleWord && (endsWithWord(s[:start]) || startsWithWord(s[stop:])) {
			i = stop - 1
			continue
		}
		if token.lstrip {
			start = from + len(strings.TrimRightFunc(s[from:start], isWhite))
		}
		if token.rstrip {
			stop = len(s) - len(strings.TrimLeftFunc(s[stop:], isWhite))
		}
		return token, start, stop, true
	}
	return addedToken{}, len(s), len(s), false
}

func isWhite(r rune) bool { return propsOf(r)&white != 0 }

// isWord is \w of Unicode regular expressions (UTS 18, annex C).
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}

func endsWithWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return s != "" && isWord(r)
}

func startsWithWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && isWord(r)
}
