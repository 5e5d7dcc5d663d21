package text

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hardWrapped reports whether the lines of a text were broken to fit a width, so that a
// line's end means no more than a space. What counts are inner lines: those with another
// line of the same paragraph after them. The text is wrapped if
//
//   - there are at least 5 inner lines, and W, the width in characters that all but 2% of
//     them keep within, is from 30 to 160;
//   - at least 70% of them are full: the next line's first word would have gone beyond
//     0.9 W;
//   - at most half of them end in . ! or ?, which tells prose from a sentence a line.
//
// An unfinished last line does not count.
func hardWrapped(sample []byte) bool {
	var widths, needed []int // of inner lines: as they are, and with the next word
	ended := 0
	last := 0 // width of the line before, 0 if blank
	stops := false
	for len(sample) > 0 {
		end := bytes.IndexByte(sample, '\n')
		if end < 0 {
			break
		}
		line := bytes.TrimRightFunc(sample[:end], unicode.IsSpace)
		sample = sample[end+1:]
		content := bytes.TrimLeftFunc(line, unicode.IsSpace)
		if last > 0 && len(content) > 0 {
			word := content
			if i := bytes.IndexFunc(content, unicode.IsSpace); i >= 0 {
				word = content[:i]
			}
			widths = append(widths, last)
			needed = append(needed, last+1+utf8.RuneCount(word))
			if stops {
				ended++
			}
		}
		last = 0
		if len(content) > 0 {
			last = utf8.RuneCount(line)
			stops = bytes.ContainsAny(line[len(line)-1:], ".!?")
		}
	}
	n := len(widths)
	if n < 5 {
		return false
	}
	slices.Sort(widths)
	width := widths[(n-1)*98/100]
	if width < 30 || width > 160 || 2*ended > n {
		return false
	}
	full := 0
	for _, w := range needed {
		if 10*w > 9*width {
			full++
		}
	}
	return 10*full >= 7*n
}

// joinLines makes one line of those of a hard-wrapped paragraph, which are trimmed. A
// word broken at its hyphen stays one: no space comes between a letter with a hyphen and a small
// letter.
func joinLines(lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		if i > 0 && !brokenWord(lines[i-1], line) {
			b.WriteByte(' ')
		}
		b.WriteString(line)
	}
	return b.String()
}

func brokenWord(line, next string) bool {
	stem, ok := strings.CutSuffix(line, "-")
	if !ok {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(stem)
	after, _ := utf8.DecodeRuneInString(next)
	return unicode.IsLetter(before) && unicode.IsLower(after)
}
