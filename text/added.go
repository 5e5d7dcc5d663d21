package text

import (
	"slices"
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
	tokens  map[string]addedToken
	lengths []int     // of their contents, longest first
	first   [256]bool // bytes that begin one
}

// add puts a token in, replacing one of the same content.
func (a *added) add(token addedToken) {
	if token.content == "" {
		return
	}
	if a.tokens == nil {
		a.tokens = make(map[string]addedToken)
	}
	a.tokens[token.content] = token
	a.first[token.content[0]] = true
	if n := len(token.content); !slices.Contains(a.lengths, n) {
		a.lengths = append(a.lengths, n)
		slices.SortFunc(a.lengths, func(x, y int) int { return y - x })
	}
}

// next finds the first token at or after from, the longest of those that start there.
func (a *added) next(s string, from int) (token addedToken, start int, found bool) {
	if len(a.tokens) == 0 {
		return token, 0, false
	}
	for i := from; i < len(s); i++ {
		if !a.first[s[i]] {
			continue
		}
		for _, n := range a.lengths {
			if n > len(s)-i {
				continue
			}
			if token, found = a.tokens[s[i:i+n]]; found {
				return token, i, true
			}
		}
	}
	return token, 0, false
}

// cut finds the next token of s that counts. It begins to look at scan; what lies before
// done belongs to earlier tokens. The text before the token is s[done:start], the text
// after it begins at stop, and the next search at rescan.
func (a *added) cut(s string, done, scan int) (token addedToken, start, stop, rescan int, found bool) {
	for {
		token, start, found = a.next(s, scan)
		if !found {
			return token, len(s), len(s), len(s), false
		}
		stop = start + len(token.content)
		scan = stop
		if token.singleWord && (endsWithWord(s[:start]) || startsWithWord(s[stop:])) {
			continue
		}
		if token.lstrip {
			start = max(done, len(strings.TrimRightFunc(s[:start], isWhite)))
		}
		if token.rstrip {
			stop = len(s) - len(strings.TrimLeftFunc(s[stop:], isWhite))
		}
		return token, max(start, done), stop, scan, true
	}
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
