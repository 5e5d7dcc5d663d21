package text

import (
	"math/bits"
	"sort"
)

// plan says with which sentence each example of an epoch begins. All else about an
// example follows from that and the generator.
type plan struct {
	made   bool
	epoch  uint64
	firsts []uint32
}

// first returns the first sentence of example i.
func (p *Pretraining) first(epoch uint64, i int) uint32 {
	p.lock.Lock()
	defer p.lock.Unlock()
	switch {
	case p.plans[0].made && p.plans[0].epoch == epoch:
	case p.plans[1].made && p.plans[1].epoch == epoch:
		p.plans[0], p.plans[1] = p.plans[1], p.plans[0]
	default:
		p.plans[0], p.plans[1] = p.makePlan(epoch), p.plans[0]
	}
	return p.plans[0].firsts[i]
}

// makePlan walks the documents, in the order of the epoch, until there are p.n examples;
// once if p.n is 0.
func (p *Pretraining) makePlan(epoch uint64) plan {
	x := plan{made: true, epoch: epoch, firsts: make([]uint32, 0, p.n)}
	order := p.documentOrder(epoch)
	for {
		for _, doc := range order {
			d := &p.c.documents[doc]
			for at := d.first; at < d.end; {
				if p.n > 0 && len(x.firsts) == p.n {
					return x
				}
				alone := p.o.NextSentence && at == d.end-1 && at > d.first
				if alone {
					at--
				}
				stream := newDraws(p.o.Seed, segmentSite, epoch, uint32(len(x.firsts)))
				x.firsts = append(x.firsts, at)
				if at = p.cut(&stream, at, d.end).next; alone {
					break
				}
			}
		}
		if p.n == 0 || len(x.firsts) == p.n {
			return x
		}
	}
}

// documentOrder returns a permutation of the documents, drawn as Shuffle draws.
func (p *Pretraining) documentOrder(epoch uint64) []int32 {
	order := make([]int32, len(p.c.documents))
	for i := range order {
		order[i] = int32(i)
	}
	d := newDraws(p.o.Seed, documentSite, epoch, 0)
	for i := len(order) - 1; i > 0; i-- {
		j := d.below(uint32(i) + 1)
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// span is a run lo .. hi-1 of sentences or of tokens.
type span struct{ lo, hi uint32 }

// cutting is how an example cuts its document, in sentences.
type cutting struct {
	target int  // tokens aimed at
	a, b   span // b empty where there is none
	random bool // b is to be replaced
	next   uint32
}

// cut cuts an example from sentence at on, in a document that ends at end. It is what the
// plan needs of an example and so takes the first words of its stream: whether it is
// short, how short, where to cut, whether b is random.
func (p *Pretraining) cut(d *draws, at, end uint32) cutting {
	x := cutting{target: p.room}
	if d.chance(p.short) {
		x.target = 2 + int(d.below(uint32(p.room-1)))
	}
	g := at + 1
	if !p.o.NextSentence {
		for g < end && p.c.tokens(at, g+1) <= x.target {
			g++
		}
		x.a, x.b, x.next = span{at, g}, span{g, g}, g
		return x
	}
	for g < end && (g-at < 2 || p.c.tokens(at, g) < x.target) {
		g++
	}
	split := at + 1
	if g-at >= 2 {
		split += d.below(g - at - 1)
		x.random = d.chance(1 << 31)
	} else {
		x.random = true
	}
	x.a, x.b, x.next = span{at, split}, span{split, g}, g
	if x.random {
		x.next = split
	}
	return x
}

// segments are those of an example, in tokens of the corpus, truncated.
type segments struct {
	a, b  span
	label int32 // 1 if b is random
}

// segment returns the segments of example i, which begins with sentence first.
func (p *Pretraining) segment(epoch uint64, i int, first uint32) segments {
	docs := p.c.documents
	doc := sort.Search(len(docs), func(k int) bool { return docs[k].end > first })
	d := newDraws(p.o.Seed, segmentSite, epoch, uint32(i))
	x := p.cut(&d, first, docs[doc].end)
	var s segments
	if x.random {
		s.label = 1
		x.b = p.elsewhere(&d, doc, x)
	}
	starts := p.c.starts
	s.a = span{starts[x.a.lo], starts[x.a.hi]}
	s.b = span{starts[x.b.lo], starts[x.b.hi]}
	keepA, keepB := truncate(int(s.a.hi-s.a.lo), int(s.b.hi-s.b.lo), p.room)
	s.a.trim(&d, keepA)
	s.b.trim(&d, keepB)
	return s
}

// elsewhere draws a random second segment for an example of document doc.
func (p *Pretraining) elsewhere(d *draws, doc int, x cutting) span {
	docs := p.c.documents
	var b span
	if n := uint32(len(docs)); n > 1 {
		other := d.below(n - 1)
		if other >= uint32(doc) {
			other++
		}
		from := docs[other]
		b = span{from.first + d.below(from.end-from.first), from.end}
	} else {
		// At least two sentences, so x left one for b.
		from := docs[doc]
		b = span{from.first + d.below(from.end-from.first-1), from.end}
		if b.lo >= x.a.hi {
			b.lo++
		}
	}
	want := x.target - p.c.tokens(x.a.lo, x.a.hi)
	end := b.lo + 1
	for end < b.hi && p.c.tokens(b.lo, end) < want {
		end++
	}
	return span{b.lo, end}
}

// trim keeps keep tokens: each of the others goes from the front or the back with
// probability 1/2, so from the front go as many as a run of random bits has ones.
func (s *span) trim(d *draws, keep int) {
	front := uint32(0)
	drop := int(s.hi-s.lo) - keep
	for left := drop; left > 0; left -= 32 {
		word := d.word()
		if left < 32 {
			word &= 1<<left - 1
		}
		front += uint32(bits.OnesCount32(word))
	}
	s.lo += front
	s.hi = s.lo + uint32(keep)
}
