package bert

import "sift/backend"

// feedForward is the second half of a block:
//
//	U = gelu(x Wi^T + bi);  y = LayerNorm(x + dropout(U Wo^T + bo))
type feedForward struct {
	up, down linear // [I,H], [H,I]
	norm     norm
	act      backend.Activation
	site     uint32
}

// feedForwardActs is what the forward pass keeps. pre may be absent if there is no
// backward pass.
type feedForwardActs struct {
	pre, u backend.Tensor // [T,I]
	norm   normActs
}

func (a feedForwardActs) rows(n int) feedForwardActs {
	if !a.pre.Absent() {
		a.pre = a.pre.RowRange(0, n)
	}
	return feedForwardActs{a.pre, a.u.RowRange(0, n), a.norm.rows(n)}
}

// forward sets y [T,H] from x [T,H]; tmp [T,H] is scratch.
func (l *feedForward) forward(s *backend.Stream, y, x, tmp backend.Tensor, a feedForwardActs, p *pass) {
	l.up.forward(s, a.u, x, l.act, a.pre)
	l.down.forward(s, tmp, a.u, backend.Linear, backend.Tensor{})
	l.norm.forward(s, y, tmp, x, a.norm, p.drop(l.site+SiteOutput))
}

// backward sets dx [T,H] to the gradient of x given dy [T,H]. t1 [T,H] and du [T,I]
// are scratch.
func (l *feedForward) backward(s *backend.Stream, dx, dy, x, t1, du backend.Tensor, a feedForwardActs, p *pass) {
	dout := l.norm.backward(s, dx, t1, dy, a.norm, p.drop(l.site+SiteOutput))
	l.down.backward(s, du, dout, a.u, 0)
	s.GeluBackward(du, du, a.pre, l.act)
	l.up.backward(s, dx, du, x, 1) // on top of the residual's gradient
}
