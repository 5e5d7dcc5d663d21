package onnx

// sum is a value taken apart into what was added up: at most one constant vector, and the
// other terms.
type sum struct {
	bias  *constant
	terms []string
}

// mostTerms bounds the sums that are taken apart; the embeddings have three terms.
const mostTerms = 8

// addends takes a value apart through Add. It stops at outputs of LayerNorms, which
// themselves end in an Add where they are decomposed. A second vector is left as a term.
func (m *matcher) addends(value string) sum {
	var s sum
	m.addendsInto(&s, value, 0)
	return s
}

func (m *matcher) addendsInto(s *sum, value string, depth int) {
	value = m.skip(value)
	n := m.writer(value)
	if m.normOf[value] != nil || !is(n, "Add") || len(n.Inputs) != 2 || depth > mostTerms || len(s.terms) >= mostTerms {
		s.terms = append(s.terms, value)
		return
	}
	for i := range n.Inputs {
		if c, ok := m.constantOf(n, i); ok && c.isVector() && s.bias == nil {
			s.bias = &c
			continue
		}
		m.addendsInto(s, n.Inputs[i], depth+1)
	}
}

// linear is y = x W^T + b.
type linear struct {
	x       string
	w       constant
	stored  bool // W as stored in the file is [in,out]
	b       *constant
	out, in int64
	node    *Node  // the MatMul or Gemm
	slice   *Slice // of W and b, set if they hold other maps too
}

// linearAt recognises a value as linear in rows: Gemm with a constant matrix, MatMul with
// a constant and an Add, both perhaps inside reshapes that flatten the rows.
func (m *matcher) linearAt(value, what string) (linear, error) {
	return m.linearOf(m.addends(m.strip(value)), value, what)
}

// linearOf recognises a sum of a product with a constant matrix and a bias. value and what
// are for the message.
func (m *matcher) linearOf(s sum, value, what string) (l linear, err error) {
	if len(s.terms) != 1 {
		return l, m.misfit(value, what+": one product with a weight matrix and a bias")
	}
	l.b = s.bias
	product := m.strip(s.terms[0])
	n := m.writer(product)
	if is(n, "Add") { // the reshape stood between two Adds
		inner := m.addends(product)
		if len(inner.terms) == 1 && (inner.bias == nil || l.b == nil) {
			if l.b == nil {
				l.b = inner.bias
			}
			product = m.strip(inner.terms[0])
			n = m.writer(product)
		}
	}
	expected := what + ": MatMul or Gemm with a constant matrix"
	switch {
	case is(n, "Gemm"), n != nil && n.Domain == microsoft && n.OpType == "FusedGemm" && first(n) == value:
		if n.Int("transA", 0) != 0 || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
			return l, m.misfitNode(n, expected, "Gemm with transA, alpha or beta")
		}
		if in(n, 2) != "" {
			c, ok := m.constantOf(n, 2)
			if !ok || !c.isVector() || l.b != nil {
				return l, m.misfitNode(n, what+": a bias", "one bias too many, or none that is constant")
			}
			l.b = &c
		}
		w, ok := m.constantOf(n, 1)
		if !ok || !w.isMatrix() {
			return l, m.misfitNode(n, expected, "Gemm without a constant matrix")
		}
		l.w = w
		l.setDims(n.Int("transB", 0) != 0)
	case is(n, "MatMul"):
		w, ok := m.constantOf(n, 1)
		if !ok || !w.isMatrix() {
			return l, m.misfitNode(n, expected, "MatMul without a constant matrix")
		}
		l.w = w
		l.setDims(false)
	default:
		return l, m.misfit(product, expected)
	}
	l.node = n
	l.x = m.strip(in(n, 0))
	if l.b == nil {
		return l, m.misfitNode(n, what+": a bias", "none")
	}
	if bias := l.b.dims[len(l.b.dims)-1]; bias != l.out {
		return l, m.misfitNode(n, what+": a bias of "+itoa(l.out)+" elements", itoa(bias))
	}
	return l, nil
}

// setDims notes how W is read, outFirst meaning [out,in].
func (l *linear) setDims(outFirst bool) {
	l.out, l.in = l.w.dims[1], l.w.dims[0]
	if outFirst {
		l.out, l.in = l.in, l.out
	}
	l.stored = outFirst == l.w.transposed
}
