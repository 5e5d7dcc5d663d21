package bert

import (
	"sift/backend"
	"sift/fault"
)

// block is one layer of the trunk, attention then feed-forward.
type block struct {
	attention attention
	ff        feedForward
}

// Embed sets the trunk's input from the loaded batch and fixes the mode of all that
// follows until the next Embed or Take.
func (w *Workspace) Embed(mode Mode) {
	w.pass.mode = mode
	n := w.in.rows
	w.m.embeddings.forward(w.m.s, w.x[0].RowRange(0, n), &w.in, w.embed.rows(n), w.pass.drop(SiteEmbeddings))
}

// Encode runs layers from .. to-1, from the representation that layer from-1 left.
func (w *Workspace) Encode(from, to int) {
	s, t := w.m.s, w.in.rows
	tmp := w.tmp.RowRange(0, t)
	for n := from; n < to; n++ {
		b, a := &w.m.blocks[n], &w.acts[n]
		y1 := a.y1.RowRange(0, t)
		b.attention.forward(s, y1, w.x[n].RowRange(0, t), tmp, a.attention.rows(t), &w.pass)
		b.ff.forward(s, w.x[n+1].RowRange(0, t), y1, tmp, a.ff.rows(t), &w.pass)
	}
}

// Output returns the representation [T,H] after n layers; 0 is the embeddings. Below
// the lowest trainable stage only the last one computed is still there.
func (w *Workspace) Output(n int) backend.Tensor { return w.x[n].RowRange(0, w.in.rows) }

// Take copies from src, row by row, all that Embed and Encode(0, layers) would have
// computed for the loaded batch, whose row i is row rows[i] of src. It takes over src's
// mode. src must keep activations as w does.
func (w *Workspace) Take(src *Workspace, rows []int32, layers int) error {
	if len(rows) != w.in.rows || w.lowest != src.lowest || layers > src.opt.Layers {
		return fault.New(fault.Internal, "bert: cannot take %d rows and %d layers from a workspace of another kind", len(rows), layers)
	}
	w.pass.mode = src.pass.mode
	s, t := w.m.s, w.in.rows
	index := w.take.ColRange(0, t)
	if err := s.UploadI32(index, rows); err != nil {
		return err
	}
	g := gather{s, index, t, src.in.rows}
	if w.lowest == StageEmbeddings {
		g.norm(w.embed, src.embed)
	}
	for n := range layers {
		if !w.keeps(n) {
			continue
		}
		to, from := &w.acts[n], &src.acts[n]
		g.rows(w.x[n], src.x[n])
		g.rows(to.attention.qkv, from.attention.qkv)
		g.rows(to.attention.o, from.attention.o)
		g.rows(to.attention.lse, from.attention.lse)
		g.norm(to.attention.norm, from.attention.norm)
		g.rows(to.y1, from.y1)
		g.rows(to.ff.pre, from.ff.pre)
		g.rows(to.ff.u, from.ff.u)
		g.norm(to.ff.norm, from.ff.norm)
	}
	g.rows(w.x[layers], src.x[layers])
	return s.Err()
}

// gather copies rows between workspaces.
type gather struct {
	s        *backend.Stream
	index    backend.Tensor
	to, from int // rows in use
}

func (g *gather) rows(dst, src backend.Tensor) {
	g.s.GatherRows(dst.RowRange(0, g.to), src.RowRange(0, g.from), g.index)
}

func (g *gather) norm(dst, src normActs) {
	g.rows(dst.Z, src.Z)
	g.rows(dst.Mean, src.Mean)
	g.rows(dst.Rstd, src.Rstd)
}

// Backward carries the gradient that Heads left at the last layer down to the lowest
// trainable stage, adding to the gradients of all trainable parameters on the way.
// Every layer must have run in this workspace, or been taken.
func (w *Workspace) Backward() error {
	m, t := w.m, w.in.rows
	c := m.cfg
	if m.lowest > c.Layers {
		return m.s.Err()
	}
	if !w.opt.Grads || w.opt.Layers != c.Layers || w.lowest > m.lowest {
		return fault.New(fault.Internal, "bert: this workspace keeps too little for the backward pass")
	}
	g0, g1, g2 := w.g0.RowRange(0, t), w.g1.RowRange(0, t), w.g2.RowRange(0, t)
	du, dqkv := view(w.big, t, c.Intermediate), view(w.big, t, 3*c.Hidden)
	delta := w.delta.RowRange(0, t)
	for n := c.Layers - 1; n >= 0 && n+1 >= m.lowest; n-- {
		b, a := &m.blocks[n], &w.acts[n]
		b.ff.backward(m.s, g1, g0, a.y1.RowRange(0, t), g2, du, a.ff.rows(t), &w.pass)
		b.attention.backward(m.s, g0, g1, w.x[n].RowRange(0, t), g2, dqkv, delta, a.attention.rows(t), &w.pass, n+1 == m.lowest)
	}
	if m.lowest == StageEmbeddings {
		m.embeddings.backward(m.s, g1, g0, &w.in, w.embed.rows(t), w.pass.drop(SiteEmbeddings))
	}
	return m.s.Err()
}
