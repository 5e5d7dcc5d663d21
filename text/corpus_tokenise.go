package text

import (
	"bufio"
	"context"
	"io"
	"sync"

	"sift/fault"
)

// batchBytes is about how much text is tokenised at a time: enough to make handing it over
// cheap, little enough that a dozen batches take no memory to speak of.
const batchBytes = 1 << 18

// batch is a run of blocks of one file, and what they come to.
type batch struct {
	text   []byte
	blocks []batchBlock
	file   *openFile
	read   int64 // bytes of the file so far
	last   bool  // the file ends with it
	err    error
	done   chan struct{} // one value when tokenised

	paragraphs []batchParagraph
	ends       []int // of each sentence, in ids
	ids        []int32
	invalid    int // blocks that were not UTF-8
}

// batchBlock ends at end in the batch's text.
type batchBlock struct {
	end int
	cut bool
}

// batchParagraph ends before sentence end of the batch.
type batchParagraph struct {
	end  int
	kind headingKind
}

// batchReader reads files one after another, in batches.
type batchReader struct {
	ctx    context.Context
	files  []string // still to be read
	file   *openFile
	buffer *bufio.Reader
}

// next fills b with the next batch; io.EOF comes after the last.
func (r *batchReader) next(b *batch) error {
	b.text, b.blocks, b.last = b.text[:0], b.blocks[:0], false
	if r.ctx.Err() != nil {
		return interrupted()
	}
	if r.file == nil {
		if len(r.files) == 0 {
			return io.EOF
		}
		var err error
		if r.file, err = openCorpusFile(r.files[0], r.buffer); err != nil {
			return err
		}
		r.files = r.files[1:]
	}
	b.file = r.file
	for len(b.text) < batchBytes {
		x, err := r.file.blocks.next()
		if err == io.EOF {
			b.last, b.read = true, r.file.count.n
			r.close()
			return nil
		} else if err != nil {
			return fault.In(r.file.path, err)
		}
		b.text = append(b.text, x.text...)
		b.blocks = append(b.blocks, batchBlock{len(b.text), x.cut})
	}
	b.read = r.file.count.n
	return nil
}

func (r *batchReader) close() {
	if r.file != nil {
		r.file.close()
		r.file = nil
	}
}

func interrupted() error { return fault.New(fault.Interrupted, "reading was interrupted") }

// tokenise fills in the second half of b.
func (t *Tokenizer) tokenise(b *batch, x *blockText) {
	b.paragraphs, b.ends, b.ids = b.paragraphs[:0], b.ends[:0], b.ids[:0]
	x.invalid = 0
	from := 0
	for _, bb := range b.blocks {
		// Neither function returns an error here.
		_ = x.paragraphs(block{b.text[from:bb.end], bb.cut}, b.file.blocks.wrapped, func(p string, kind headingKind) error {
			_ = splitSentences(p, func(sentence string) error {
				b.ids = t.AppendIDs(b.ids, sentence)
				b.ends = append(b.ends, len(b.ids))
				return nil
			})
			b.paragraphs = append(b.paragraphs, batchParagraph{len(b.ends), kind})
			return nil
		})
		from = bb.end
	}
	b.invalid = x.invalid
}

// collector takes batches in order and puts them together.
type collector struct {
	a        *assembly
	files    []CorpusFile
	x        outline // of the file that is open
	invalid  int
	read     int64 // bytes of the files before it
	progress func(bytes int64)
}

func (c *collector) take(b *batch) error {
	if err := c.assemble(b); fault.KindOf(err) == fault.Data {
		return fault.In(b.file.path, err)
	} else if err != nil {
		return err // of the sink, which names a file of its own
	}
	c.invalid += b.invalid
	if b.last {
		c.files = append(c.files, b.file.found(&c.x, c.invalid))
		c.x, c.invalid = outline{}, 0
		c.read += b.read
		b.read = 0
	}
	if c.progress != nil {
		c.progress(c.read + b.read)
	}
	return nil
}

func (c *collector) assemble(b *batch) error {
	sentence, from := 0, 0
	for _, p := range b.paragraphs {
		c.x.paragraph(p.kind)
		for ; sentence < p.end; sentence++ {
			if c.x.sentence(p.kind) {
				if err := c.a.endDocument(); err != nil {
					return err
				}
			}
			if err := c.a.sentence(b.ids[from:b.ends[sentence]]); err != nil {
				return err
			}
			from = b.ends[sentence]
		}
	}
	return nil
}

// tokeniseFiles reads files and gives the ids of their sentences to a, in order. On one
// thread it does so on the caller's goroutine; else one goroutine reads, threads of them
// tokenise, and the caller's assembles. What waits is bounded: memory does not grow with
// the files. progress, which may be nil, hears after every batch how many bytes were read.
func (t *Tokenizer) tokeniseFiles(ctx context.Context, files []string, threads int, a *assembly, progress func(bytes int64)) ([]CorpusFile, error) {
	r := batchReader{ctx: ctx, files: files, buffer: bufio.NewReaderSize(nil, corpusBlock)}
	c := collector{a: a, progress: progress}
	var err error
	if threads == 1 {
		err = t.collectAlone(&r, &c)
	} else {
		err = t.collect(&r, &c, threads)
	}
	r.close()
	if err != nil {
		return nil, err
	}
	return c.files, a.endDocument()
}

func (t *Tokenizer) collectAlone(r *batchReader, c *collector) error {
	var b batch
	var x blockText
	for {
		err := r.next(&b)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		t.tokenise(&b, &x)
		if err := c.take(&b); err != nil {
			return err
		}
	}
}

func (t *Tokenizer) collect(r *batchReader, c *collector, threads int) error {
	ctx, cancel := context.WithCancel(r.ctx)
	r.ctx = ctx
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	// Every channel has room for all batches, so that only free and order are waited for.
	n := 2*threads + 2
	free, work, order := make(chan *batch, n), make(chan *batch, n), make(chan *batch, n)
	for range n {
		free <- &batch{done: make(chan struct{}, 1)}
	}
	wg.Go(func() {
		defer close(order)
		defer close(work)
		for {
			var b *batch
			select {
			case b = <-free:
			case <-ctx.Done():
				return
			}
			if b.err = r.next(b); b.err != nil {
				order <- b
				return
			}
			work <- b
			order <- b
		}
	})
	for range threads {
		wg.Go(func() {
			var x blockText
			for b := range work {
				t.tokenise(b, &x)
				b.done <- struct{}{}
			}
		})
	}
	for b := range order {
		if b.err == io.EOF {
			return nil
		} else if b.err != nil {
			return b.err
		}
		<-b.done
		if err := c.take(b); err != nil {
			return err
		}
		free <- b
	}
	return interrupted()
}
