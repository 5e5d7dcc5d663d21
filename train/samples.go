package train

import (
	"context"

	"sift/bert"
	"sift/text"
)

// samples is the endless stream that training draws from. Sample p is one of the examples
// of epoch p / Len.
type samples interface {
	Len() int                                  // of an epoch
	tokens() int                               // of an epoch; 0: not known
	longest() int                              // tokens of any sample, at most
	labelled() int                             // masked-LM labels of any sample, at most
	length(position int) int                   // tokens of a sample, at most
	add(p *bert.Packer, position uint64) error // appends a sample
}

// heldOut is what a run is validated on.
type heldOut interface {
	Len() int
	longest() int
	// evaluate runs everything without dropout or selection. It sets all of an Evaluation
	// but Seconds.
	evaluate(ctx context.Context, t *trainer) (Evaluation, error)
}

// batchLimits are those of a run's micro-batches, of training and of validation.
func batchLimits(p plan, s samples, h heldOut) bert.Limits {
	l := bert.Limits{Rows: p.rows, Seqs: p.seqs, MaxLen: s.longest(), Labelled: p.seqs * s.labelled()}
	if h != nil {
		l.MaxLen, l.Rows = max(l.MaxLen, h.longest()), max(l.Rows, h.longest())
	}
	return l
}

// streams puts the inputs into the order in which seed draws them.
func (in *material) streams(seed uint64) (bert.Objective, samples, heldOut) {
	if in.text != nil {
		return in.text.streams(seed)
	}
	s := &labelledSamples{examples: in.train, order: text.NewOrder(in.train.Len(), seed)}
	if in.valid.Len() == 0 {
		return bert.Objective{Classification: true}, s, nil
	}
	return bert.Objective{Classification: true}, s, &labelledHeldOut{examples: in.valid}
}

// labelledSamples draws from a labelled file.
type labelledSamples struct {
	*examples
	order *text.Order
}

func (s *labelledSamples) labelled() int { return 0 }

func (s *labelledSamples) length(position int) int {
	return s.examples.length(s.order.At(uint64(position)))
}

func (s *labelledSamples) add(p *bert.Packer, position uint64) error {
	return p.AddSequence(s.sequence(s.order.At(position), position))
}

// labelledHeldOut is a labelled file to validate on.
type labelledHeldOut struct {
	*examples
	logits []float32
}

func (h *labelledHeldOut) evaluate(ctx context.Context, t *trainer) (Evaluation, error) {
	c := newConfusion(len(t.in.labels))
	var err error
	h.logits, err = classify(ctx, t.model, t.packer, h.examples, h.logits, func(i int, logits []float32) error {
		c.add(int(h.Labels[i]), logits)
		return nil
	}, t.opt.Progress)
	if err != nil {
		return Evaluation{}, err
	}
	e := c.evaluation(t.in.labels)
	e.Tokens = h.tokens()
	return e, nil
}
