package bert

import (
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
	losses                         Losses
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
	dev  backend.Tensor // [1,4n] for n rows at most
	host []float64
	n    int // rows of the last call
}

func (a *allocator) stats(n int) stats {
	return stats{dev: a.floats(1, 4*n), host: make([]float64, 4*n)}
}

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

func (t *stats) download(s *backend.Stream) (RowLosses, error) {
	n := t.n
	if n == 0 {
		return RowLosses{}, nil
	}
	h := t.host[:4*n]
	if err := s.DownloadF64(h, t.dev.ColRange(0, 4*n)); err != nil {
		return RowLosses{}, err
	}
	return RowLosses{Loss: h[:n], Entropy: h[n : 2*n], Correct: h[3*n:]}, nil
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

// Losses waits for the last Heads and returns its results, valid until the next.
func (m *Model) Losses() (*Losses, error) {
	h := &m.heads
	var err error
	if h.losses.MLM, err = h.mlmStats.download(m.s); err != nil {
		return nil, err
	}
	if h.losses.NSP, err = h.nspStats.download(m.s); err != nil {
		return nil, err
	}
	h.losses.Class, err = h.classStats.download(m.s)
	return &h.losses, err
}
