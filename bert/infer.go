package bert

import (
	"slices"

	"sift/backend"
	"sift/fault"
)

// run takes b through the first n layers without dropout.
func (m *Model) run(b *Batch, n int) error {
	if err := m.infer.Load(b); err != nil {
		return err
	}
	m.infer.Embed(Mode{})
	m.infer.Encode(0, n)
	return m.s.Err()
}

// fetch downloads t to dst[:0], grown if it is too short.
func (m *Model) fetch(dst []float32, t backend.Tensor) ([]float32, error) {
	dst = slices.Grow(dst[:0], t.Len())[:t.Len()]
	return dst, m.s.DownloadF32(dst, t)
}

// Hidden runs b without dropout and returns the representation [T,Hidden] after n
// layers (0: the embeddings) in dst[:0], which is grown if it is too short.
func (m *Model) Hidden(b *Batch, n int, dst []float32) ([]float32, error) {
	if n < 0 || n > m.cfg.Layers {
		return nil, fault.New(fault.Data, "model: no layer %d of %d", n, m.cfg.Layers)
	}
	if err := m.run(b, n); err != nil {
		return nil, err
	}
	return m.fetch(dst, m.infer.Output(n))
}

func (m *Model) runPooled(b *Batch, has bool, what string) (pooledScratch, error) {
	if !has {
		return pooledScratch{}, fault.New(fault.Data, "model: it has no %s", what)
	}
	if err := m.run(b, m.cfg.Layers); err != nil {
		return pooledScratch{}, err
	}
	p := m.heads.p.rows(b.Seqs)
	m.heads.pool(m.s, &p, m.infer.Output(m.cfg.Layers), &m.infer.in)
	return p, nil
}

// Pooled is Hidden for tanh(pooler(h_CLS)), [S,Hidden].
func (m *Model) Pooled(b *Batch, dst []float32) ([]float32, error) {
	p, err := m.runPooled(b, m.cfg.HasPooler, "pooler")
	if err != nil {
		return nil, err
	}
	return m.fetch(dst, p.pooled)
}

// NSPLogits is Hidden for the next-sentence logits, [S,2].
func (m *Model) NSPLogits(b *Batch, dst []float32) ([]float32, error) {
	p, err := m.runPooled(b, m.cfg.HasNSP, "next-sentence head")
	if err != nil {
		return nil, err
	}
	m.heads.nsp.forward(m.s, p.nsp, p.pooled, backend.Linear, backend.Tensor{})
	return m.fetch(dst, p.nsp)
}

// Classify is Hidden for the classifier's logits, [S,Classes].
func (m *Model) Classify(b *Batch, dst []float32) ([]float32, error) {
	p, err := m.runPooled(b, m.cfg.Classes > 0, "classifier")
	if err != nil {
		return nil, err
	}
	m.heads.classify(m.s, &p, backend.Drop{})
	return m.fetch(dst, p.class)
}

// ClassLogits downloads the classifier's logits [S,Classes] of the last Heads without
// gradients, which ran on seqs sequences.
func (m *Model) ClassLogits(seqs int, dst []float32) ([]float32, error) {
	return m.fetch(dst, m.heads.p.rows(seqs).class)
}

// MLMLogits is Hidden for the masked-LM logits [len(rows),Vocab] of rows of b.
func (m *Model) MLMLogits(b *Batch, rows []int32, dst []float32) ([]float32, error) {
	if !m.cfg.HasMLM {
		return nil, fault.New(fault.Data, "model: it has no masked-LM head")
	}
	for _, r := range rows {
		if r < 0 || int(r) >= b.Rows {
			return nil, fault.New(fault.Data, "batch: no row %d of %d", r, b.Rows)
		}
	}
	if err := m.run(b, m.cfg.Layers); err != nil {
		return nil, err
	}
	h, x, v := &m.heads, m.infer.Output(m.cfg.Layers), m.cfg.Vocab
	dst = slices.Grow(dst[:0], len(rows)*v)[:len(rows)*v]
	chunk := min(h.m.x.Rows, m.infer.take.Cols)
	for lo := 0; lo < len(rows); lo += chunk {
		k := min(chunk, len(rows)-lo)
		index := m.infer.take.ColRange(0, k)
		if err := m.s.UploadI32(index, rows[lo:lo+k]); err != nil {
			return nil, err
		}
		c := h.m.rows(k)
		h.mlm.forward(m.s, &c, x, index)
		if err := m.s.DownloadF32(dst[lo*v:(lo+k)*v], c.logits); err != nil {
			return nil, err
		}
	}
	return dst, nil
}
