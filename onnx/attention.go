package onnx

// attention is multi-head self-attention: softmax(scale q k^T + mask) v for each head.
type attention struct {
	q, k, v   linear
	heads     int64 // 0 if only size is known
	size      int64 // of a head, 0 if only heads is known
	scale     float64
	mask      string // the graph input, "" if there is none
	maskValue float64
	node      *Node // the product of probabilities and values
}

// attentionAt recognises value as the context of attention over x, [B,S,H].
func (m *matcher) attentionAt(value, x string) (a attention, err error) {
	const what = "attention"
	a.scale = 1
	// The heads are merged by Transpose(0,2,1,3) and Reshape.
	v := m.skip(value)
	n := m.writer(v)
	if n != nil && n.Domain == microsoft && n.OpType == "Attention" {
		return m.fusedAttention(n, x)
	}
	reshapes := 0
	for is(n, "Reshape") && reshapes < 3 {
		reshapes++
		v = m.skip(in(n, 0))
		n = m.writer(v)
	}
	if !is(n, "Transpose") || !isPerm(n, 0, 2, 1, 3) || reshapes == 0 {
		return a, m.misfit(v, what+": heads merged by Transpose 0,2,1,3 and Reshape")
	}
	v = m.skip(in(n, 0))
	if n = m.writer(v); !is(n, "MatMul") {
		return a, m.misfit(v, what+": MatMul of probabilities and values")
	}
	a.node = n
	values, err := m.headsAt(in(n, 1), what+" value", 0, 2, 1, 3)
	if err != nil {
		return a, err
	}
	if values.scale != 1 {
		return a, m.misfitNode(n, what+" value: no scale", "a scale")
	}
	scores, err := m.softmaxAt(in(n, 0))
	if err != nil {
		return a, err
	}
	q, k, err := m.scoresAt(&a, scores)
	if err != nil {
		return a, err
	}
	a.scale *= q.scale * k.scale
	for _, h := range []heads{q, k, values} {
		if err := a.agree(m, h); err != nil {
			return a, err
		}
	}
	for _, p := range []struct {
		from heads
		to   *linear
		name string
	}{{q, &a.q, "query"}, {k, &a.k, "key"}, {values, &a.v, "value"}} {
		l, err := m.linearAt(p.from.value, what+" "+p.name)
		if err != nil {
			return a, err
		}
		if !m.same(l.x, x) {
			return a, m.misfitNode(l.node, what+" "+p.name+": a linear map of the layer's input", "one of "+quote(l.x))
		}
		*p.to = l
	}
	return a, nil
}

func isPerm(n *Node, perm ...int64) bool { return equalInts(n.Attrs["perm"].Ints, perm) }

// agree notes the number and size of heads.
func (a *attention) agree(m *matcher, h heads) error {
	for _, p := range []struct {
		have *int64
		see  int64
		name string
	}{{&a.heads, h.heads, "heads"}, {&a.size, h.size, "elements a head"}} {
		if p.see > 0 && *p.have > 0 && p.see != *p.have {
			return m.misfitNode(h.node, "attention: "+itoa(*p.have)+" "+p.name, itoa(p.see))
		}
		if p.see > 0 {
			*p.have = p.see
		}
	}
	return nil
}

// heads is a linear map's output split into heads, and what scaled it on the way.
type heads struct {
	value       string // the linear map's output
	heads, size int64
	scale       float64
	node        *Node // the Reshape
}

