package bert

import "sift/backend"

// pooledScratch holds the heads on h_CLS: p = tanh(h_CLS Wp^T + bp), the next-sentence
// logits p Wn^T + bn, and the classifier's dropout(p) Wc^T + bc.
type pooledScratch struct {
	first, pre, pooled, dropped backend.Tensor // [S,H]
	nsp, class                  backend.Tensor // [S,2], [S,C]
	dnsp, dclass                backend.Tensor // the same; nsp and class themselves where activations have their type
	dpooled, dfirst             backend.Tensor // [S,H]
}

func (a *allocator) pooled(c Config, seqs int) pooledScratch {
	h := c.Hidden
	p := pooledScratch{first: a.acts(seqs, h), pre: a.acts(seqs, h), pooled: a.acts(seqs, h),
		dropped: a.acts(seqs, h), dpooled: a.acts(seqs, h), dfirst: a.acts(seqs, h)}
	if c.HasNSP {
		p.nsp = a.floats(seqs, 2)
		p.dnsp = a.gradientOf(p.nsp)
	}
	if c.Classes > 0 {
		p.class = a.floats(seqs, c.Classes)
		p.dclass = a.gradientOf(p.class)
	}
	return p
}

// rows returns the scratch for k sequences.
func (p pooledScratch) rows(k int) pooledScratch {
	for _, t := range [...]*backend.Tensor{&p.first, &p.pre, &p.pooled, &p.dropped, &p.nsp, &p.class, &p.dnsp, &p.dclass, &p.dpooled, &p.dfirst} {
		if !t.Absent() {
			*t = t.RowRange(0, k)
		}
	}
	return p
}

// pool leaves the pooled output of x [T,H] in p.
func (h *heads) pool(s *backend.Stream, p *pooledScratch, x backend.Tensor, in *inputs) {
	s.GatherRows(p.first, x, in.first)
	h.pooler.forward(s, p.pre, p.first, backend.Linear, backend.Tensor{})
	s.Tanh(p.pooled, p.pre)
}

// classify leaves the classifier's logits in p and returns its input, the pooled output
// after dropout.
func (h *heads) classify(s *backend.Stream, p *pooledScratch, d backend.Drop) backend.Tensor {
	in := p.pooled
	if d.P > 0 {
		in = p.dropped
		s.Dropout(in, p.pooled, d)
	}
	h.classifier.forward(s, p.class, in, backend.Linear, backend.Tensor{})
	return in
}

// pooledLosses runs the chosen heads on the first rows of x and, with scale other than
// 0, back again, adding to dx if present. There is no dropout before the next-sentence
// head, as in BERT.
func (h *heads) pooledLosses(s *backend.Stream, dx, x backend.Tensor, w *Workspace, nsp, class bool, scale float64) {
	in := &w.in
	p := h.p.rows(in.seqs)
	h.pool(s, &p, x, in)
	beta := 0.0 // the first head overwrites dpooled, the second adds
	if nsp {
		h.nsp.forward(s, p.nsp, p.pooled, backend.Linear, backend.Tensor{})
		h.nspStats.n = in.seqs
		k := scale / float64(max(in.nspCounted, 1))
		h.nspStats.crossEntropy(s, 0, p.dnsp, p.nsp, in.nspLabels, k)
		if scale != 0 {
			h.nsp.backward(s, p.dpooled, p.dnsp, p.pooled, beta)
			beta = 1
		}
	}
	if class {
		d := w.pass.dropKeyed(w.pass.mode.Dropout, SiteClassifier, in.firstKey)
		input := h.classify(s, &p, d)
		h.classStats.n = in.seqs
		k := scale / float64(max(in.labelsCounted, 1))
		h.classStats.crossEntropy(s, 0, p.dclass, p.class, in.labels, k)
		if scale != 0 {
			if d.P == 0 {
				h.classifier.backward(s, p.dpooled, p.dclass, input, beta)
			} else {
				h.classifier.backward(s, p.dfirst, p.dclass, input, 0)
				s.Dropout(p.dfirst, p.dfirst, d)
				if beta == 0 {
					s.Copy(p.dpooled, p.dfirst)
				} else {
					s.Add(p.dpooled, p.dfirst)
				}
			}
		}
	}
	if scale == 0 {
		return
	}
	s.TanhBackward(p.dpooled, p.dpooled, p.pooled)
	if dx.Absent() {
		h.pooler.backwardWeights(s, p.dpooled, p.first)
		return
	}
	h.pooler.backward(s, p.dfirst, p.dpooled, p.first, 0)
	s.ScatterAddRows(dx, p.dfirst, in.first)
}
