package text

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"sift/fault"
)

// CorpusFile says what was found in a file of running text.
type CorpusFile struct {
	Path      string
	Bytes     int64
	Hash      string // SHA-256 of the bytes, in hex
	Documents int
	Sentences int
	Wrapped   bool     // lines were joined
	Notes     []string // "FILE: ...", what was assumed or mended, for the user to see
}

// corpusBlock bounds the text held in memory: the sample that shows whether lines are
// wrapped, and the longest block, a run of lines that are not blank.
const corpusBlock = 1 << 20

// ReadCorpusFile reads a file of running text and calls visit with each sentence, in
// order; first says that it is the first of a document. An error of visit ends the
// reading and is returned.
//
// Documents: a file is one, except that a heading begins another if sentences other than
// headings came before it. A heading is a line between blank lines that reads
// "= Title =", as in WikiText, or begins with the word Chapter and a number, arabic or
// Roman. Equals signs around WikiText's headings of any level are dropped.
//
// Paragraphs end at blank lines. Within one, lines are joined if the file is hard-wrapped
// (see hardWrapped; the first MiB decides), else each line is a paragraph. No sentence
// reaches beyond a paragraph; for sentences see splitSentences.
//
// Bytes that are not UTF-8 become U+FFFD, NUL is dropped, lines end in LF or CRLF, a byte
// order mark is ignored, and a line may have any length: a block of more than a MiB is cut
// at a line's end or white space. Memory does not grow with the file.
func ReadCorpusFile(path string, visit func(sentence string, first bool) error) (CorpusFile, error) {
	c := CorpusFile{Path: path}
	f, err := openText(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	sum := sha256.New()
	counted := &counter{r: io.TeeReader(f, sum)}
	r := corpusReader{visit: visit, limit: corpusBlock}
	size := corpusBlock
	if info, err := f.Stat(); err == nil {
		size = int(min(int64(size), info.Size()+1))
	}
	err = r.read(bufio.NewReaderSize(counted, size))
	if e := (readError{}); errors.As(err, &e) {
		return c, fault.New(fault.IO, "%s: %v", path, cause(e.error))
	} else if err != nil {
		return c, fault.In(path, err)
	}
	c.Bytes, c.Hash = counted.n, hex.EncodeToString(sum.Sum(nil))
	c.Documents, c.Sentences, c.Wrapped = r.documents, r.sentences, r.wrapped
	if r.sentences == 0 {
		c.Notes = append(c.Notes, path+": holds no text")
	}
	if r.invalid > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%s: %s with bytes that are not UTF-8, read as U+FFFD", path, plural(r.invalid, "paragraph")))
	}
	return c, nil
}

// counter counts the bytes read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// readError marks an error as one of reading.
type readError struct{ error }

// corpusReader reads one file.
type corpusReader struct {
	visit func(sentence string, first bool) error
	limit int // corpusBlock, or less in tests

	wrapped bool
	block   []byte   // lines that are not blank, or the end of a block that was cut
	cut     bool     // block is such an end
	lines   []string // of block, trimmed

	begun                         bool // the document has a sentence
	body                          bool // the document has a sentence outside headings
	documents, sentences, invalid int
}

// read reads everything. What r's buffer holds is the sample.
func (c *corpusReader) read(r *bufio.Reader) error {
	sample, err := r.Peek(r.Size())
	if err != nil && err != io.EOF {
		return readError{err}
	}
	if bytes.HasPrefix(sample, []byte("\xff\xfe")) || bytes.HasPrefix(sample, []byte("\xfe\xff")) {
		return fault.New(fault.Data, "is UTF-16; write it as UTF-8")
	}
	if bytes.HasPrefix(sample, []byte(bom)) {
		sample = sample[len(bom):]
		if _, err := r.Discard(len(bom)); err != nil {
			return readError{err}
		}
	}
	c.wrapped = hardWrapped(sample)

	for atStart := true; ; {
		piece, err := r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return readError{err}
		}
		if atStart && err == nil && len(bytes.TrimSpace(piece)) == 0 {
			if err := c.flush(len(c.block)); err != nil {
				return err
			}
			c.cut = false
			continue
		}
		c.block = append(c.block, piece...)
		for len(c.block) >= c.limit {
			if err := c.flush(cutBlock(c.block)); err != nil {
				return err
			}
			c.cut = true
		}
		if err == io.EOF {
			return c.flush(len(c.block))
		}
		atStart = err == nil
	}
}

// cutBlock returns where to cut a block that is too long: after its last line that is
// whole, else after white space, else between characters.
func cutBlock(block []byte) int {
	if i := bytes.LastIndexByte(block, '\n'); i >= 0 {
		return i + 1
	}
	if i := bytes.LastIndexAny(block, " \t"); i >= 0 {
		return i + 1
	}
	for i := len(block) - 1; i > 0 && i >= len(block)-utf8.UTFMax; i-- {
		if utf8.RuneStart(block[i]) {
			return i
		}
	}
	return len(block)
}

// flush visits the first n bytes of the block and removes them.
func (c *corpusReader) flush(n int) error {
	s := string(c.block[:n])
	c.block = append(c.block[:0], c.block[n:]...)
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
		c.invalid++
	}
	s = strings.ReplaceAll(s, "\x00", "")
	c.lines = c.lines[:0]
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			c.lines = append(c.lines, line)
		}
	}
	switch {
	case len(c.lines) == 0:
		return nil
	case len(c.lines) == 1 && !c.cut:
		title, heading, begins := parseHeading(c.lines[0])
		if begins && c.body {
			c.begun, c.body = false, false
		}
		return c.paragraph(title, heading)
	case c.wrapped:
		return c.paragraph(joinLines(c.lines), false)
	}
	for _, line := range c.lines {
		if err := c.paragraph(line, false); err != nil {
			return err
		}
	}
	return nil
}

// paragraph visits the sentences of a paragraph.
func (c *corpusReader) paragraph(p string, heading bool) error {
	return splitSentences(p, func(sentence string) error {
		first := !c.begun
		if first {
			c.documents++
		}
		c.sentences++
		c.begun = true
		c.body = c.body || !heading
		return c.visit(sentence, first)
	})
}

// parseHeading returns a line without the equals signs of a heading, whether it is a
// heading, and whether of the kind that begins a document.
func parseHeading(line string) (title string, heading, begins bool) {
	inner, left := strings.CutPrefix(line, "= ")
	inner, right := strings.CutSuffix(inner, " =")
	if left && right && strings.Trim(inner, "= ") != "" {
		level1 := !strings.HasPrefix(inner, "=") && !strings.HasSuffix(inner, "=")
		return strings.Trim(inner, "= "), true, level1
	}
	word, rest, _ := strings.Cut(line, " ")
	number, _, _ := strings.Cut(rest, " ")
	number = strings.TrimRight(number, ".:")
	if strings.EqualFold(word, "chapter") && number != "" && len(line) <= 200 &&
		(strings.Trim(number, "0123456789") == "" || strings.Trim(strings.ToUpper(number), "IVXLC") == "") {
		return line, true, true
	}
	return line, false, false
}
