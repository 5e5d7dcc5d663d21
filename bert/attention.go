package bert

import (
	"math"

	"sift/backend"
)

// attention is the first half of a block:
//
//	[Q K V] = x Wqkv^T + bqkv;  O = Attention(Q, K, V);  y = LayerNorm(x + dropout(O Wo^T + bo))
//
// with dropout on the attention probabilities inside.
type attention struct {
	qkv, out linear // [3H,H], [H,H]
	norm     norm
	heads    int
	site     uint32 // of the probabilities; the output's is the next
}

// attentionActs is what the forward pass keeps.
type attentionActs struct {
	qkv, o, lse backend.Tensor // [T,3H], [T,H], [T,heads]
	norm        normActs
}

func (a attentionActs) rows(n int) attentionActs {
	return attentionActs{a.qkv.RowRange(0, n), a.o.RowRange(0, n), a.lse.RowRange(0, n), a.norm.rows(n)}
}

func (l *attention) scale(h int) float64 { return 1 / math.Sqrt(float64(h/l.heads)) }

// forward sets y [T,H] from x [T,H]; tmp [T,H] is scratch.
func (l *attention) forward(s *backend.Stream, y, x, tmp backend.Tensor, a attentionActs, p *pass) {
	l.qkv.forward(s, a.qkv, x, backend.Linear, backend.Tensor{})
	s.Attention(backend.AttentionArgs{Out: a.o, LSE: a.lse, QKV: a.qkv, Layout: p.layout, Heads: l.heads,
		Scale: l.scale(x.Cols), Drop: p.attentionDrop(l.site + SiteAttentionProbs)})
	l.out.forward(s, tmp, a.o, backend.Linear, backend.Tensor{})
	l.norm.forward(s, y, tmp, x, a.norm, p.drop(l.site+SiteAttentionOutput))
}

// backward turns dy [T,H], which is overwritten, into the gradient dx [T,H] of x. With
// last, nothing below needs dx and it holds scratch. t1 [T,H], dqkv [T,3H] and delta
// [T,heads] are scratch.
func (l *attention) backward(s *backend.Stream, dx, dy, x, t1, dqkv, delta backend.Tensor, a attentionActs, p *pass, last bool) {
	dout := l.norm.backward(s, dx, t1, dy, a.norm, p.drop(l.site+SiteAttentionOutput))
	do := dy // spent
	l.out.backward(s, do, dout, a.o, 0)
	s.AttentionBackward(backend.AttentionBackwardArgs{DQKV: dqkv, Delta: delta, DOut: do, Out: a.o, LSE: a.lse,
		QKV: a.qkv, Layout: p.layout, Heads: l.heads, Scale: l.scale(x.Cols),
		Drop: p.attentionDrop(l.site + SiteAttentionProbs)})
	if last {
		l.qkv.backwardWeights(s, dqkv, x)
		return
	}
	l.qkv.backward(s, dx, dqkv, x, 1) // on top of the residual's gradient
}