// headsAt goes back from an operand of an attention product to the Reshape that splits
// heads. perm is the total permutation expected of [B,S,heads,size].
func (m *matcher) headsAt(value, what string, perm ...int64) (h heads, err error) {
	total := []int64{0, 1, 2, 3}
	h.scale = 1
	for steps := 0; steps < 16; steps++ {
		value = m.skip(value)
		n := m.writer(value)
		switch {
		case is(n, "Transpose"):
			p := n.Attrs["perm"].Ints
			if len(p) != 4 {
				return h, m.misfitNode(n, what+": a Transpose of four axes", "another")
			}
			for i := range total {
				if total[i] < 0 || p[total[i]] < 0 || p[total[i]] > 3 {
					return h, m.misfitNode(n, what+": a permutation", dimsString(p))
				}
				total[i] = p[total[i]]
			}
			value = in(n, 0)
		case is(n, "Reshape"):
			target, ok := m.integers(in(n, 1))
			if !ok || len(target) != 4 {
				return h, m.misfitNode(n, what+": Reshape to [batch, length, heads, size]", "another shape")
			}
			if !equalInts(total, perm) {
				return h, m.misfitNode(n, what+": axes in the order "+dimsString(perm)+" behind it", dimsString(total))
			}
			if target[2].known && target[2].v > 0 {
				h.heads = target[2].v
			}
			if target[3].known && target[3].v > 0 {
				h.size = target[3].v
			}
			h.value, h.node = in(n, 0), n
			return h, nil
		default:
			factor, next, ok := m.scaled(n)
			if !ok {
				return h, m.misfit(value, what+": a linear map split into heads by Reshape and Transpose")
			}
			h.scale *= factor
			value = next
		}
	}
	return h, m.misfit(value, what+": fewer steps")
}

// scaled reads x * c, c * x and x / c.
func (m *matcher) scaled(n *Node) (factor float64, x string, ok bool) {
	if n == nil || n.Domain != "" || len(n.Inputs) != 2 {
		return 0, "", false
	}
	switch n.OpType {
	case "Div":
		c, ok := m.scalar(in(n, 1))
		return 1 / c, in(n, 0), ok
	case "Mul":
		for i := range n.Inputs {
			if c, ok := m.scalar(n.Inputs[i]); ok {
				return c, n.Inputs[1-i], true
			}
		}
	}
	return 0, "", false
}

// softmaxAt goes back over the softmax along keys, and over the guard that newer
// exporters put behind it: Where(IsNaN(p), 0, p).
func (m *matcher) softmaxAt(value string) (scores string, err error) {
	value = m.skip(value)
	n := m.writer(value)
	if is(n, "Where") && len(n.Inputs) == 3 {
		guard := m.writer(in(n, 0))
		zero, ok := m.uniform(in(n, 1))
		if is(guard, "IsNaN") && m.skip(in(guard, 0)) == m.skip(in(n, 2)) && ok && zero == 0 {
			value = m.skip(in(n, 2))
			n = m.writer(value)
		}
	}
	if !is(n, "Softmax") {
		return "", m.misfit(value, "attention: Softmax")
	}
	otherwise := int64(-1)
	if m.f.Opset() < 13 {
		otherwise = 1
	}
	if axis := n.Int("axis", otherwise); axis != -1 && axis != 3 {
		return "", m.misfitNode(n, "attention: Softmax over the last of four axes", "axis "+itoa(axis))
	}
	return in(n, 0), nil
}

// scoresAt goes back over masks and scales to the product of queries and keys.
func (m *matcher) scoresAt(a *attention, value string) (q, k heads, err error) {
	for steps := 0; steps < 16; steps++ {
		value = m.skip(value)
		n := m.writer(value)
		switch {
		case is(n, "MatMul"):
			if q, err = m.headsAt(in(n, 0), "attention query", 0, 2, 1, 3); err != nil {
				return q, k, err
			}
			k, err = m.headsAt(in(n, 1), "attention key", 0, 2, 3, 1)
			return q, k, err
		case n != nil && n.Domain == microsoft && n.OpType == "FusedMatMul":
			return m.fusedScores(a, n)
		case is(n, "Add") && len(n.Inputs) == 2:
			i := 0
			if !m.leadsToScores(in(n, 0), 2) {
				i = 1
			}
			v, err := m.maskAt(n.Inputs[1-i])
			if err != nil {
				return q, k, err
			}
			if err := a.addMask(m, n, v); err != nil {
				return q, k, err
			}
			value = n.Inputs[i]
		case is(n, "Where") && len(n.Inputs) == 3:
			if value, err = m.whereMask(a, n); err != nil {
				return q, k, err
			}
		default:
			factor, x, ok := m.scaled(n)
			if !ok {
				return q, k, m.misfit(value, "attention: scores from MatMul, scaled and masked")
			}
			a.scale *= factor
			value = x
		}
	}
	return q, k, m.misfit(value, "attention: fewer steps between scores and Softmax")
}

