package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// sentenceBytes is the length beyond which a sentence is cut, so that one without an end
// does not lose all but its first tokens to truncation.
const sentenceBytes = 512

// abbreviations end in a full stop that seldom ends a sentence. Those that often do (etc.,
// Inc., a year's A.D.) are not here.
var abbreviations = map[string]bool{
	"Mr": true, "Mrs": true, "Ms": true, "Messrs": true, "Mme": true, "Mlle": true, "Dr": true,
	"Prof": true, "Rev": true, "Hon": true, "St": true, "Ste": true, "Mt": true, "Ft": true,
	"Capt": true, "Col": true, "Gen": true, "Lt": true, "Lieut": true, "Maj": true, "Sgt": true,
	"Adm": true, "Gov": true, "Sen": true, "Rep": true, "Pres": true, "Jr": true, "Sr": true, "Esq": true,
	"vs": true, "cf": true, "viz": true, "No": true, "Nos": true, "Vol": true, "vol": true,
	"Fig": true, "fig": true, "pp": true, "Jan": true, "Feb": true, "Aug": true, "Sept": true,
	"Oct": true, "Nov": true, "Dec": true,
}

// splitSentences calls visit with each sentence of a paragraph, trimmed and never empty,
// and stops at its first error.
//
// A sentence ends after . ! ? or an ellipsis and the quotation marks and brackets that
// close after it, if white space and then a capital letter or a digit follow, perhaps behind
// opening marks. The full stop of an abbreviation, of an initial (J. K.; but not I.) and of letters
// with stops between them (U.S.) does not end it. One of more than sentenceBytes is cut after the
// last , ; or : that leaves at least half of them, else at white space, else anywhere
// between characters.
func splitSentences(paragraph string, visit func(sentence string) error) error {
	for {
		paragraph = strings.TrimSpace(paragraph)
		if paragraph == "" {
			return nil
		}
		end := sentenceEnd(paragraph)
		if end > sentenceBytes {
			end = cutSentence(paragraph)
		}
		if err := visit(strings.TrimRightFunc(paragraph[:end], unicode.IsSpace)); err != nil {
			return err
		}
		paragraph = paragraph[end:]
	}
}

// sentenceEnd returns the end of the first sentence of s. It looks little further than
// sentenceBytes.
func sentenceEnd(s string) int {
	for i := 0; i < len(s); {
		if i > sentenceBytes {
			return i
		}
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if !endsSentence(r) {
			i += size
			continue
		}
		stop := i
		i += size
		for i < len(s) && i <= sentenceBytes {
			if r, size = utf8.DecodeRuneInString(s[i:]); !endsSentence(r) && !closes(r) {
				break
			}
			i += size
		}
		if i == len(s) {
			break
		}
		rest := strings.TrimLeftFunc(s[i:], unicode.IsSpace)
		if len(rest) == len(s)-i || !beginsSentence(rest) {
			continue
		}
		if i == stop+1 && s[stop] == '.' && abbreviated(s[:stop]) {
			continue
		}
		return i
	}
	return len(s)
}

func endsSentence(r rune) bool { return r == '.' || r == '!' || r == '?' || r == '…' }

func closes(r rune) bool { return strings.ContainsRune(`"')]}_*”’»`, r) }

// beginsSentence reports whether s begins with a capital or a digit, perhaps behind
// opening marks and, as in text that is already tokenised, spaces.
func beginsSentence(s string) bool {
	for i, r := range s {
		switch {
		case strings.ContainsRune(`"'([{_*“‘«¿¡-–— `, r) && i < 16:
		default:
			return unicode.IsUpper(r) || unicode.IsTitle(r) || unicode.IsDigit(r)
		}
	}
	return false
}

// abbreviated reports whether a full stop after s belongs to an abbreviation.
func abbreviated(s string) bool {
	start := len(s)
	for start > 0 {
		r, size := utf8.DecodeLastRuneInString(s[:start])
		if !unicode.IsLetter(r) && r != '.' {
			break
		}
		start -= size
	}
	word := s[start:]
	if strings.Contains(word, ".") || abbreviations[word] {
		return true
	}
	r, size := utf8.DecodeRuneInString(word)
	return size == len(word) && unicode.IsUpper(r) && r != 'I'
}

// cutSentence returns where to cut a sentence of more than sentenceBytes.
func cutSentence(s string) int {
	space := -1
	for i := sentenceBytes - 1; i >= sentenceBytes/2; i-- {
		if s[i] != ' ' {
			continue
		}
		if space < 0 {
			space = i
		}
		if c := s[i-1]; c == ',' || c == ';' || c == ':' {
			return i
		}
	}
	if space >= 0 {
		return space
	}
	end := sentenceBytes
	for end > sentenceBytes-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return end
}
