package text

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const sample = "../testdata/corpora"

// sentencesOf reads a file and marks the first sentence of each document with "# ".
func sentencesOf(t testing.TB, path string) ([]string, CorpusFile) {
	t.Helper()
	var got []string
	c, err := ReadCorpusFile(path, func(s string, first bool) error {
		if first {
			s = "# " + s
		}
		got = append(got, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, c
}

func TestSplitSentences(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"  \t ", nil},
		{"One. Two! Three? four", []string{"One.", "Two!", "Three? four"}},
		{"It rained... Then it stopped… All was well", []string{"It rained...", "Then it stopped…", "All was well"}},
		{"Mr. Knightley and Mrs. Weston met Dr. J. K. Perry of the U.S. Navy. They spoke.",
			[]string{"Mr. Knightley and Mrs. Weston met Dr. J. K. Perry of the U.S. Navy.", "They spoke."}},
		{"So said I. He did not.", []string{"So said I.", "He did not."}},
		{`"Oh!" he said. "Do come (soon.)" "Yes," she said.`, []string{`"Oh!" he said.`, `"Do come (soon.)"`, `"Yes," she said.`}},
		{"“Why?” Ahab asked. ‘No reason.’ — “Go.”", []string{"“Why?”", "Ahab asked.", "‘No reason.’", "— “Go.”"}},
		{"Version 1.5 and e.g. this. 1851 was the year.", []string{"Version 1.5 and e.g. this.", "1851 was the year."}},
		{"The end . \" Next one \" . Élan", []string{"The end .", "\" Next one \" .", "Élan"}},
		{"No space.Here either.\nA new line", []string{"No space.Here either.", "A new line"}},
	} {
		var got []string
		if err := splitSentences(c.text, func(s string) error { got = append(got, s); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q:\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

func TestSplitLongSentences(t *testing.T) {
	for _, c := range []struct{ name, text, suffix string }{
		{"clauses", strings.Repeat("so it went on and on, ", 60), ","},
		{"words", strings.Repeat("and on ", 200), "n"},
		{"one word", strings.Repeat("é", 2000), "é"},
		{"stops", strings.Repeat(".", 1<<20), "."},
		{"invalid", strings.Repeat("\x80", 3000), "\x80"},
	} {
		joined := ""
		var b strings.Builder
		n := 0
		if err := splitSentences(c.text, func(s string) error {
			n++
			if len(s) > sentenceBytes || s == "" {
				t.Fatalf("%s: a sentence of %d bytes", c.name, len(s))
			}
			if len(b.String())+len(s) < len(c.text)-1000 && !strings.HasSuffix(s, c.suffix) {
				t.Fatalf("%s: a sentence ends in %q", c.name, s[len(s)-5:])
			}
			b.WriteString(s)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		joined = strings.ReplaceAll(b.String(), " ", "")
		if joined != strings.ReplaceAll(c.text, " ", "") || n < len(c.text)/(sentenceBytes+1) {
			t.Errorf("%s: text was lost", c.name)
		}
		if c.name == "one word" && !utf8.ValidString(joined) {
			t.Error("a character was cut")
		}
	}
}

func TestHardWrapped(t *testing.T) {
	prose, err := os.ReadFile(filepath.Join(sample, "persuasion.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var sentences strings.Builder
	read, _ := sentencesOf(t, filepath.Join(sample, "persuasion.txt"))
	for _, s := range read {
		sentences.WriteString(s + "\n")
	}
	list := strings.Repeat("apples\npears and plums\nfigs\n", 20)
	even := strings.Repeat("This sentence has just about the width of all the others.\n", 20)
	for _, c := range []struct {
		name, text string
		want       bool
	}{
		{"novel", string(prose), true},
		{"novel with CRLF", strings.ReplaceAll(string(prose), "\n", "\r\n"), true},
		{"a sentence a line", sentences.String(), false},
		{"list", list, false},
		{"even sentences", even, false},
		{"four lines", "a b\nc d\ne f\ng h\n", false},
		{"one line", strings.Repeat("word ", 5000), false},
		{"empty", "", false},
	} {
		if got := hardWrapped([]byte(c.text)); got != c.want {
			t.Errorf("%s: wrapped is %v", c.name, got)
		}
	}
}

func TestReadSample(t *testing.T) {
	for _, c := range []struct {
		file      string
		wrapped   bool
		documents int
		want      []string
	}{
		{"persuasion.txt", true, 5, []string{
			"# Persuasion",
			"# Chapter 1",
			"This was the page at which the favourite volume always opened:",
			"He had been remarkably handsome in his youth; and, at fifty-four, was still a very fine man.",
		}},
		{"moby-dick.txt", true, 6, []string{
			"# CHAPTER 1.",
			"Call me Ishmael.",
			"Some years ago—never mind how long precisely—having little or no money in my purse, and nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of the world.",
		}},
		{"sotu/1973_richard_nixon_r.txt", false, 1, nil},
	} {
		path := filepath.Join(sample, c.file)
		got, file := sentencesOf(t, path)
		if file.Wrapped != c.wrapped || file.Documents != c.documents || file.Sentences != len(got) || len(file.Notes) > 0 || len(file.Hash) != 64 {
			t.Errorf("%+v", file)
		}
		for _, s := range c.want {
			if !slices.Contains(got, s) {
				t.Errorf("%s: no sentence %q", c.file, s)
			}
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if file.Bytes != int64(len(content)) {
			t.Errorf("%s: %d of %d bytes", c.file, file.Bytes, len(content))
		}
		// Nothing is lost, nothing joined across a paragraph, and half of the sentences of a
		// novel go over lines.
		if a, b := letters(strings.Join(got, "")), letters(string(content)); len(a) != len(b)+2*c.documents {
			t.Errorf("%s: %d bytes that are not space, of %d", c.file, len(a), len(b))
		}
		over := 0
		for _, s := range got {
			if strings.ContainsAny(s, "\n\r") {
				t.Fatalf("%q has a line's end", s)
			}
			if !strings.Contains(string(content), s) {
				over++
			}
		}
		if c.wrapped && over < len(got)/3 {
			t.Errorf("%s: %d of %d sentences go over lines", c.file, over, len(got))
		}
	}
}

// letters drops white space, but for what sentencesOf writes.
func letters(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(strings.ReplaceAll(s, "# ", "##")), ""), " ", "")
}

func TestReadCorpusFile(t *testing.T) {
	wiki := " \n = Lobster = \n \n Lobsters live in the sea . They are blue . \n Cooked ones are red . \n \n = = Diet = = \n \n They eat . \n \n = Crab = \n \n Crabs differ . \n"
	chapters := "A NOVEL\n\nCHAPTER I\n\nCHAPTER II\n\nIt began.\n\nChapter 3: Storm\n\nIt blew.\nchapter 4 was not reached.\n\nCHAPTER ONE\n\nCHAPTERS 1 and 2\n"
	wrapped := "The first paragraph has lines of a certain width, and as they are\nbroken where the next word would not fit, a computer can tell that\nthey are wrapped. Here comes the second sentence, with a good-\nnatured hyphen--and a dash that is not one at the end of a line--\nit ends here. And the third one ends with the paragraph, as it must.\nThe last line is short.\n\nAnother paragraph.\n"
	want := []string{
		"# The first paragraph has lines of a certain width, and as they are broken where the next word would not fit, a computer can tell that they are wrapped.",
		"Here comes the second sentence, with a good-natured hyphen--and a dash that is not one at the end of a line-- it ends here.",
		"And the third one ends with the paragraph, as it must.", "The last line is short.", "Another paragraph.",
	}
	lobster := []string{"# Lobster", "Lobsters live in the sea .", "They are blue .", "Cooked ones are red .", "Diet", "They eat .", "# Crab", "Crabs differ ."}
	novel := []string{"# A NOVEL", "# CHAPTER I", "CHAPTER II", "It began.", "# Chapter 3: Storm", "It blew.", "chapter 4 was not reached.", "CHAPTER ONE", "CHAPTERS 1 and 2"}
	for _, c := range []struct {
		name, content string
		want          []string
		notes         int
	}{
		{"articles", wiki, lobster, 0},
		{"chapters", chapters, novel, 0},
		{"wrapped", wrapped, want, 0},
		{"CRLF", strings.ReplaceAll(wrapped, "\n", "\r\n"), want, 0},
		{"BOM", bom + wrapped, want, 0},
		{"no final newline", strings.TrimRight(wrapped, "\n"), want, 0},
		{"NUL", "One\x00 thing. \x00 \x00\n\x00\nAnother.\n", []string{"# One thing.", "Another."}, 0},
		{"not UTF-8", "Caf\xe9 au lait. Th\xff\xfee.\n\nGood.\n", []string{"# Caf\ufffd au lait.", "Th\ufffde.", "Good."}, 1},
		{"a line a paragraph", "first line\nsecond line\n", []string{"# first line", "second line"}, 0},
		{"only equals", "= =\n\n= = =\n", []string{"# = =", "= = ="}, 0},
		{"empty", "", nil, 1},
		{"BOM alone", bom, nil, 1},
		{"blank", " \n\t\r\n\x00", nil, 1},
	} {
		got, file := sentencesOf(t, write(t, "a.txt", c.content))
		if !slices.Equal(got, c.want) || len(file.Notes) != c.notes {
			t.Errorf("%s: notes %q\n got %q\nwant %q", c.name, file.Notes, got, c.want)
		}
	}
}

func TestReadLongLines(t *testing.T) {
	// A capital every so often keeps sentences apart; the second text has no space at all.
	line := strings.Repeat("It was a line without an end, so it seemed to all who read. ", 60000)
	for _, content := range []string{line, strings.ReplaceAll(line, " ", ""), strings.Repeat("é", 2<<20), strings.Repeat(" ", 3<<20) + "x", "x\n" + strings.Repeat("y", 3<<20)} {
		total := 0
		file, err := ReadCorpusFile(write(t, "long.txt", content), func(s string, first bool) error {
			if len(s) > sentenceBytes || !utf8.ValidString(s) {
				t.Fatalf("%d bytes: %.20q", len(s), s)
			}
			total += len(strings.ReplaceAll(s, " ", ""))
			return nil
		})
		if err != nil || file.Documents != 1 || len(file.Notes) > 0 {
			t.Errorf("%+v %v", file, err)
		}
		if want := len(strings.Join(strings.Fields(content), "")); total != want {
			t.Errorf("%d of %d bytes", total, want)
		}
	}
}

// FuzzCorpusReader: whatever the bytes, sentences are clean and short, and together they
// have the characters of the text.
func FuzzCorpusReader(f *testing.F) {
	f.Add([]byte("One. Two.\r\n\r\n= T =\n\nChapter 1\n\nThree\xff\x00 four."), uint8(0))
	f.Add([]byte(strings.Repeat("a line of words that is long enough to wrap\n", 9)), uint8(40))
	f.Add([]byte("\xef\xbb\xbf\xc3\xa9\xe2\x80\xa6 \xf0\x9f\x90\x8b. "+strings.Repeat("\xe2\x80", 99)), uint8(3))
	f.Add([]byte(strings.Repeat("....?!\"  ", 300)), uint8(200))
	f.Fuzz(func(t *testing.T, content []byte, limit uint8) {
		var got strings.Builder
		documents := 0
		visit := func(s string, first bool) error {
			switch {
			case s == "" || strings.TrimSpace(s) != s:
				t.Fatalf("%q is not trimmed", s)
			case len(s) > sentenceBytes:
				t.Fatalf("a sentence of %d bytes", len(s))
			case !utf8.ValidString(s) || strings.ContainsAny(s, "\n\x00"):
				t.Fatalf("%q is not clean", s)
			case first:
				documents++
			}
			got.WriteString(s)
			return nil
		}
		b := blockReader{limit: 64 + int(limit), r: bufio.NewReaderSize(strings.NewReader(string(content)), 16+int(limit))}
		var c outline
		var text blockText
		err := b.begin()
		for err == nil {
			var x block
			if x, err = b.next(); err != nil {
				break
			}
			err = text.paragraphs(x, b.wrapped, func(p string, kind headingKind) error {
				c.paragraph(kind)
				return splitSentences(p, func(sentence string) error { return visit(sentence, c.sentence(kind)) })
			})
		}
		if err != io.EOF {
			if strings.HasPrefix(string(content), "\xff\xfe") || strings.HasPrefix(string(content), "\xfe\xff") {
				return
			}
			t.Fatal(err)
		}
		if documents != c.documents || documents > c.sentences || (documents == 0) != (got.Len() == 0) {
			t.Fatalf("%d documents, %d sentences", c.documents, c.sentences)
		}
		keep := func(r rune) rune {
			if unicode.IsSpace(r) || r == utf8.RuneError || r == 0 || r == '=' {
				return -1
			}
			return r
		}
		if a, b := strings.Map(keep, got.String()), strings.Map(keep, strings.TrimPrefix(string(content), bom)); a != b {
			t.Fatalf("%q became %q", b, a)
		}
	})
}
