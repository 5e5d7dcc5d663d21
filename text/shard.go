package text

import (
	"crypto/sha256"
	"math"
	"sort"
	"sync/atomic"
)

// digest is the SHA-256 of a document: for each sentence its length and its ids, in 32
// bits, little-endian.
type digest = [sha256.Size]byte

// shard is a run of whole documents: what is held, written and mapped as one. Sentences
// and tokens are numbered within it, so 32 bits do however long the corpus is.
type shard struct {
	narrow  []uint16 // ids, where the vocabulary allows it,
	wide    []int32  // else here
	starts  []uint32 // sentence s is ids starts[s] .. starts[s+1]-1, at least one
	ends    []uint32 // document d is sentences ends[d-1] (or 0) .. ends[d]-1, at least one
	digests []digest // of the documents

	sentence uint32 // number of the first sentence in the corpus
	document uint32 // number of the first document
	mapping  mapping
	touched  atomic.Bool // since the mapping was last dropped
}

// appendTo appends ids lo .. hi-1 to dst.
func (s *shard) appendTo(dst []int32, lo, hi uint32) []int32 {
	if s.wide != nil {
		return append(dst, s.wide[lo:hi]...)
	}
	for _, id := range s.narrow[lo:hi] {
		dst = append(dst, int32(id))
	}
	return dst
}

// tokens returns the number of tokens of sentences first .. end-1.
func (s *shard) tokens(first, end uint32) int { return int(s.starts[end] - s.starts[first]) }

// passage returns document d of the shard.
func (s *shard) passage(d uint32) passage {
	p := passage{s: s, end: s.ends[d]}
	if d > 0 {
		p.first = s.ends[d-1]
	}
	return p
}

// passage is a run of sentences of a shard, first .. end-1.
type passage struct {
	s          *shard
	first, end uint32
}

// store is a whole corpus, shard after shard. Its parts share it.
type store struct {
	shards    []*shard
	documents uint32
	sentences uint32
	tokens    int
	resident  residency
}

// newStore numbers the shards' sentences and documents.
func newStore(shards []*shard) *store {
	st := &store{shards: shards}
	for _, s := range shards {
		s.sentence, s.document = st.sentences, st.documents
		st.sentences += uint32(len(s.starts) - 1)
		st.documents += uint32(len(s.ends))
		st.tokens += s.tokens(0, uint32(len(s.starts)-1))
	}
	return st
}

// shardOfDocument returns the shard that has a document of the corpus.
func (st *store) shardOfDocument(n uint32) *shard {
	return st.shards[sort.Search(len(st.shards), func(i int) bool { return st.shards[i].document > n })-1]
}

// shardOfSentence returns the shard that has a sentence of the corpus.
func (st *store) shardOfSentence(n uint32) *shard {
	return st.shards[sort.Search(len(st.shards), func(i int) bool { return st.shards[i].sentence > n })-1]
}

// memoryShard is the number of tokens after which a shard in memory ends with its document.
// It bounds what growing a slice copies.
const memoryShard = 1 << 22

// shardsInMemory is a corpusSink that makes the shards of a corpus in memory.
type shardsInMemory struct {
	isWide bool
	limit  int // tokens, as memoryShard
	shards []*shard
	open   *shard // nil between shards
}

// needsWide reports whether ids of a vocabulary need more than 16 bits.
func needsWide(vocabulary int) bool { return vocabulary > math.MaxUint16+1 }

func (m *shardsInMemory) sentence(ids []int32) error {
	if m.open == nil {
		m.open = &shard{starts: []uint32{0}}
	}
	s := m.open
	if m.isWide {
		s.wide = append(s.wide, ids...)
	} else {
		for _, id := range ids {
			s.narrow = append(s.narrow, uint16(id))
		}
	}
	s.starts = append(s.starts, s.starts[len(s.starts)-1]+uint32(len(ids)))
	return nil
}

func (m *shardsInMemory) endDocument(d digest) error {
	s := m.open
	s.ends = append(s.ends, uint32(len(s.starts)-1))
	s.digests = append(s.digests, d)
	if len(s.narrow)+len(s.wide) >= m.limit {
		m.endShard()
	}
	return nil
}

func (m *shardsInMemory) endShard() {
	if m.open != nil {
		m.shards = append(m.shards, m.open)
		m.open = nil
	}
}
