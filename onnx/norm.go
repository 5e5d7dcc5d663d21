package onnx

// norm is LayerNormalization over the last axis: out = (z - mean) / sqrt(var + eps) * gamma + beta.
type norm struct {
	node        *Node // the last one
	z           string
	sum         sum // z taken apart
	gamma, beta constant
	eps         float64
	out         string
	width       int64
	embed       *Node // set if the operation sums embeddings itself
}

// findNorms lists every LayerNorm of the graph, in order.
func (m *matcher) findNorms() {
	for i := range m.f.Nodes {
		n := &m.f.Nodes[i]
		var x *norm
		switch {
		case n.OpType == "LayerNormalization" && (n.Domain == "" || n.Domain == microsoft):
			x = m.fusedNorm(n)
		case is(n, "Add"):
			x = m.decomposedNorm(n)
		case n.Domain == microsoft && n.OpType == "SkipLayerNormalization":
			x = m.skipNorm(n)
		case n.Domain == microsoft && n.OpType == "EmbedLayerNormalization":
			x = m.embedNorm(n)
		}
		if x == nil || x.eps <= 0 || !x.gamma.isVector() || !x.beta.isVector() || x.gamma.t.Len != x.beta.t.Len {
			continue
		}
		x.node, x.width = n, x.gamma.t.Len
		x.out = first(n)
		m.norms = append(m.norms, x)
		m.normOf[x.out] = x
	}
}

// microsoft is the domain of ONNX Runtime's own operations.
const microsoft = "com.microsoft"

// fusedNorm reads LayerNormalization: the operation of opset 17, which ONNX Runtime also
// writes into older files.
func (m *matcher) fusedNorm(n *Node) *norm {
	gamma, ok := m.constantOf(n, 1)
	beta, ok2 := m.constantOf(n, 2)
	if !ok || !ok2 || !m.lastAxis(n.Int("axis", -1), in(n, 0)) {
		return nil
	}
	return &norm{z: in(n, 0), sum: m.addends(in(n, 0)), gamma: gamma, beta: beta, eps: n.Float("epsilon", 1e-5)}
}

// skipNorm reads LayerNorm(input + skip + bias).
func (m *matcher) skipNorm(n *Node) *norm {
	gamma, ok := m.constantOf(n, 2)
	beta, ok2 := m.constantOf(n, 3)
	if !ok || !ok2 || in(n, 1) == "" {
		return nil
	}
	var s sum
	if c, ok := m.constantOf(n, 4); ok && c.isVector() {
		s.bias = &c
	} else if in(n, 4) != "" {
		return nil
	}
	m.addendsInto(&s, in(n, 0), 0)
	m.addendsInto(&s, in(n, 1), 0)
	return &norm{sum: s, gamma: gamma, beta: beta, eps: n.Float("epsilon", 1e-12)}
}

// decomposedNorm reads Add(Mul(d / sqrt(mean(d^2) + eps), gamma), beta) with d = z - mean(z).
func (m *matcher) decomposedNorm(n *Node) *norm {
	beta, scaled, ok := m.withConstant(n)
	if !ok || !beta.isVector() {
		return nil
	}
	mul := m.writer(m.skip(scaled))
	if !is(mul, "Mul") {
		return nil
	}
	gamma, normal, ok := m.withConstant(mul)
	if !ok || !gamma.isVector() {
		return nil
	}
	d, variance, ok := m.normalised(m.writer(m.skip(normal)))
	if !ok {
		return nil
	}
	x := &norm{gamma: gamma, beta: beta}
	if x.z, ok = m.centred(d); !ok {
		return nil
	}
	if x.eps, ok = m.varianceOf(variance, x.z); !ok {
		return nil
	}
	x.sum = m.addends(x.z)
	return x
}

// withConstant splits a binary node into its constant operand and the other.
func (m *matcher) withConstant(n *Node) (c constant, other string, ok bool) {
	if n == nil || len(n.Inputs) != 2 {
		return c, "", false
	}
	for i := range n.Inputs {
		if c, ok := m.constantOf(n, i); ok {
			return c, n.Inputs[1-i], true
		}
	}
	return c, "", false
}

// normalised splits d / sqrt(v), d * (1 / sqrt(v)) and d * reciprocal(sqrt(v)).
func (m *matcher) normalised(n *Node) (d, v string, ok bool) {
	if is(n, "Div") {
		root := m.writer(m.skip(in(n, 1)))
		if is(root, "Sqrt") {
			return in(n, 0), in(root, 0), true
		}
	}
	if is(n, "Mul") && len(n.Inputs) == 2 {
		for i := range n.Inputs {
			inverse := m.writer(m.skip(n.Inputs[i]))
			var root *Node
			switch {
			case is(inverse, "Reciprocal"):
				root = m.writer(m.skip(in(inverse, 0)))
			case is(inverse, "Div"):
				if one, ok := m.scalar(in(inverse, 0)); ok && one == 1 {
					root = m.writer(m.skip(in(inverse, 1)))
				}
			}
			if is(root, "Sqrt") {
				return n.Inputs[1-i], in(root, 0), true
			}
		}
	}
	return "", "", false
}

// centred reads d = z - mean(z).
func (m *matcher) centred(d string) (z string, ok bool) {
	n := m.writer(m.skip(d))
	if !is(n, "Sub") || len(n.Inputs) != 2 {
		return "", false
	}
	z = m.skip(in(n, 0))
	mean := m.writer(m.skip(in(n, 1)))
	return z, m.meanOf(mean, z)
}

func (m *matcher) meanOf(n *Node, z string) bool {
	if !is(n, "ReduceMean") || n.Int("keepdims", 1) != 1 || m.skip(in(n, 0)) != z {
		return false
	}
	axes, ok := m.axesOf(n)
	return ok && len(axes) == 1 && m.lastAxis(axes[0], in(n, 0))
}

// lastAxis reports whether axis is the last one of value; activations have rank 3 where the
// graph does not say.
func (m *matcher) lastAxis(axis int64, value string) bool {
	if axis == -1 {
		return true
	}
	if d := m.shape(value); d != nil {
		return axis == int64(len(d)-1)
	}
	return axis == 2
}

// varianceOf reads v = mean(d^2) + eps with d = z - mean(z), and returns eps.
func (m *matcher) varianceOf(v, z string) (eps float64, ok bool) {
	add := m.writer(m.skip(v))
	if !is(add, "Add") || len(add.Inputs) != 2 {
		return 0, false
	}
	for i := range add.Inputs {
		eps, ok := m.scalar(add.Inputs[i])
		if !ok {
			continue
		}
		mean := m.writer(m.skip(add.Inputs[1-i]))
		if !is(mean, "ReduceMean") {
			return 0, false
		}
		square := m.writer(m.skip(in(mean, 0)))
		if !m.meanOf(mean, m.skip(in(mean, 0))) || square == nil || len(square.Inputs) != 2 {
			return 0, false
		}
		if two, ok := m.scalar(in(square, 1)); is(square, "Pow") && ok && two == 2 ||
			is(square, "Mul") && m.skip(in(square, 0)) == m.skip(in(square, 1)) {
			of, ok := m.centred(in(square, 0))
			return eps, ok && of == z
		}
		return 0, false
	}
	return 0, false
}
