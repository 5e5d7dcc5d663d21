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
	defer p.c.store.explain(p.c.store.guard())
	x := plan{made: true, epoch: epoch, firsts: make([]uint32, 0, p.n)}
	order := p.documentOrder(epoch)
	for {
		for _, doc := range order {
			d := p.c.passage(int(doc))
			p.c.store.touch(d.s, 2, 0)
			for at := d.first; at < d.end; {
				if p.n > 0 && len(x.firsts) == p.n {
					return x
				}
				alone := p.o.NextSentence && at == d.end-1 && at > d.first
				if alone {
					at--
				}
				stream := newDraws(p.o.Seed, segmentSite, epoch, uint32(len(x.firsts)))
				x.firsts = append(x.firsts, d.s.sentence+at)
				cut := p.cut(&stream, passage{d.s, at, d.end})
				p.c.store.touch(d.s, 0, 4*int(cut.b.end-at))
				if at = cut.next; alone {
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
	order := make([]int32, p.c.Documents())
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

// cutting is how an example cuts its document, in sentences of one shard.
type cutting struct {
	target int     // tokens aimed at
	a, b   passage // b empty where there is none
	random bool    // b is to be replaced
	next   uint32
}

// cut cuts an example from the front of the rest of a document. It is what the
// plan needs of an example and so takes the first words of its stream: whether it is
// short, how short, where to cut, whether b is random.
func (p *Pretraining) cut(d *draws, rest passage) cutting {
	x := cutting{target: p.room}
	if d.chance(p.short) {
		x.target = 2 + int(d.below(uint32(p.room-1)))
	}
	s, at, end := rest.s, rest.first, rest.end
	g := at + 1
	if !p.o.NextSentence {
		for g < end && s.tokens(at, g+1) <= x.target {
			g++
		}
		x.a, x.b, x.next = passage{s, at, g}, passage{s, g, g}, g
		return x
	}
	for g < end && (g-at < 2 || s.tokens(at, g) < x.target) {
		g++
	}
	split := at + 1
	if g-at >= 2 {
		split += d.below(g - at - 1)
		x.random = d.chance(1 << 31)
	} else {
		x.random = true
	}
	x.a, x.b, x.next = passage{s, at, split}, passage{s, split, g}, g
	if x.random {
		x.next = split
	}
	return x
}

// span is a run of tokens of a shard, lo .. hi-1.
type span struct {
	s      *shard
	lo, hi uint32
}

// span returns the tokens of a passage.
func (p passage) span() span { return span{p.s, p.s.starts[p.first], p.s.starts[p.end]} }

// segments are those of an example, truncated.
type segments struct {
	a, b  span
	label int32 // 1 if b is random
}

// segment returns the segments of example i, which begins with sentence first of the
// whole corpus.
func (p *Pretraining) segment(epoch uint64, i int, first uint32) segments {
	s := p.c.store.shardOfSentence(first)
	first -= s.sentence
	doc := uint32(sort.Search(len(s.ends), func(k int) bool { return s.ends[k] > first }))
	d := newDraws(p.o.Seed, segmentSite, epoch, uint32(i))
	x := p.cut(&d, passage{s, first, s.ends[doc]})
	var out segments
	if x.random {
		out.label = 1
		x.b = p.elsewhere(&d, p.c.position(s, doc), x)
	}
	out.a, out.b = x.a.span(), x.b.span()
	keepA, keepB := truncate(int(out.a.hi-out.a.lo), int(out.b.hi-out.b.lo), p.room)
	out.a.trim(&d, keepA)
	out.b.trim(&d, keepB)
	return out
}

// elsewhere draws a random second segment for an example of document doc.
func (p *Pretraining) elsewhere(d *draws, doc int, x cutting) passage {
	var b passage
	if n := uint32(p.c.Documents()); n > 1 {
		other := d.below(n - 1)
		if other >= uint32(doc) {
			other++
		}
		b = p.c.passage(int(other))
		b.first += d.below(b.end - b.first)
	} else {
		// At least two sentences, so x left one for b.
		b = p.c.passage(doc)
		b.first += d.below(b.end - b.first - 1)
		if b.first >= x.a.end {
			b.first++
		}
	}
	want := x.target - x.a.s.tokens(x.a.first, x.a.end)
	end := b.first + 1
	for end < b.end && b.s.tokens(b.first, end) < want {
		end++
	}
	return passage{b.s, b.first, end}
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
