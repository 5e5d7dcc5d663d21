package onnx

// The fused operations that ONNX Runtime's transformer optimiser writes in the domain
// com.microsoft: EmbedLayerNormalization and Attention. SkipLayerNormalization, BiasGelu,
// FastGelu, FusedMatMul and FusedGemm are read where their plain forms are.

// embedNorm reads EmbedLayerNormalization(ids, types, word, position, type table, gamma,
// beta[, mask]) as a LayerNorm whose sum is the node itself.
func (m *matcher) embedNorm(n *Node) *norm {
	gamma, ok := m.constantOf(n, 5)
	beta, ok2 := m.constantOf(n, 6)
	if !ok || !ok2 {
		return nil
	}
	return &norm{embed: n, gamma: gamma, beta: beta, eps: n.Float("epsilon", 1e-12)}
}

// fusedEmbeddings reads the tables of an EmbedLayerNormalization.
func (m *matcher) fusedEmbeddings(x *norm) (e embeddings, err error) {
	n := x.embed
	e.norm = x
	bad := func(what string) (embeddings, error) {
		return e, m.misfitNode(n, "embeddings: "+what, "another input")
	}
	ids := m.indexOf(in(n, 0))
	if ids.kind != indexInput {
		return bad("token ids from a graph input")
	}
	e.ids = ids.input
	var ok, ok2 bool
	e.word, ok = m.constantOf(n, 2)
	e.position, ok2 = m.constantOf(n, 3)
	if !ok || !ok2 || !e.word.isMatrix() || !e.position.isMatrix() || e.word.transposed || e.position.transposed {
		return bad("constant tables of words and positions")
	}
	if in(n, 4) != "" {
		types, ok := m.constantOf(n, 4)
		if !ok || !types.isMatrix() || types.transposed {
			return bad("a constant table of token types")
		}
		e.types = &types
		switch x := m.indexOf(in(n, 1)); {
		case x.kind == indexInput:
			e.typeIDs = x.input
		case x.kind != indexZeros && in(n, 1) != "":
			return bad("token types from a graph input, or zeros")
		}
	}
	if v := in(n, 8); v != "" {
		switch x := m.indexOf(v); x.kind {
		case indexInput:
			e.positionIDs = x.input
		case indexArange:
			e.offset = x.offset
		default:
			return bad("positions from a graph input, or counted")
		}
	}
	return e, m.sameWidth(&e, x)
}

// fusedAttention reads Attention(x, W [H,3H], b [3H][, mask [B,S]]).
func (m *matcher) fusedAttention(n *Node, x string) (a attention, err error) {
	const what = "attention"
	if !m.same(in(n, 0), x) {
		return a, m.misfitNode(n, what+" over the layer's input", "over "+quote(in(n, 0)))
	}
	w, ok := m.constantOf(n, 1)
	b, ok2 := m.constantOf(n, 2)
	if !ok || !ok2 || !w.isMatrix() || w.transposed || !b.isVector() || w.dims[1] != 3*w.dims[0] || b.t.Len != w.dims[1] {
		return a, m.misfitNode(n, what+": constant weights [H,3H] and biases [3H]", "others")
	}
	h := w.dims[0]
	if sizes, ok := n.Attr("qkv_hidden_sizes"); ok && !equalInts(sizes.Ints, []int64{h, h, h}) {
		return a, m.misfitNode(n, what+": query, key and value of one size", dimsString(sizes.Ints))
	}
	if n.Int("unidirectional", 0) != 0 || n.Int("do_rotary", 0) != 0 {
		return a, m.misfitNode(n, what+": in both directions, without rotation", "another kind")
	}
	for i := 4; i < len(n.Inputs); i++ {
		if n.Inputs[i] != "" {
			return a, m.misfitNode(n, what+": no past and no bias of its own", "input "+itoa(int64(i)))
		}
	}
	a.node, a.heads = n, n.Int("num_heads", 0)
	if a.heads <= 0 || h%a.heads != 0 {
		return a, m.misfitNode(n, what+": heads that divide "+itoa(h), itoa(a.heads))
	}
	a.size = h / a.heads
	if a.scale = n.Float("scale", 0); a.scale == 0 {
		a.scale = inverseRoot(a.size)
	}
	for i, l := range []*linear{&a.q, &a.k, &a.v} {
		part := &Slice{i * int(h), int(h)}
		*l = linear{x: x, w: w, stored: true, b: &b, out: h, in: h, node: n, slice: part}
	}
	if in(n, 3) == "" {
		return a, nil
	}
	mask, err := m.maskAt(in(n, 3))
	if err != nil {
		return a, m.misfitNode(n, what+" mask: zeros and ones [batch, length]", "another (lengths of sequences are not supported)")
	}
	if mask.at0 != 0 || mask.at1 != 1 || mask.rank != 2 || mask.input == "" {
		return a, m.misfitNode(n, what+" mask: zeros and ones [batch, length]", "another")
	}
	return a, a.setMask(m, n, mask.input, mask.key, n.Float("mask_filter_value", -10000))
}
