package text

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"

	"sift/backend/philox"
	"sift/fault"
)

// Corpus is running text as token ids: documents of sentences, without special tokens. It
// is immutable once read, and safe for concurrent use.
type Corpus struct {
	Files []CorpusFile // as read, of the whole corpus if this is a part
	Notes []string     // of all files

	ids       idStore
	starts    []uint32 // sentence s is ids starts[s] .. starts[s+1]-1, at least one
	documents []document
}

// document is a run of sentences, first .. end-1, at least one.
type document struct {
	first, end uint32
	key        uint64 // of its content
}

// idStore holds ids in 16 bits where the vocabulary allows it.
type idStore struct {
	narrow []uint16
	wide   []int32
	isWide bool
}

func (s *idStore) len() int { return len(s.narrow) + len(s.wide) }

func (s *idStore) add(ids []int32) {
	if s.isWide {
		s.wide = append(s.wide, ids...)
		return
	}
	for _, id := range ids {
		s.narrow = append(s.narrow, uint16(id))
	}
}

// appendTo appends ids lo .. hi-1 to dst.
func (s *idStore) appendTo(dst []int32, lo, hi uint32) []int32 {
	if s.isWide {
		return append(dst, s.wide[lo:hi]...)
	}
	for _, id := range s.narrow[lo:hi] {
		dst = append(dst, int32(id))
	}
	return dst
}

// ReadCorpus reads and tokenises the files that paths stand for; see FindCorpus and
// ReadCorpusFile. Sentences without a token and documents without a sentence are left
// out. A corpus may have 2^32 - 1 tokens at most, and takes 2 bytes a token (4 if the
// vocabulary has more than 65,536) and 4 a sentence. When ctx ends, so does the reading,
// with kind fault.Interrupted.
func (t *Tokenizer) ReadCorpus(ctx context.Context, paths ...string) (*Corpus, error) {
	files, err := FindCorpus(paths)
	if err != nil {
		return nil, err
	}
	c := t.newCorpus()
	var ids []int32
	for _, path := range files {
		file, err := ReadCorpusFile(path, func(sentence string, first bool) error {
			if ctx.Err() != nil {
				return fault.New(fault.Interrupted, "reading was interrupted")
			}
			if first {
				c.closeDocument()
			}
			ids = t.AppendIDs(ids[:0], sentence)
			return c.add(ids)
		})
		if err != nil {
			return nil, err
		}
		c.Files = append(c.Files, file)
		c.Notes = append(c.Notes, file.Notes...)
	}
	c.closeDocument()
	if len(c.documents) == 0 {
		return nil, fault.New(fault.Data, "%s: holds no text", strings.Join(paths, ", "))
	}
	return c, nil
}

func (t *Tokenizer) newCorpus() *Corpus {
	return &Corpus{ids: idStore{isWide: t.VocabSize() > math.MaxUint16+1}, starts: []uint32{0}}
}

// add appends a sentence to the document that is open.
func (c *Corpus) add(sentence []int32) error {
	if len(sentence) == 0 {
		return nil
	}
	if c.ids.len()+len(sentence) > math.MaxUint32 {
		return fault.New(fault.Data, "the corpus has more than %d tokens, too many to hold in memory", uint32(math.MaxUint32))
	}
	c.ids.add(sentence)
	c.starts = append(c.starts, uint32(c.ids.len()))
	return nil
}

// closeDocument ends the document that is open, if it has sentences.
func (c *Corpus) closeDocument() {
	d := document{end: uint32(len(c.starts) - 1)}
	if n := len(c.documents); n > 0 {
		d.first = c.documents[n-1].end
	}
	if d.first < d.end {
		digest := c.digest(d)
		d.key = binary.LittleEndian.Uint64(digest[:])
		c.documents = append(c.documents, d)
	}
}

// digest returns the SHA-256 of a document: for each sentence its length and its ids, in
// 32 bits, little-endian.
func (c *Corpus) digest(d document) [sha256.Size]byte {
	h := sha256.New()
	var ids []int32
	var buf []byte
	for s := d.first; s < d.end; s++ {
		ids = c.ids.appendTo(ids[:0], c.starts[s], c.starts[s+1])
		buf = binary.LittleEndian.AppendUint32(buf[:0], uint32(len(ids)))
		for _, id := range ids {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(id))
		}
		h.Write(buf)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Close releases what a prepared corpus has mapped, its parts' too. A corpus in memory
// needs none.
func (c *Corpus) Close() error { return nil }

// Documents returns the number of documents.
func (c *Corpus) Documents() int { return len(c.documents) }

// Sentences returns the number of sentences.
func (c *Corpus) Sentences() int {
	n := 0
	for _, d := range c.documents {
		n += int(d.end - d.first)
	}
	return n
}

// Tokens returns the number of tokens.
func (c *Corpus) Tokens() int {
	n := 0
	for _, d := range c.documents {
		n += c.tokens(d.first, d.end)
	}
	return n
}

// tokens returns the number of tokens of sentences first .. end-1.
func (c *Corpus) tokens(first, end uint32) int { return int(c.starts[end] - c.starts[first]) }

// Hash returns the SHA-256, in hex, of the documents' digests one after another. It
// depends on ids and on where sentences and documents end, not on files' names.
func (c *Corpus) Hash() string {
	h := sha256.New()
	for _, d := range c.documents {
		digest := c.digest(d)
		h.Write(digest[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Split parts the documents into those to train on and those held out. A document is held
// out with probability share, decided by the seed and its content alone: adding, moving
// or renaming files changes the side of no other document, and copies of one document are
// on the same side. So the share is of documents, in expectation, not of tokens.
//
// If chance would leave a side empty, the document closest to the boundary goes there, and
// only then can files added later send it back. It is an error if there are not two
// different documents. Both parts share memory with c. With share 0 nothing is held out
// and held is nil.
func (c *Corpus) Split(share float64, seed uint64) (train, held *Corpus, err error) {
	if !(share >= 0 && share < 1) {
		return nil, nil, fault.New(fault.Config, "the held-out share %v is outside [0, 1)", share)
	}
	if share == 0 {
		return c, nil, nil
	}
	values := make([]uint64, len(c.documents))
	limit := uint64(share * (1 << 53)) // values below it are held out
	lowest, highest := uint64(math.MaxUint64), uint64(0)
	for i, d := range c.documents {
		b := philox.Block(philox.Key(seed), [4]uint32{uint32(d.key), splitSite, uint32(d.key >> 32), 0})
		values[i] = (uint64(b[1])<<32 | uint64(b[0])) >> 11
		lowest, highest = min(lowest, values[i]), max(highest, values[i])
	}
	if lowest == highest {
		return nil, nil, fault.New(fault.Data, "the corpus has %s and none to hold out: give a validation file, or more files or chapters", plural(len(c.documents), "document"))
	}
	limit = min(max(limit, lowest+1), highest)
	train = &Corpus{Files: c.Files, Notes: c.Notes, ids: c.ids, starts: c.starts}
	held = &Corpus{Files: c.Files, Notes: c.Notes, ids: c.ids, starts: c.starts}
	for i, d := range c.documents {
		if values[i] < limit {
			held.documents = append(held.documents, d)
		} else {
			train.documents = append(train.documents, d)
		}
	}
	return train, held, nil
}
