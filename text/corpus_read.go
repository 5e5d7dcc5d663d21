package text

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"

	"sift/fault"
)

// CorpusFile says what was found in a file of running text.
type CorpusFile struct {
	Path      string   `json:"path"`
	Bytes     int64    `json:"bytes"`
	Hash      string   `json:"sha256"` // of the bytes, in hex
	Documents int      `json:"documents"`
	Sentences int      `json:"sentences"`
	Wrapped   bool     `json:"wrapped,omitempty"` // lines were joined
	Notes     []string `json:"notes,omitempty"`   // "FILE: ...", what was assumed or mended, for the user to see
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
	f, err := openCorpusFile(path, bufio.NewReaderSize(nil, corpusBlock))
	if err != nil {
		return CorpusFile{Path: path}, err
	}
	defer f.close()
	var x outline
	var text blockText
	for {
		block, err := f.blocks.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return CorpusFile{Path: path}, fault.In(path, err)
		}
		err = text.paragraphs(block, f.blocks.wrapped, func(p string, kind headingKind) error {
			x.paragraph(kind)
			return splitSentences(p, func(sentence string) error { return visit(sentence, x.sentence(kind)) })
		})
		if err != nil {
			return CorpusFile{Path: path}, fault.In(path, err)
		}
	}
	return f.found(&x, text.invalid), nil
}

// openFile is a file of running text that is read.
type openFile struct {
	path   string
	f      *os.File
	sum    hash.Hash
	count  counter
	blocks blockReader
}

// openCorpusFile opens a file; r, whose buffer holds the sample, is reset to read it.
func openCorpusFile(path string, r *bufio.Reader) (*openFile, error) {
	f, err := openText(path)
	if err != nil {
		return nil, err
	}
	o := &openFile{path: path, f: f, sum: sha256.New()}
	o.count.r = io.TeeReader(f, o.sum)
	r.Reset(&o.count)
	o.blocks = blockReader{r: r, limit: corpusBlock}
	if err := o.blocks.begin(); err != nil {
		f.Close()
		return nil, fault.In(path, err)
	}
	return o, nil
}

func (o *openFile) close() { o.f.Close() }

// found says what was in the file, once it is read.
func (o *openFile) found(x *outline, invalid int) CorpusFile {
	c := CorpusFile{
		Path: o.path, Bytes: o.count.n, Hash: hex.EncodeToString(o.sum.Sum(nil)),
		Documents: x.documents, Sentences: x.sentences, Wrapped: o.blocks.wrapped,
	}
	if x.sentences == 0 {
		c.Notes = append(c.Notes, o.path+": holds no text")
	}
	if invalid > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%s: %s with bytes that are not UTF-8, read as U+FFFD", o.path, plural(invalid, "paragraph")))
	}
	return c
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

// outline follows where documents begin.
type outline struct {
	begun                bool // the document has a sentence
	body                 bool // the document has a sentence outside headings
	documents, sentences int
}

// paragraph comes before the sentences of a paragraph.
func (x *outline) paragraph(kind headingKind) {
	if kind == beginsDocument && x.body {
		x.begun, x.body = false, false
	}
}

// sentence counts a sentence of such a paragraph and says whether it is a document's first.
func (x *outline) sentence(kind headingKind) (first bool) {
	first = !x.begun
	if first {
		x.documents++
	}
	x.sentences++
	x.begun = true
	x.body = x.body || kind == noHeading
	return first
}
