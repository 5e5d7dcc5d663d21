package onnx

import "sort"

// embeddings is LayerNorm(word[ids] + position[0..S-1] + type[types]).
type embeddings struct {
	word, position constant
	types          *constant
	offset         int64 // of the first position in its table
	typeRepeat     int64 // the type row is stored this many times, 0 if it is a table
	repeat         int64 // the position table is stored this many times, 0 if once
	ids, typeIDs   string
	positionIDs    string // a graph input, usually absent
	norm           *norm
}

// indexKind says what a table is indexed by.
type indexKind uint8

const (
	indexOther   indexKind = iota
	indexInput             // a graph input
	indexArange            // offset, offset+1, ... along the sequence
	indexZeros             // all zeros
	indexCounted           // positions counted over tokens that are not padding (RoBERTa)
)

type index struct {
	kind   indexKind
	input  string
	offset int64
}

// indexOf says what an integer value is, as an index into a table.
func (m *matcher) indexOf(value string) index {
	if x, seen := m.indexes[value]; seen {
		return x
	}
	done, ok := m.deeper()
	defer done()
	if !ok {
		return index{}
	}
	x := m.indexFrom(value)
	m.indexes[value] = x
	return x
}

func (m *matcher) indexFrom(value string) index {
	if m.input(value) != nil {
		return index{kind: indexInput, input: value}
	}
	if c, ok := m.constantValue(value); ok {
		return m.constantIndex(c)
	}
	n := m.writer(value)
	if n == nil || n.Domain != "" || len(n.Inputs) == 0 {
		return index{}
	}
	switch n.OpType {
	case "Identity", "Cast", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Tile", "Transpose":
		return m.indexOf(in(n, 0))
	case "Slice":
		x := m.indexOf(in(n, 0))
		if x.kind == indexArange {
			_, from, _, ok := m.sliceRange(n)
			if !ok || !from.known || from.v < 0 {
				return index{}
			}
			x.offset += from.v
		}
		return x
	case "Range":
		from, ok := m.scalar(in(n, 0))
		step, ok2 := m.scalar(in(n, 2))
		if ok && ok2 && step == 1 {
			return index{kind: indexArange, offset: int64(from)}
		}
	case "NonZero": // how arange was written before Range
		if one, ok := m.uniform(in(n, 0)); ok && one != 0 {
			return index{kind: indexArange}
		}
	case "ConstantOfShape":
		if v, ok := m.uniform(value); ok && v == 0 {
			return index{kind: indexZeros}
		}
	case "CumSum": // over a mask of tokens
		return index{kind: indexCounted}
	case "Mul":
		for _, v := range n.Inputs {
			if x := m.indexOf(v); x.kind == indexCounted {
				return x
			}
		}
		if v, ok := m.uniform(value); ok && v == 0 {
			return index{kind: indexZeros}
		}
	case "Add", "Sub":
		for i, v := range n.Inputs {
			k, ok := m.scalar(v)
			x := m.indexOf(n.Inputs[len(n.Inputs)-1-i])
			if ok && (x.kind == indexArange || x.kind == indexCounted) && (n.OpType == "Add" || i == 1) {
				if n.OpType == "Sub" {
					k = -k
				}
				x.offset += int64(k)
				return x
			}
		}
		if x := m.indexOf(in(n, 0)); x.kind == indexCounted { // plus a computed zero, as in decoders
			return x
		}
	}
	return index{}
}

// constantIndex reads a table of positions or of zeros.
func (m *matcher) constantIndex(c constant) index {
	if !c.t.DType.IsInteger() || c.t.Len == 0 || c.t.Len > mostUniform || len(c.dims) == 0 {
		return index{}
	}
	row := c.dims[len(c.dims)-1]
	v, err := m.f.ReadInt64(c.t)
	if err != nil || row == 0 {
		return index{}
	}
	zeros, arange := true, true
	for i, x := range v {
		zeros = zeros && x == 0
		arange = arange && x == v[0]+int64(i)%row
	}
	switch {
	case arange && (row > 1 || !zeros) && v[0] >= 0:
		return index{kind: indexArange, offset: v[0]}
	case zeros:
		return index{kind: indexZeros}
	}
	return index{}
}

