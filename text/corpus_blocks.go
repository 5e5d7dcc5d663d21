package text

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"sift/fault"
)

// block is a run of lines that are not blank.
type block struct {
	text []byte
	cut  bool // it is the end of a run that was cut
}

// blockReader cuts text into blocks.
type blockReader struct {
	r       *bufio.Reader
	limit   int // corpusBlock, or less in tests
	wrapped bool

	buf    []byte
	taken  int  // of buf, by the block given last
	cut    bool // the rest of buf is the end of a block
	within bool // the line that is read has begun
	ended  bool
}

// begin looks at what r's buffer holds, the sample.
func (b *blockReader) begin() error {
	sample, err := b.r.Peek(b.r.Size())
	if err != nil && err != io.EOF {
		return fault.New(fault.IO, "%v", cause(err))
	}
	if bytes.HasPrefix(sample, []byte("\xff\xfe")) || bytes.HasPrefix(sample, []byte("\xfe\xff")) {
		return fault.New(fault.Data, "is UTF-16; write it as UTF-8")
	}
	if looksBinary(sample) {
		return fault.New(fault.Data, "does not look like text: more than 1 in 100 of its first bytes are control characters")
	}
	if bytes.HasPrefix(sample, []byte(bom)) {
		sample = sample[len(bom):]
		if _, err := b.r.Discard(len(bom)); err != nil {
			return fault.New(fault.IO, "%v", cause(err))
		}
	}
	b.wrapped = hardWrapped(sample)
	return nil
}

// looksBinary reports whether a file's first 64 KiB hold more control characters, white space
// apart, than text with a slip here and there does: 16, and one byte in a hundred.
func looksBinary(sample []byte) bool {
	sample = sample[:min(len(sample), 64<<10)]
	n := 0
	for _, b := range sample {
		if b < ' ' && (b < '\t' || b > '\r') || b == 0x7f {
			n++
		}
	}
	return n > 16 && n*100 > len(sample)
}

// next returns the next block, which is valid until the next call, or io.EOF.
func (b *blockReader) next() (block, error) {
	b.buf = append(b.buf[:0], b.buf[b.taken:]...)
	b.taken = 0
	for {
		if len(b.buf) >= b.limit {
			return b.take(cutBlock(b.buf), true), nil
		}
		if b.ended {
			if len(b.buf) == 0 {
				return block{}, io.EOF
			}
			return b.take(len(b.buf), false), nil
		}
		piece, err := b.r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return block{}, fault.New(fault.IO, "%v", cause(err))
		}
		if !b.within && err == nil && len(bytes.TrimSpace(piece)) == 0 {
			if len(b.buf) > 0 {
				return b.take(len(b.buf), false), nil
			}
			b.cut = false
			continue
		}
		b.buf = append(b.buf, piece...)
		b.ended = err == io.EOF
		b.within = err == bufio.ErrBufferFull
	}
}

// take gives the first n bytes as a block; cut says that its end will follow.
func (b *blockReader) take(n int, cut bool) block {
	x := block{b.buf[:n], b.cut}
	b.taken, b.cut = n, cut
	return x
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

// blockText makes paragraphs of blocks.
type blockText struct {
	lines   []string
	invalid int // blocks that were not UTF-8
}

// paragraphs calls visit with each paragraph of a block, and stops at its first error.
func (x *blockText) paragraphs(b block, wrapped bool, visit func(p string, kind headingKind) error) error {
	s := string(b.text)
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
		x.invalid++
	}
	s = strings.ReplaceAll(s, "\x00", "")
	x.lines = x.lines[:0]
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			x.lines = append(x.lines, line)
		}
	}
	switch {
	case len(x.lines) == 0:
		return nil
	case len(x.lines) == 1 && !b.cut:
		return visit(parseHeading(x.lines[0]))
	case wrapped:
		return visit(joinLines(x.lines), noHeading)
	}
	for _, line := range x.lines {
		if err := visit(line, noHeading); err != nil {
			return err
		}
	}
	return nil
}

// headingKind says whether a paragraph is a heading.
type headingKind uint8

const (
	noHeading headingKind = iota
	isHeading
	beginsDocument // a heading of the kind that begins a document
)

// parseHeading returns a line without the equals signs of a heading, and what it is.
func parseHeading(line string) (title string, kind headingKind) {
	inner, left := strings.CutPrefix(line, "= ")
	inner, right := strings.CutSuffix(inner, " =")
	if left && right && strings.Trim(inner, "= ") != "" {
		if strings.HasPrefix(inner, "=") || strings.HasSuffix(inner, "=") {
			return strings.Trim(inner, "= "), isHeading
		}
		return strings.Trim(inner, "= "), beginsDocument
	}
	word, rest, _ := strings.Cut(line, " ")
	number, _, _ := strings.Cut(rest, " ")
	number = strings.TrimRight(number, ".:")
	if strings.EqualFold(word, "chapter") && number != "" && len(line) <= 200 &&
		(strings.Trim(number, "0123456789") == "" || strings.Trim(strings.ToUpper(number), "IVXLC") == "") {
		return line, beginsDocument
	}
	return line, noHeading
}
