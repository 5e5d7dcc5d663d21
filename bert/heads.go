package bert

import (
	"errors"

	"sift/backend"
	"sift/fault"
)

// heads are the heads' parameters and the memory they work in, which is the model's:
// heads run one batch at a time and keep nothing for later.
type heads struct {
	mlm        mlmHead
	pooler     linear
	nsp        linear
	classifier linear
	m          mlmScratch
	p          pooledScratch

	mlmStats, nspStats, classStats stats
	pending                        *Pending // of Losses
}

// RowLosses are the cross-entropy, the entropy and the correctness (1 or 0) of each row
// of a head, on the host.
type RowLosses struct{ Loss, Entropy, Correct []float64 }

// Losses are those of one call of Heads; a head that did not run has no rows.
type Losses struct {
	MLM   RowLosses // by labelled row, in the batch's order
	NSP   RowLosses // by sequence; Loss and Correct are 0 where the label is NoLabel
	Class RowLosses // by sequence; the same
}

// stats are the results of a head's rows: loss, entropy, log-sum-exp, correct, one
// after another.
type stats struct {
	dev backend.Tensor // [1,4n] for n rows at most
	n   int            // rows of the last call
}

func (a *allocator) stats(n int) stats { return stats{dev: a.floats(1, 4*n)} }

// part returns rows [lo, lo+k) of part i as a column.
func (t *stats) part(i, lo, k int) backend.Tensor {
	return t.dev.ColRange(i*t.n+lo, k).Reshape(k, 1)
}

// gradientOf returns the memory for the gradient of logits: their own unless activations
// have another type.
func (a *allocator) gradientOf(logits backend.Tensor) backend.Tensor {
	if a.act == a.float {
		return logits
	}
	return a.acts(logits.Rows, logits.Cols)
}

// crossEntropy fills rows [lo, lo+k) from logits [k,C] and labels [1,k]. With scale
// other than 0 it then sets dlogits, which may be logits, to their gradient times scale.
func (t *stats) crossEntropy(s *backend.Stream, lo int, dlogits, logits, labels backend.Tensor, scale float64) {
	k := logits.Rows
	lse := t.part(2, lo, k)
	s.CrossEntropy(backend.CrossEntropyArgs{Loss: t.part(0, lo, k), Entropy: t.part(1, lo, k), LSE: lse,
		Correct: t.part(3, lo, k), Logits: logits, Labels: labels})
	if scale != 0 {
		s.CrossEntropyBackward(backend.CrossEntropyBackwardArgs{DLogits: dlogits, Logits: logits, LSE: lse,
			Labels: labels, Scale: scale})
	}
}

// Heads runs the heads of obj on the representation after n layers, for the labels of
// the loaded batch. With scale 0 that is all. Otherwise the loss of the step is scale
// times the sum of the mean masked-LM loss over labelled rows, the mean next-sentence
// and the mean classification loss over labelled sequences, obj must be the model's
// objective, n the last layer, and the heads' gradients are added to and the trunk's
// left for Backward.
func (w *Workspace) Heads(n int, obj Objective, scale float64) error {
	m := w.m
	h := &m.heads
	var dx backend.Tensor
	if scale != 0 {
		if n != m.cfg.Layers || !w.opt.Grads || obj != m.objective {
			return fault.New(fault.Internal, "bert: gradients start with the objective at the last layer of a workspace for them")
		}
		if m.lowest <= m.cfg.Layers {
			dx = w.g0.RowRange(0, w.in.rows)
			m.s.Zero(dx)
		}
	}
	h.mlmStats.n, h.nspStats.n, h.classStats.n = 0, 0, 0
	x := w.Output(n)
	if obj.MLM && w.in.labelled > 0 {
		h.mlmLosses(m.s, dx, x, &w.in, scale/float64(w.in.labelled))
	}
	nsp, class := obj.NSP && w.in.hasNSP, obj.Classification && w.in.hasLabels
	if nsp || class {
		h.pooledLosses(m.s, dx, x, w, nsp, class, scale)
	}
	return m.s.Err()
}

// Pending are the results of a call of Heads on their way to the host.
type Pending struct {
	parts  [3]*backend.Readback // as heads.stats
	losses Losses
}

// stats are those of the masked LM, the next sentence and the classes.
func (h *heads) stats() [3]*stats { return [3]*stats{&h.mlmStats, &h.nspStats, &h.classStats} }

// NewPending allocates what the results of m need on their way.
func (m *Model) NewPending() (*Pending, error) {
	p := &Pending{}
	for i, t := range m.heads.stats() {
		var err error
		if p.parts[i], err = m.s.NewReadback(t.dev.Len()); err != nil {
			return nil, errors.Join(err, p.Free())
		}
	}
	return p, nil
}

// Free returns the memory.
func (p *Pending) Free() error {
	if p == nil {
		return nil
	}
	return errors.Join(p.parts[0].Free(), p.parts[1].Free(), p.parts[2].Free())
}

// Fetch starts to copy the results of the last Heads. p must not be in use.
func (m *Model) Fetch(p *Pending) {
	for i, t := range m.heads.stats() {
		p.parts[i].Start(m.s, t.dev.ColRange(0, 4*t.n))
	}
}

// Wait waits for the results, but not for later work. They are valid until the next Fetch
// of p.
func (p *Pending) Wait() (*Losses, error) {
	l := &p.losses
	for i, to := range [3]*RowLosses{&l.MLM, &l.NSP, &l.Class} {
		h, err := p.parts[i].Wait()
		if err != nil {
			return nil, err
		}
		n := len(h) / 4
		*to = RowLosses{Loss: h[:n], Entropy: h[n : 2*n], Correct: h[3*n:]}
	}
	return l, nil
}

// Losses waits for the last Heads and returns its results, valid until the next call.
func (m *Model) Losses() (*Losses, error) {
	m.Fetch(m.heads.pending)
	return m.heads.pending.Wait()
}