// lookup is a table and what indexes it.
type lookup struct {
	table constant
	index index
	node  *Node
}

// lookupAt recognises Gather(table, indices).
func (m *matcher) lookupAt(value string) (l lookup, ok bool) {
	n := m.writer(m.skip(value))
	if !is(n, "Gather") || n.Int("axis", 0) != 0 {
		return l, false
	}
	table, ok := m.constantOf(n, 0)
	if !ok || !table.isMatrix() || table.transposed {
		return l, false
	}
	return lookup{table, m.indexOf(in(n, 1)), n}, true
}

// findEmbeddings looks for the first LayerNorm over a sum with a table that a graph input
// indexes.
func (m *matcher) findEmbeddings() (e embeddings, err error) {
	for _, x := range m.norms {
		if x.embed != nil {
			return m.fusedEmbeddings(x)
		}
		for _, term := range x.sum.terms {
			if l, ok := m.lookupAt(term); ok && l.index.kind == indexInput {
				return m.embeddingsAt(x)
			}
		}
	}
	// Nothing fits: say how far the tokens' way leads.
	for i := range m.f.Nodes {
		n := &m.f.Nodes[i]
		if !is(n, "Gather") || first(n) == "" {
			continue
		}
		l, ok := m.lookupAt(first(n))
		if !ok || l.index.kind != indexInput {
			continue
		}
		value := first(n)
		for steps := 0; steps < 16; steps++ {
			readers := m.readersOf(value)
			if len(readers) == 0 {
				return e, m.misfitNode(n, "embeddings: a LayerNorm over the sum of tables", "nothing that reads the sum")
			}
			n = readers[0]
			if !is(n, "Add") {
				break
			}
			value = first(n)
		}
		return e, m.misfitNode(n, "embeddings: a LayerNorm over the sum of word, position and type tables", describe(n))
	}
	return e, m.misfitNode(&m.f.Nodes[0], "embeddings: a Gather from a weight table by a graph input somewhere in the graph", "none")
}

func (m *matcher) embeddingsAt(x *norm) (e embeddings, err error) {
	e.norm = x
	if x.sum.bias != nil {
		// A vector among the terms: one type row without batch and sequence axes.
		e.types = x.sum.bias
		e.typeRepeat = 1
	}
	var byInput []lookup
	positions := 0
	setPosition := func(c constant, offset int64) {
		e.position, e.offset = c, offset
		positions++
	}
	for _, term := range x.sum.terms {
		expected := "embeddings: word, position and type tables, added"
		if l, ok := m.lookupAt(term); ok {
			switch l.index.kind {
			case indexInput:
				byInput = append(byInput, l)
			case indexArange, indexCounted:
				setPosition(l.table, l.index.offset)
				if l.index.kind == indexCounted {
					e.offset++ // counting starts at 1
				}
			case indexZeros:
				if e.types != nil {
					return e, m.misfitNode(l.node, expected, "two type tables")
				}
				e.types = &l.table
			default:
				return e, m.misfit(in(l.node, 1), "embeddings: indices from a graph input, positions or zeros")
			}
			continue
		}
		c, offset, whole, ok := m.tableAt(term)
		if !ok {
			return e, m.misfit(term, expected)
		}
		copies, oneRow := m.folded(c)
		oneRow = oneRow && !whole
		switch {
		case copies == 0:
			return e, m.misfit(term, "embeddings: the same positions in every sequence")
		case oneRow && e.types == nil && (copies > 1 || rows(c) > 1 || positions > 0):
			e.types, e.typeRepeat = &c, int64(rows(c))
			continue
		case copies > 1:
			e.repeat = copies
		}
		setPosition(c, offset)
	}
	return e, m.assignTables(&e, x, byInput, positions)
}

