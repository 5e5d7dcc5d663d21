package text

import (
	"math"
	"sync"

	"sift/fault"
)

// NoLabel marks a position without a masked-LM label.
const NoLabel = -100

// PretrainingOptions says how examples are made of a corpus.
type PretrainingOptions struct {
	MaxLength    int        // of a sequence, special tokens included; at least 8
	NextSentence bool       // pairs of segments with next-sentence labels, else single segments
	ShortShare   float64    // of examples that aim at a random shorter length; 0.1 in BERT
	MaskShare    float64    // of tokens that get a label, in (0, 1]; 0.15 in BERT
	Replace      [3]float64 // of those: shares replaced by [MASK], by a random token, by nothing; 0.8, 0.1, 0.1 in BERT
	Seed         uint64
	Fixed        bool // every epoch is the same, and none of a training's: for validation
}

// Pretraining makes examples for masked-LM training, with or without next-sentence
// prediction, as BERT makes them (Devlin et al. 2019, appendix A.2, and
// create_pretraining_data.py).
//
// An epoch walks all documents in an order of its own and cuts each into examples, so
// segments, labels and masks differ from epoch to epoch. Every decision is made by the
// Philox generator from seed, epoch and the example's number, so any example can be made
// alone. All epochs have as many examples as the walk of epoch 0 yields, Len; a walk that
// needs more is broken off, and one that needs less begins again from the front, which is a
// per cent or so.
//
// It is safe for concurrent use.
type Pretraining struct {
	c       *Corpus
	o       PretrainingOptions
	n       int
	room    int // tokens of a sequence besides special ones
	short   uint64
	masked  uint64 // below it a labelled token becomes [MASK],
	random  uint64 // else below it a random one
	vocab   uint32
	cls     int32
	sep     int32
	mask    int32
	special [5]int32 // never masked

	lock  sync.Mutex
	plans [2]plan // the latest first
}

// PretrainingExample is one sequence, [CLS] a [SEP] or [CLS] a [SEP] b [SEP], with tokens
// masked. All slices have the same length, at most MaxLength, and are overwritten by the
// next Fill.
type PretrainingExample struct {
	IDs       []int32
	Types     []int32 // 0 for [CLS] a [SEP], 1 for b [SEP]
	MLMLabels []int32 // the token that was there, NoLabel where none is asked for
	NSP       int32   // 0: b follows a; 1: b is from elsewhere; NoLabel without pairs

	candidates []int32 // positions that may be masked
}

// fixedEpoch stands for every epoch of fixed examples. No training reaches it.
const fixedEpoch = 1<<48 - 1

// NewPretraining prepares the making of examples from c, which t tokenised.
func NewPretraining(t *Tokenizer, c *Corpus, o PretrainingOptions) (*Pretraining, error) {
	if err := t.NeedMask(); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.NextSentence && c.Sentences() < 2 {
		return nil, fault.New(fault.Data, "the text has a single sentence, and next-sentence pairs need two")
	}
	p := &Pretraining{
		c: c, o: o,
		room:    o.MaxLength - 2,
		short:   threshold(o.ShortShare),
		masked:  threshold(o.Replace[0]),
		random:  threshold(1 - o.Replace[2]),
		vocab:   uint32(t.VocabSize()),
		cls:     t.CLS,
		sep:     t.SEP,
		mask:    t.MASK,
		special: [5]int32{t.PAD, t.UNK, t.CLS, t.SEP, t.MASK},
	}
	if o.NextSentence {
		p.room--
	}
	first := p.makePlan(p.epoch(0))
	p.plans[0] = first
	p.n = len(first.firsts)
	if p.n > math.MaxInt32 {
		return nil, fault.New(fault.Data, "an epoch has %d examples, more than %d", p.n, math.MaxInt32)
	}
	return p, nil
}

func (o *PretrainingOptions) check() error {
	if o.MaxLength < 8 {
		return fault.New(fault.Config, "maximum length %d is below 8", o.MaxLength)
	}
	if !(o.ShortShare >= 0 && o.ShortShare <= 1) {
		return fault.New(fault.Config, "share of short sequences %v is outside [0, 1]", o.ShortShare)
	}
	if !(o.MaskShare > 0 && o.MaskShare <= 1) {
		return fault.New(fault.Config, "mask probability %v is outside (0, 1]", o.MaskShare)
	}
	sum := 0.0
	for _, share := range o.Replace {
		if !(share >= 0 && share <= 1) {
			return fault.New(fault.Config, "mask replacement share %v is outside [0, 1]", share)
		}
		sum += share
	}
	if math.Abs(sum-1) > 1e-6 {
		return fault.New(fault.Config, "mask replacement shares %v add up to %v, not 1", o.Replace, sum)
	}
	return nil
}

// Len returns the number of examples of every epoch.
func (p *Pretraining) Len() int { return p.n }

// epoch returns the number that stands for an epoch in the generator's counter.
func (p *Pretraining) epoch(epoch uint64) uint64 {
	if p.o.Fixed {
		return fixedEpoch
	}
	return epoch
}

// Fill makes example i, 0 <= i < Len, of an epoch below 2^48 - 1. The result depends on nothing but
// corpus, options, epoch and i. It allocates nothing once x has room, but for the plan of
// an epoch not seen lately: the two latest are kept, 4 bytes an example.
//
// A pair is made of whole sentences of one document until there are at least the target:
// MaxLength less three special tokens or, in a share of ShortShare, uniform from 2 to
// that. Two sentences at least are taken, and a last sentence left alone takes the one
// before it along. They are cut between two sentences, uniformly, into a and b; with
// probability 1/2 the sentences of b are left to the next example and b becomes, from a
// uniform sentence of a uniform other document on, as many as fill the target again. In a
// corpus of one document they start at any sentence of it but the one that follows a. Only
// a document of one sentence has no choice: its b is always from elsewhere. What is too long
// loses tokens of the longer segment, as in Encode, but each at its front or back with
// probability 1/2.
//
// A single segment is made of as many whole sentences of one document as the target
// holds, one at least, cut likewise if it alone is too long.
func (p *Pretraining) Fill(x *PretrainingExample, epoch uint64, i int) {
	if i < 0 || i >= p.n {
		panic("text: no such example")
	}
	defer p.c.store.explain(p.c.store.guard())
	epoch = p.epoch(epoch)
	s := p.segment(epoch, i, p.first(epoch, i))

	x.NSP = NoLabel
	if p.o.NextSentence {
		x.NSP = s.label
	}
	x.IDs = s.a.s.appendTo(append(x.IDs[:0], p.cls), s.a.lo, s.a.hi)
	x.IDs = append(x.IDs, p.sep)
	x.Types = x.Types[:0]
	for range x.IDs {
		x.Types = append(x.Types, 0)
	}
	if p.o.NextSentence {
		x.IDs = append(s.b.s.appendTo(x.IDs, s.b.lo, s.b.hi), p.sep)
		for len(x.Types) < len(x.IDs) {
			x.Types = append(x.Types, 1)
		}
	}
	// A segment is reached through its document's end, its sentences and its tokens.
	p.c.store.touch(s.a.s, 3, 0)
	p.c.store.touch(s.b.s, 3, 0)
	d := newDraws(p.o.Seed, maskSite, epoch, uint32(i))
	p.maskTokens(x, &d)
}
