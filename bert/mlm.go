package bert

import "sift/backend"

// mlmHead is logits = LayerNorm(gelu(x Wt^T + bt)) D^T + d on labelled rows only; D is
// the word embedding if tied.
type mlmHead struct {
	transform, decoder linear // [H,H], [V,H]
	norm               norm
	act                backend.Activation
}

// mlmScratch holds one chunk of rows on its way through the head and back. Chunks have
// a fixed number of rows that depends on the vocabulary alone, so that neither the size
// of a batch nor of memory changes the order of a sum.
type mlmScratch struct {
	chunk              int
	x, pre, u, y       backend.Tensor // [chunk,H]
	mean, rstd, logits backend.Tensor // [chunk,1], [chunk,1], [chunk,V]
	dlogits            backend.Tensor // [chunk,V]; logits itself where activations have their type
	dy, dz             backend.Tensor // [chunk,H]
}

// chunkLogits bounds the logits held at once: 64 MiB of float32.
const chunkLogits = 16 << 20

func chunkRows(vocab int) int { return min(512, max(16, chunkLogits/vocab/16*16)) }

func (a *allocator) mlm(c Config, labelled int) mlmScratch {
	m := mlmScratch{chunk: chunkRows(c.Vocab)}
	r, h := min(m.chunk, max(labelled, 16)), c.Hidden
	m.x, m.pre, m.u, m.y = a.acts(r, h), a.acts(r, h), a.acts(r, h), a.acts(r, h)
	m.mean, m.rstd, m.logits = a.floats(r, 1), a.floats(r, 1), a.floats(r, c.Vocab)
	m.dlogits = a.gradientOf(m.logits)
	m.dy, m.dz = a.acts(r, h), a.acts(r, h)
	return m
}

// rows returns the scratch for a chunk of k rows.
func (m mlmScratch) rows(k int) mlmScratch {
	for _, t := range [...]*backend.Tensor{&m.x, &m.pre, &m.u, &m.y, &m.mean, &m.rstd, &m.logits, &m.dlogits, &m.dy, &m.dz} {
		*t = t.RowRange(0, k)
	}
	return m
}

func (m *mlmScratch) acts() normActs { return normActs{m.u, m.mean, m.rstd} }

// forward leaves the logits of rows index [1,k] of x in c.
func (l *mlmHead) forward(s *backend.Stream, c *mlmScratch, x, index backend.Tensor) {
	s.GatherRows(c.x, x, index)
	l.transform.forward(s, c.u, c.x, l.act, c.pre)
	s.LayerNorm(backend.LayerNormArgs{Y: c.y, Mean: c.mean, Rstd: c.rstd, X: c.u,
		Gamma: l.norm.Gamma, Beta: l.norm.Beta, Eps: l.norm.Eps})
	l.decoder.forward(s, c.logits, c.y, backend.Linear, backend.Tensor{})
}

// backward takes c.dlogits and adds that of rows index to dx, if
// present.
func (l *mlmHead) backward(s *backend.Stream, c *mlmScratch, dx, index backend.Tensor) {
	l.decoder.backward(s, c.dy, c.dlogits, c.y, 0)
	l.norm.backward(s, c.dz, backend.Tensor{}, c.dy, c.acts(), backend.Drop{})
	s.GeluBackward(c.dz, c.dz, c.pre, l.act)
	if dx.Absent() {
		l.transform.backwardWeights(s, c.dz, c.x)
		return
	}
	l.transform.backward(s, c.dy, c.dz, c.x, 0)
	s.ScatterAddRows(dx, c.dy, index)
}

// mlmLosses runs the labelled rows of x [T,H] chunk by chunk, and with scale other than
// 0 back again at once: logits never exist for more than a chunk.
func (h *heads) mlmLosses(s *backend.Stream, dx, x backend.Tensor, in *inputs, scale float64) {
	h.mlmStats.n = in.labelled
	for lo := 0; lo < in.labelled; lo += h.m.chunk {
		k := min(h.m.chunk, in.labelled-lo)
		c := h.m.rows(k)
		index := in.mlmRows.ColRange(lo, k)
		h.mlm.forward(s, &c, x, index)
		h.mlmStats.crossEntropy(s, lo, c.dlogits, c.logits, in.mlmLabels.ColRange(lo, k), scale)
		if scale != 0 {
			h.mlm.backward(s, &c, dx, index)
		}
	}
}
