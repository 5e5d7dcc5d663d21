package onnx

import "math"

// maskValue is what a value computed from the attention mask holds where the mask is 0 and
// where it is 1. Operations that only move or repeat elements are followed by where the
// position of the key ends up.
type maskValue struct {
	at0, at1 float64
	input    string // the graph input, "" for a constant
	rank     int    // -1 unknown
	key      int    // axis of the key position counted from the last; -1 unknown
}

// maskAt evaluates value on both values of a mask element.
func (m *matcher) maskAt(value string) (maskValue, error) {
	if v, seen := m.masks[value]; seen {
		if v == nil {
			return maskValue{}, m.misfit(value, "attention mask: arithmetic on one mask of zeros and ones")
		}
		return *v, nil
	}
	done, ok := m.deeper()
	defer done()
	if !ok {
		return maskValue{}, m.misfit(value, "attention mask: a shorter way to the mask")
	}
	v, err := m.maskOf(value)
	if err != nil {
		m.masks[value] = nil
		return v, err
	}
	m.masks[value] = &v
	return v, nil
}

func (m *matcher) maskOf(value string) (maskValue, error) {
	if v := m.input(value); v != nil {
		rank := -1
		if v.HasShape {
			rank = len(v.Dims)
		}
		return maskValue{0, 1, value, rank, 0}, nil
	}
	if v, ok := m.uniform(value); ok {
		return maskValue{v, v, "", -1, -1}, nil
	}
	expected := "attention mask: arithmetic on one mask of zeros and ones"
	n := m.writer(value)
	if n == nil || n.Domain != "" || len(n.Inputs) == 0 {
		return maskValue{}, m.misfit(value, expected)
	}
	a, err := m.maskOperand(n)
	if err != nil {
		return a, err
	}
	switch n.OpType {
	case "Identity", "Dropout":
		return a, nil
	case "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Expand", "Tile", "Slice":
		return m.maskMoved(n, a), nil
	case "Cast":
		if to := DataType(n.Int("to", 0)); to == Bool {
			return a.each(func(x float64) float64 { return truth(x != 0) }), nil
		} else if to.IsInteger() {
			return a.each(math.Trunc), nil
		}
		return a, nil
	case "Not":
		return a.each(func(x float64) float64 { return truth(x == 0) }), nil
	case "Neg":
		return a.each(func(x float64) float64 { return -x }), nil
	case "Where":
		yes, err := m.maskAt(in(n, 1))
		if err != nil {
			return a, err
		}
		no, err := m.maskAt(in(n, 2))
		if err != nil {
			return a, err
		}
		pick := func(c, y, n float64) float64 {
			if c != 0 {
				return y
			}
			return n
		}
		out := a.with(yes).with(no)
		out.at0, out.at1 = pick(a.at0, yes.at0, no.at0), pick(a.at1, yes.at1, no.at1)
		if out.input == "?" {
			return out, m.misfit(value, expected)
		}
		return out, nil
	}
	op := binaryOp(n.OpType)
	if op == nil || len(n.Inputs) != 2 {
		return a, m.misfit(value, expected)
	}
	b, err := m.maskAt(in(n, 1))
	if err != nil {
		return b, err
	}
	out := a.with(b)
	out.at0, out.at1 = op(a.at0, b.at0), op(a.at1, b.at1)
	if out.input == "?" {
		return out, m.misfit(value, expected)
	}
	return out, nil
}

// maskOperand evaluates the first operand of n if n is an operation that maskOf knows;
// others are refused before their inputs are looked at.
func (m *matcher) maskOperand(n *Node) (maskValue, error) {
	switch n.OpType {
	case "Identity", "Dropout", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Expand", "Tile", "Slice", "Cast", "Not", "Neg", "Where":
	default:
		if binaryOp(n.OpType) == nil {
			return maskValue{}, m.misfitNode(n, "attention mask: arithmetic on one mask of zeros and ones", describe(n))
		}
	}
	return m.maskAt(in(n, 0))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// binaryOp returns the element-wise operation of that name, booleans being 0 and 1, or nil.
func binaryOp(name string) func(a, b float64) float64 {
	switch name {
	case "Add":
		return func(a, b float64) float64 { return a + b }
	case "Sub":
		return func(a, b float64) float64 { return a - b }
	case "Mul":
		return func(a, b float64) float64 { return a * b }
	case "Div":
		return func(a, b float64) float64 { return a / b }
	case "Equal":
		return func(a, b float64) float64 { return truth(a == b) }
	case "Greater":
		return func(a, b float64) float64 { return truth(a > b) }
	case "Less":
		return func(a, b float64) float64 { return truth(a < b) }
	case "GreaterOrEqual":
		return func(a, b float64) float64 { return truth(a >= b) }
	case "LessOrEqual":
		return func(a, b float64) float64 { return truth(a <= b) }
	case "And":
		return func(a, b float64) float64 { return truth(a != 0 && b != 0) }
	case "Or":
		return func(a, b float64) float64 { return truth(a != 0 || b != 0) }
	case "Min":
		return math.Min
	case "Max":
		return math.Max
	}
	return nil
}

func (v maskValue) each(f func(float64) float64) maskValue {
	v.at0, v.at1 = f(v.at0), f(v.at1)
	return v
}

// with combines the origin of two operands; two inputs, or one along two axes, give "?".
func (v maskValue) with(w maskValue) maskValue {
	switch {
	case v.input == "":
		v.input, v.key = w.input, w.key
	case w.input == "":
	case v.input != w.input || v.key != w.key:
		v.input = "?"
	}
	v.rank = max(v.rank, w.rank)
	return v
}

// maskMoved follows the key axis through an operation that moves elements.
func (m *matcher) maskMoved(n *Node, a maskValue) maskValue {
	if a.input == "" {
		return a
	}
	out := a
	lost := func() maskValue { out.rank, out.key = -1, -1; return out }
	switch n.OpType {
	case "Unsqueeze":
		axes, ok := m.axesOf(n)
		if !ok || a.rank < 0 || a.key < 0 {
			return lost()
		}
		out.rank = a.rank + len(axes)
		new := make([]bool, out.rank)
		for _, x := range axes {
			if x < 0 {
				x += int64(out.rank)
			}
			if x < 0 || x >= int64(out.rank) {
				return lost()
			}
			new[x] = true
		}
		old := -1
		for i := range new {
			if !new[i] {
				if old++; old == a.rank-1-a.key {
					out.key = out.rank - 1 - i
				}
			}
		}
	case "Squeeze":
		axes, ok := m.axesOf(n)
		if !ok || a.rank < 0 || a.key < 0 {
			return lost()
		}
		key := int64(a.rank - 1 - a.key)
		for _, x := range axes {
			if x < 0 {
				x += int64(a.rank)
			}
			if x == key {
				return lost()
			}
			if x > key {
				out.key--
			}
		}
		out.rank = a.rank - len(axes)
	case "Reshape":
		target, ok := m.integers(in(n, 1))
		if !ok || len(target) == 0 {
			return lost()
		}
		out.rank, out.key = len(target), 0
		if target[len(target)-1] == known(1) { // the key is not the last axis any more
			return lost()
		}
	case "Transpose":
		p := n.Attrs["perm"].Ints
		if a.rank < 0 || len(p) != a.rank || a.key < 0 {
			return lost()
		}
		for i, from := range p {
			if from == int64(a.rank-1-a.key) {
				out.key = a.rank - 1 - i
			}
		}
	case "Expand":
		if target, ok := m.integers(in(n, 1)); ok {
			out.rank = max(out.rank, len(target))
		}
	}
	return out
}
