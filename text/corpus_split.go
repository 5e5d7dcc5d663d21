package text

import (
	"math"

	"sift/backend/philox"
	"sift/fault"
)

// Split parts the documents into those to train on and those held out. A document is held
// out with probability share, decided by the seed and its content alone: adding, moving
// or renaming files changes the side of no other document, and copies of one document are
// on the same side. So the share is of documents, in expectation, not of tokens.
//
// If chance would leave a side empty, the document closest to the boundary goes there, and
// only then can files added later send it back. It is an error if there are not two
// different documents. Both parts share memory with c, and take 4 bytes a document beside.
// With share 0 nothing is held out and held is nil.
func (c *Corpus) Split(share float64, seed uint64) (train, held *Corpus, err error) {
	if !(share >= 0 && share < 1) {
		return nil, nil, fault.New(fault.Config, "the held-out share %v is outside [0, 1)", share)
	}
	if share == 0 {
		return c, nil, nil
	}
	value := func(s *shard, d uint32) uint64 {
		key := keyOf(&s.digests[d])
		b := philox.Block(philox.Key(seed), [4]uint32{uint32(key), splitSite, uint32(key >> 32), 0})
		return (uint64(b[1])<<32 | uint64(b[0])) >> 11
	}
	limit := uint64(share * (1 << 53)) // values below it are held out
	lowest, highest := uint64(math.MaxUint64), uint64(0)
	c.eachDigest(func(_ int, s *shard, d uint32) {
		v := value(s, d)
		lowest, highest = min(lowest, v), max(highest, v)
	})
	if lowest == highest {
		return nil, nil, fault.New(fault.Data, "the corpus has %s and none to hold out: give a validation file, or more files or chapters", plural(c.Documents(), "document"))
	}
	limit = min(max(limit, lowest+1), highest)
	train = &Corpus{Files: c.Files, Notes: c.Notes, store: c.store, part: []uint32{}}
	held = &Corpus{Files: c.Files, Notes: c.Notes, store: c.store, part: []uint32{}}
	c.eachDigest(func(_ int, s *shard, d uint32) {
		side := train
		if value(s, d) < limit {
			side = held
		}
		p := s.passage(d)
		side.part = append(side.part, s.document+d)
		side.sentences += int(p.end - p.first)
		side.tokens += s.tokens(p.first, p.end)
	})
	return train, held, nil
}