// leadsToScores reports whether value is a product of two computed values, perhaps scaled
// or masked again (at most masks times): the operand of a masking Add that is not the mask.
func (m *matcher) leadsToScores(value string, masks int) bool {
	for steps := 0; steps < 16; steps++ {
		value = m.skip(value)
		n := m.writer(value)
		switch {
		case is(n, "MatMul"), n != nil && n.Domain == microsoft && n.OpType == "FusedMatMul":
			return true
		case is(n, "Add") && len(n.Inputs) == 2:
			return masks > 0 && (m.leadsToScores(in(n, 0), masks-1) || m.leadsToScores(in(n, 1), masks-1))
		case is(n, "Where") && len(n.Inputs) == 3:
			return masks > 0 && (m.leadsToScores(in(n, 1), masks-1) || m.leadsToScores(in(n, 2), masks-1))
		}
		_, x, ok := m.scaled(n)
		if !ok {
			return false
		}
		value = x
	}
	return false
}

// addMask notes a mask that is added to the scores: 0 where the key counts.
func (a *attention) addMask(m *matcher, n *Node, v maskValue) error {
	expected := "attention mask: 0 added for keys that count, a large negative number for others"
	if v.input == "" {
		if v.at0 != 0 {
			return m.misfitNode(n, expected, "the same number for all keys")
		}
		return nil
	}
	if v.at1 != 0 || !(v.at0 <= -1000) {
		return m.misfitNode(n, expected, "other numbers")
	}
	return a.setMask(m, n, v.input, v.key, v.at0)
}

func (a *attention) setMask(m *matcher, n *Node, input string, key int, low float64) error {
	if key != 0 {
		return m.misfitNode(n, "attention mask: spread so that it lies along the keys", "another axis")
	}
	if a.mask != "" && a.mask != input {
		return m.misfitNode(n, "attention mask: one mask", "two")
	}
	a.mask, a.maskValue = input, low
	return nil
}

// whereMask reads Where(masked, low, scores) and Where(kept, scores, low).
func (m *matcher) whereMask(a *attention, n *Node) (scores string, err error) {
	c, err := m.maskAt(in(n, 0))
	if err != nil {
		return "", err
	}
	kept, low := in(n, 2), in(n, 1)
	masked := 1.0
	if m.leadsToScores(in(n, 1), 2) {
		kept, low = low, kept
		masked = 0
	}
	fill, ok := m.uniform(low)
	if !ok || !(fill <= -1000) || c.input == "" || c.at0 != masked || c.at1 != 1-masked {
		return "", m.misfitNode(n, "attention mask: a large negative number in place of the scores where the mask is 0", "another choice")
	}
	return kept, a.setMask(m, n, c.input, c.key, fill)
}

// fusedScores reads com.microsoft:FusedMatMul, alpha op(a) op(b).
func (m *matcher) fusedScores(a *attention, n *Node) (q, k heads, err error) {
	if n.Int("transA", 0) != 0 || n.Int("transBatchA", 0) != 0 || n.Int("transBatchB", 0) != 0 {
		return q, k, m.misfitNode(n, "attention: queries as they are", "transA or transBatch")
	}
	a.scale *= n.Float("alpha", 1)
	if q, err = m.headsAt(in(n, 0), "attention query", 0, 2, 1, 3); err != nil {
		return q, k, err
	}
	perm := []int64{0, 2, 3, 1}
	if n.Int("transB", 0) != 0 {
		perm = []int64{0, 2, 1, 3}
	}
	k, err = m.headsAt(in(n, 1), "attention key", perm...)
	return q, k, err
}
