package text

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"sort"
	"strings"

	"sift/fault"
)

// Corpus is running text as token ids: documents of sentences, without special tokens. It
// is immutable once read, and safe for concurrent use.
//
// A corpus is in memory (ReadCorpus) or in files that are mapped (OpenPrepared). Everything
// made from it is the same either way.
type Corpus struct {
	Files []CorpusFile // as read, of the whole corpus if this is a part
	Notes []string     // of all files

	store     *store
	part      []uint32 // numbers of its documents, ascending; nil if it has all
	sentences int
	tokens    int
}

// ReadCorpus reads and tokenises the files that paths stand for; see FindCorpus and
// ReadCorpusFile. Sentences without a token and documents without a sentence are left
// out. A corpus takes 2 bytes a token (4 if the vocabulary has more than 65,536), 4 a
// sentence and 36 a document, and may have 2^32 - 1 sentences and 2^31 - 1 documents.
//
// Files are tokenised on every processor, and the result is that of reading them one after
// another. When ctx ends, so does the reading, with kind fault.Interrupted.
func (t *Tokenizer) ReadCorpus(ctx context.Context, paths ...string) (*Corpus, error) {
	files, err := FindCorpus(paths)
	if err != nil {
		return nil, err
	}
	m := &shardsInMemory{isWide: needsWide(t.VocabSize()), limit: memoryShard}
	a := newAssembly(m)
	found, err := t.tokeniseFiles(ctx, files, runtime.GOMAXPROCS(0), a, nil)
	if err != nil {
		return nil, err
	}
	if a.documents == 0 {
		return nil, noText(paths)
	}
	m.endShard()
	return newCorpus(newStore(m.shards), found), nil
}

func noText(paths []string) error {
	return fault.New(fault.Data, "%s: holds no text", strings.Join(paths, ", "))
}

// newCorpus returns the corpus of all of a store's documents.
func newCorpus(st *store, files []CorpusFile) *Corpus {
	c := &Corpus{Files: files, store: st, sentences: int(st.sentences), tokens: st.tokens}
	for i := range files {
		c.Notes = append(c.Notes, files[i].Notes...)
	}
	return c
}

// Close releases what a prepared corpus has mapped, its parts' too; nothing may use them
// afterwards. A corpus in memory needs none.
func (c *Corpus) Close() error { return c.store.close() }

// Documents returns the number of documents.
func (c *Corpus) Documents() int {
	if c.part != nil {
		return len(c.part)
	}
	return int(c.store.documents)
}

// Sentences returns the number of sentences.
func (c *Corpus) Sentences() int { return c.sentences }

// Tokens returns the number of tokens.
func (c *Corpus) Tokens() int { return c.tokens }

// document returns the shard of document i and its number there.
func (c *Corpus) document(i int) (*shard, uint32) {
	n := uint32(i)
	if c.part != nil {
		n = c.part[i]
	}
	s := c.store.shardOfDocument(n)
	return s, n - s.document
}

// passage returns document i.
func (c *Corpus) passage(i int) passage {
	s, d := c.document(i)
	return s.passage(d)
}

// position returns which of c's documents is document d of s, which c has.
func (c *Corpus) position(s *shard, d uint32) int {
	n := s.document + d
	if c.part == nil {
		return int(n)
	}
	return sort.Search(len(c.part), func(i int) bool { return c.part[i] >= n })
}

// eachDigest calls visit with the digest of every document.
func (c *Corpus) eachDigest(visit func(i int, s *shard, d uint32)) {
	defer c.store.explain(c.store.guard())
	for i := range c.Documents() {
		s, d := c.document(i)
		visit(i, s, d)
		p := s.passage(d)
		c.store.touch(s, 0, sha256.Size+4+4*int(p.end-p.first))
	}
}

// Hash returns the SHA-256, in hex, of the documents' digests one after another. It
// depends on ids and on where sentences and documents end, not on files' names.
func (c *Corpus) Hash() string {
	h := sha256.New()
	c.eachDigest(func(_ int, s *shard, d uint32) { h.Write(s.digests[d][:]) })
	return hex.EncodeToString(h.Sum(nil))
}

// keyOf is what decides on which side of a split a document is.
func keyOf(d *digest) uint64 { return binary.LittleEndian.Uint64(d[:]) }