// assignTables decides which of the tables indexed by inputs is which: the type table has
// the fewest rows; of the others the first input holds the tokens.
func (m *matcher) assignTables(e *embeddings, x *norm, byInput []lookup, positions int) error {
	expected := "embeddings: one table each of words, positions and perhaps types"
	limit := 3
	if e.types != nil {
		limit--
	}
	if positions > 0 {
		limit--
	}
	if positions > 1 || len(byInput) > limit || positions == 0 && len(byInput) < 2 {
		return m.misfitNode(x.node, expected, itoa(int64(positions))+" of positions and "+itoa(int64(len(byInput)))+" indexed by inputs")
	}
	sort.SliceStable(byInput, func(i, j int) bool { return byInput[i].table.dims[0] > byInput[j].table.dims[0] })
	if e.types == nil && len(byInput) > 1 && (positions > 0 || len(byInput) == 3) {
		last := byInput[len(byInput)-1]
		e.types, e.typeIDs = &last.table, last.index.input
		byInput = byInput[:len(byInput)-1]
	}
	if len(byInput) == 2 {
		a, b := byInput[0], byInput[1]
		if m.inputs[b.index.input] < m.inputs[a.index.input] {
			a, b = b, a
		}
		byInput = []lookup{a}
		e.position, e.positionIDs = b.table, b.index.input
	}
	e.word, e.ids = byInput[0].table, byInput[0].index.input
	return m.sameWidth(e, x)
}

// sameWidth holds the tables and the LayerNorm against one another.
func (m *matcher) sameWidth(e *embeddings, x *norm) error {
	h := e.word.dims[1]
	for _, c := range []*constant{&e.position, e.types} {
		if c != nil && c.dims[len(c.dims)-1] != h {
			return m.misfitNode(x.node, "embeddings: tables of "+itoa(h)+" columns", dimsString(c.dims))
		}
	}
	if x.width != h {
		return m.misfitNode(x.node, "embeddings: a LayerNorm of "+itoa(h)+" elements", itoa(x.width))
	}
	return nil
}

// tableAt recognises a table that is added as it stands: rows from offset of the whole
// position table, or what folding left of a lookup, [S,H] or [B,S,H].
func (m *matcher) tableAt(value string) (c constant, offset int64, whole, ok bool) {
	value = m.skip(value)
	n := m.writer(value)
	switch {
	case is(n, "Slice"):
		c, ok = m.constantOf(n, 0)
		axis, from, _, ok2 := m.sliceRange(n)
		if !ok || !ok2 || !from.known || from.v < 0 || int(axis) != len(c.dims)-2 {
			return c, 0, false, false
		}
		offset, whole = from.v, true
	case n != nil && (n.OpType == "Unsqueeze" || n.OpType == "Expand") && n.Domain == "":
		return m.tableAt(in(n, 0))
	default:
		if c, ok = m.constantValue(value); !ok {
			return c, 0, false, false
		}
		c.at = m.readAt(value)
	}
	return c, offset, whole, len(c.dims) >= 2 && len(c.dims) <= 3 && c.t.DType.IsFloat() && !c.transposed
}

// readAt returns the first input that reads value.
func (m *matcher) readAt(value string) use {
	if r := m.g.readers[value]; len(r) > 0 {
		return r[0]
	}
	return use{-1, -1}
}

// folded looks at a table [..,S,H] that stands for a lookup: how many equal copies [S,H] it
// is, 0 if they differ, and whether all its rows are equal.
func (m *matcher) folded(c constant) (copies int64, oneRow bool) {
	n := len(c.dims)
	block := c.dims[n-1] * c.dims[n-2]
	if c.t.Len == 0 || c.t.Len > mostUniform {
		return 0, false
	}
	v, err := m.f.ReadFloat32(c.t)
	if err != nil {
		return 0, false
	}
	copies, oneRow = c.t.Len/block, true
	for i := range v {
		if v[i] != v[int64(i)%block] {
			copies = 0
		}
		oneRow = oneRow && v[i] == v[int64(i)%c.dims[n-1]]
	}
	return copies, oneRow
}
