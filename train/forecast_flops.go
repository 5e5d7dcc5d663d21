package train

import (
	"cmp"
	"math"
	"slices"

	"sift/bert"
	"sift/sifting"
)

// exampleSize is what the operations on an example depend on.
type exampleSize struct{ tokens, labels int }

// cost is the operations on one sequence, or on some.
type cost struct {
	tokens float64
	step   float64 // forward and backward, all layers and heads
	score  float64 // forward up to the exit layer, and the scored head there
	prefix float64 // the first part of score, which reuse saves for what is kept
}

func (c *cost) add(d cost, times float64) {
	c.tokens += times * d.tokens
	c.step += times * d.step
	c.score += times * d.score
	c.prefix += times * d.prefix
}

func (c cost) times(n float64) cost { return cost{n * c.tokens, n * c.step, n * c.score, n * c.prefix} }

// operations counts what bert.Config counts, sequence by sequence.
type operations struct {
	model     bert.Config
	objective bert.Objective
	opt       sifting.Options
	known     map[exampleSize]cost
}

func newOperations(model bert.Config, objective bert.Objective, opt sifting.Options) *operations {
	return &operations{model: model, objective: objective, opt: opt, known: map[exampleSize]cost{}}
}

// batch is one sequence of a size as the counting functions see it.
func (o *operations) batch(x exampleSize) *bert.Batch {
	b := &bert.Batch{Seqs: 1, Rows: x.tokens, MaxLen: x.tokens, Offsets: []int32{0, int32(x.tokens)}}
	if o.objective.MLM {
		b.MLMRows = make([]int32, x.labels)
	}
	if o.objective.NSP {
		b.NSPLabels = []int32{0}
	}
	if o.objective.Classification {
		b.Labels = []int32{0}
	}
	return b
}

func (o *operations) of(x exampleSize) cost {
	if c, ok := o.known[x]; ok {
		return c
	}
	b := o.batch(x)
	c := cost{tokens: float64(x.tokens), step: o.model.StepFLOPs(b)}
	if o.scores() {
		c.score = o.model.ScoreFLOPs(b, o.opt.ExitLayer, o.objective)
		c.prefix = o.model.ForwardFLOPs(b, o.opt.ExitLayer)
	}
	o.known[x] = c
	return c
}

// forward is the operations of a validation pass over an example.
func (o *operations) forward(x exampleSize) float64 {
	b := o.batch(x)
	return o.model.ForwardFLOPs(b, o.model.Layers) + o.model.HeadFLOPs(b)
}

// scores reports whether selecting computes anything.
func (o *operations) scores() bool {
	return o.opt.Score == sifting.Loss || o.opt.Score == sifting.Entropy
}

// micro is a micro-batch: all that is drawn, and keep of it as far as that can be said.
func (o *operations) micro(sizes []exampleSize, keep int) (drawn, kept cost) {
	for _, x := range sizes {
		drawn.add(o.of(x), 1)
	}
	switch {
	case keep == len(sizes) || !o.objective.MLM || !o.scores():
		kept = drawn.times(float64(keep) / float64(len(sizes)))
	case o.opt.Sum:
		ranked := slices.Clone(sizes)
		slices.SortStableFunc(ranked, func(a, b exampleSize) int { return cmp.Compare(b.labels, a.labels) })
		for _, x := range ranked[:keep] {
			kept.add(o.of(x), 1)
		}
	default:
		for i, chance := range chancesOfMeans(sizes, keep) {
			kept.add(o.of(sizes[i]), chance)
		}
	}
	return drawn, kept
}

// chancesOfMeans returns each sequence's probability of being among the keep with the
// largest scores, if a score is the mean of as many independent normal variables as the
// sequence has labels. Scores of short sequences are spread more, so that of fewer than
// half more short ones are kept. The probabilities add up to keep.
func chancesOfMeans(sizes []exampleSize, keep int) []float64 {
	chances := make([]float64, len(sizes))
	at := func(threshold float64) (sum float64) {
		for i, x := range sizes {
			chances[i] = math.Erfc(threshold*math.Sqrt(float64(x.labels)/2)) / 2
			sum += chances[i]
		}
		return sum
	}
	lo, hi := -16.0, 16.0 // in standard deviations of a label's score
	for range 48 {
		if mid := (lo + hi) / 2; at(mid) > float64(keep) {
			lo = mid
		} else {
			hi = mid
		}
	}
	at(lo)
	return chances
}

// scoring is what a selection costs beside its update, with the prefix of the kept reused
// as a part of that, and without.
func scoring(drawn, kept cost) (reuse, naive float64) { return drawn.score - kept.prefix, drawn.score }
