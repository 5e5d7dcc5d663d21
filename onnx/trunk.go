package onnx

import (
	"math"

	"sift/backend"
)

// trunk is what was recognised: embeddings, layers, heads.
type trunk struct {
	m      *matcher
	embed  embeddings
	layers []layer
	states []string // the value after the embeddings and after each layer

	pooler     *linear
	pooled     string
	onPooled   []linear
	nsp        *linear
	classifier *linear
	token, qa  *linear
	mlm        *mlmHead
	outputs    []Output
	misfit     error // the first output that did not fit
}

// layer is one post-LayerNorm block.
type layer struct {
	attention    attention
	attended     linear
	norm1, norm2 *norm
	intermediate linear
	act          backend.Activation
	output       linear
}

func (t *trunk) last() string { return t.states[len(t.states)-1] }

func (t *trunk) vocab() int64 { return t.embed.word.dims[0] }

// matchTrunk follows the residual stream from the embeddings up.
func (t *trunk) matchTrunk() error {
	m := t.m
	var err error
	if t.embed, err = m.findEmbeddings(); err != nil {
		return err
	}
	t.states = []string{t.embed.norm.out}
	for {
		x := t.last()
		n := m.residualNorm(x)
		if n == nil {
			break
		}
		l, err := m.layerAt(x, n)
		if err != nil {
			return err
		}
		t.layers = append(t.layers, l)
		t.states = append(t.states, l.norm2.out)
	}
	if len(t.layers) == 0 {
		return m.noLayer(t.last())
	}
	return t.checkLayers()
}

// noLayer says what reads the embeddings instead of a layer.
func (m *matcher) noLayer(x string) error {
	for _, n := range m.readersOf(x) {
		if n.OpType != "Shape" {
			return m.misfitNode(n, "a layer on the embeddings: LayerNorm(x + attention(x))", describe(n)+" and no such sum")
		}
	}
	return m.misfit(x, "a layer on the embeddings, but nothing reads them; an embedding LayerNorm")
}

// residualNorm returns the first LayerNorm over a sum in which x is a term.
func (m *matcher) residualNorm(x string) *norm {
	if m.residual == nil {
		m.residual = map[string]*norm{}
		for _, n := range m.norms {
			if len(n.sum.terms) < 2 {
				continue
			}
			for _, term := range n.sum.terms {
				if term = m.strip(term); m.residual[term] == nil {
					m.residual[term] = n
				}
			}
		}
	}
	return m.residual[m.strip(x)]
}

// branchOf takes the residual x out of a LayerNorm's sum and recognises the rest as linear.
func (m *matcher) branchOf(n *norm, x, what string) (linear, error) {
	rest := sum{bias: n.sum.bias}
	found := false
	for _, term := range n.sum.terms {
		if !found && m.same(term, x) {
			found = true
			continue
		}
		rest.terms = append(rest.terms, term)
	}
	if len(rest.terms) != 1 {
		return linear{}, m.misfitNode(n.node, what+": x + linear(...)", itoa(int64(len(rest.terms)))+" other terms")
	}
	return m.linearOf(rest, rest.terms[0], what)
}

// layerAt recognises a block on x whose first LayerNorm is n.
func (m *matcher) layerAt(x string, n *norm) (l layer, err error) {
	l.norm1 = n
	if l.attended, err = m.branchOf(n, x, "attention output"); err != nil {
		return l, err
	}
	if l.attention, err = m.attentionAt(m.context(l.attended), x); err != nil {
		return l, err
	}
	if l.norm2 = m.residualNorm(n.out); l.norm2 == nil {
		return l, m.misfitNode(n.node, "a LayerNorm over x + feed-forward(x) behind this one", "none")
	}
	if l.output, err = m.branchOf(l.norm2, n.out, "feed-forward output"); err != nil {
		return l, err
	}
	if l.act, l.intermediate, err = m.activated(l.output.x, "feed-forward"); err != nil {
		return l, err
	}
	if !m.same(l.intermediate.x, n.out) {
		return l, m.misfitNode(l.intermediate.node, "feed-forward of the attention's output", "of "+quote(l.intermediate.x))
	}
	return l, nil
}

// context returns the value that enters the attention output's product. linear.x has gone
// back over the Reshape that merges the heads if its target did not show it.
func (m *matcher) context(l linear) string { return in(l.node, 0) }

// checkLayers holds the layers against one another.
func (t *trunk) checkLayers() error {
	m := t.m
	h := t.embed.norm.width
	lowest := &t.layers[0]
	for i := range t.layers {
		l := &t.layers[i]
		a := &l.attention
		if err := a.complete(m, h); err != nil {
			return err
		}
		for _, w := range []struct {
			l       *linear
			out, in int64
			name    string
		}{
			{&a.q, h, h, "query"}, {&a.k, h, h, "key"}, {&a.v, h, h, "value"}, {&l.attended, h, h, "attention output"},
			{&l.intermediate, lowest.intermediate.out, h, "feed-forward"}, {&l.output, h, lowest.intermediate.out, "feed-forward output"},
		} {
			if w.l.out != w.out || w.l.in != w.in {
				return m.misfitNode(w.l.node, w.name+": a matrix ["+itoa(w.out)+","+itoa(w.in)+"]", "["+itoa(w.l.out)+","+itoa(w.l.in)+"]")
			}
		}
		for _, n := range []*norm{l.norm1, l.norm2} {
			if n.width != h {
				return m.misfitNode(n.node, "a LayerNorm of "+itoa(h)+" elements", itoa(n.width))
			}
			if err := t.sameEps(n); err != nil {
				return err
			}
		}
		b := &lowest.attention
		switch {
		case a.heads != b.heads:
			return m.misfitNode(a.node, itoa(b.heads)+" heads as in the first layer", itoa(a.heads))
		case l.act != lowest.act:
			return m.misfitNode(l.output.node, "the GELU of the first layer", "the other kind")
		case a.mask != b.mask || a.maskValue != b.maskValue:
			return m.misfitNode(a.node, "the attention mask of the first layer", "another")
		}
	}
	return nil
}

// complete fills in what of heads and size the graph left open, and checks the scale.
func (a *attention) complete(m *matcher, h int64) error {
	if a.heads == 0 && a.size > 0 {
		a.heads = h / a.size
	}
	if a.size == 0 && a.heads > 0 {
		a.size = h / a.heads
	}
	if a.heads == 0 || a.heads*a.size != h {
		return m.misfitNode(a.node, "heads that divide "+itoa(h), itoa(a.heads)+" of "+itoa(a.size)+" elements")
	}
	want := inverseRoot(a.size)
	if math.Abs(a.scale-want) > 2e-3*want { // float16 constants are this coarse
		return m.misfitNode(a.node, "scores scaled by 1/sqrt("+itoa(a.size)+")", "another scale")
	}
	return nil
}

func inverseRoot(n int64) float64 { return 1 / math.Sqrt(float64(n)) }

func (t *trunk) sameEps(n *norm) error {
	want := t.embed.norm.eps
	if math.Abs(n.eps-want) > 1e-3*want {
		return t.m.misfitNode(n.node, "the epsilon of the first LayerNorm", "another")
	}
	return nil
}
