package onnx

import "math"

// constant is a tensor of the file as some node reads it: perhaps through Identity, Cast,
// Transpose, or a change of dimensions of 1.
type constant struct {
	t          *TensorRef
	name       string   // the initializer, or the output of the Constant node
	dims       []int64  // as read
	dtype      DataType // as read
	transposed bool     // a matrix, read as the transpose of what is stored
	at         use      // where it is read
}

// constantOf looks at input i of n. ok is false if it is not a stored tensor.
func (m *matcher) constantOf(n *Node, i int) (c constant, ok bool) {
	c, ok = m.constantValue(in(n, i))
	c.at = use{n.Index, i}
	return c, ok
}

func (m *matcher) constantValue(value string) (c constant, ok bool) {
	done, ok := m.deeper()
	defer done()
	if !ok || value == "" {
		return c, false
	}
	if t := m.f.byName[value]; t != nil {
		return constant{t: t, name: value, dims: t.Dims, dtype: t.DType}, true
	}
	n := m.writer(value)
	if n == nil || n.Domain != "" {
		return c, false
	}
	if n.OpType == "Constant" {
		if a, ok := n.Attr("value"); ok && a.Kind == AttrTensor {
			return constant{t: a.T, name: value, dims: a.T.Dims, dtype: a.T.DType}, true
		}
		return c, false
	}
	if len(n.Inputs) == 0 {
		return c, false
	}
	switch n.OpType {
	case "Identity", "Cast", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Dropout":
	default:
		return c, false
	}
	c, ok = m.constantValue(in(n, 0))
	if !ok {
		return c, false
	}
	switch n.OpType {
	case "Cast":
		to := DataType(n.Int("to", 0))
		ok = to.IsFloat() && c.dtype.IsFloat() || to.IsInteger() && c.dtype.IsInteger() && to != Bool
		c.dtype = to
		return c, ok
	case "Dropout":
		return c, m.changesNothing(n, value)
	case "Transpose":
		p := n.Attrs["perm"].Ints
		if len(c.dims) != 2 || !(p == nil || len(p) == 2 && p[0] == 1 && p[1] == 0) {
			return c, false
		}
		c.transposed = !c.transposed
		c.dims = []int64{c.dims[1], c.dims[0]}
	case "Unsqueeze", "Squeeze", "Reshape":
		dims := m.shape(value)
		if dims == nil {
			return c, false
		}
		var now []int64
		for _, d := range dims {
			if !d.known || d.v < 0 {
				return c, false
			}
			now = append(now, d.v)
		}
		if !equalInts(dropOnes(now), dropOnes(c.dims)) {
			return c, false
		}
		c.dims = now
	}
	return c, true
}

func dropOnes(dims []int64) []int64 {
	out := []int64{}
	for _, d := range dims {
		if d != 1 {
			out = append(out, d)
		}
	}
	return out
}

func equalInts(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// isMatrix reports whether c is a float matrix of at least two dimensions that are not 1,
// or exactly two dimensions.
func (c constant) isMatrix() bool { return len(c.dims) == 2 && c.t.DType.IsFloat() }

// isVector reports whether c is a float vector, perhaps with leading dimensions of 1.
func (c constant) isVector() bool {
	if len(c.dims) == 0 || !c.t.DType.IsFloat() {
		return false
	}
	for _, d := range c.dims[:len(c.dims)-1] {
		if d != 1 {
			return false
		}
	}
	return true
}

// scalar evaluates a value of one element: a constant, or arithmetic on constants and on
// known dimensions.
func (m *matcher) scalar(value string) (float64, bool) {
	if v, seen := m.scalars[value]; seen {
		return v.v, v.ok
	}
	done, ok := m.deeper()
	defer done()
	if !ok {
		return 0, false
	}
	v, ok := m.scalarOf(value)
	m.scalars[value] = number{v, ok}
	return v, ok
}

type number struct {
	v  float64
	ok bool
}

func (m *matcher) scalarOf(value string) (float64, bool) {
	if c, ok := m.constantValue(value); ok {
		if c.t.Len != 1 || !c.t.DType.IsFloat() && !c.t.DType.IsInteger() {
			return 0, false
		}
		v, err := m.f.ReadFloat64(c.t)
		if err != nil || len(v) != 1 {
			return 0, false
		}
		return v[0], true
	}
	n := m.writer(value)
	if n == nil || n.Domain != "" || len(n.Inputs) == 0 {
		return m.scalarAttr(n)
	}
	a, ok := 0.0, false
	switch n.OpType {
	case "Sqrt", "Cast", "Reciprocal", "Neg", "Identity", "Squeeze", "Unsqueeze", "Add", "Sub", "Mul", "Div", "Pow":
		a, ok = m.scalar(in(n, 0))
	}
	if ok {
		switch n.OpType {
		case "Sqrt":
			return math.Sqrt(a), true
		case "Cast":
			if DataType(n.Int("to", 0)).IsInteger() {
				a = math.Trunc(a)
			}
			return a, true
		case "Reciprocal":
			return 1 / a, true
		case "Neg":
			return -a, true
		case "Identity", "Squeeze", "Unsqueeze":
			return a, true
		}
		b, ok := m.scalar(in(n, 1))
		if !ok {
			return 0, false
		}
		switch n.OpType {
		case "Add":
			return a + b, true
		case "Sub":
			return a - b, true
		case "Mul":
			return a * b, true
		case "Div":
			return a / b, true
		case "Pow":
			return math.Pow(a, b), true
		}
	}
	if d, ok := m.integers(value); ok && len(d) == 1 && d[0].known {
		return float64(d[0].v), true
	}
	return 0, false
}

// scalarAttr reads a Constant node that holds its number as an attribute.
func (m *matcher) scalarAttr(n *Node) (float64, bool) {
	if !is(n, "Constant") {
		return 0, false
	}
	if a, ok := n.Attr("value_float"); ok {
		return float64(a.F), true
	}
	if a, ok := n.Attr("value_int"); ok {
		return float64(a.I), true
	}
	return 0, false
}

// uniform evaluates a value whose elements are all equal: a scalar, a constant tensor of
// one number, or one made or spread by ConstantOfShape, Expand and their like.
func (m *matcher) uniform(value string) (float64, bool) {
	if v, ok := m.scalar(value); ok {
		return v, true
	}
	if v, seen := m.uniforms[value]; seen {
		return v.v, v.ok
	}
	done, ok := m.deeper()
	defer done()
	if !ok {
		return 0, false
	}
	v, ok := m.uniformOf(value)
	m.uniforms[value] = number{v, ok}
	return v, ok
}

func (m *matcher) uniformOf(value string) (float64, bool) {
	if c, ok := m.constantValue(value); ok {
		return m.uniformTensor(c.t)
	}
	n := m.writer(value)
	if n == nil || n.Domain != "" || len(n.Inputs) == 0 {
		return 0, false
	}
	switch n.OpType {
	case "ConstantOfShape":
		a, ok := n.Attr("value")
		if !ok {
			return 0, true
		}
		if a.Kind != AttrTensor {
			return 0, false
		}
		return m.uniformTensor(a.T)
	case "Expand", "Tile", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Identity", "Transpose", "Cast":
		return m.uniform(in(n, 0))
	case "Mul", "Add", "Sub":
		a, ok := m.uniform(in(n, 0))
		if !ok {
			return 0, false
		}
		b, ok := m.uniform(in(n, 1))
		switch n.OpType {
		case "Mul":
			a *= b
		case "Add":
			a += b
		case "Sub":
			a -= b
		}
		return a, ok
	}
	return 0, false
}

// mostUniform bounds the tensors that are read to see whether they are uniform.
const mostUniform = 16 << 20

func (m *matcher) uniformTensor(t *TensorRef) (float64, bool) {
	if t.Len == 0 || t.Len > mostUniform || !t.DType.IsFloat() && !t.DType.IsInteger() {
		return 0, false
	}
	first, seen, equal := 0.0, false, true
	err := m.f.stream(t, func(b []byte) error {
		for i := 0; i < len(b) && equal; i += t.DType.Size() {
			v, err := float64At(b[i:], t.DType)
			if err != nil {
				return err
			}
			if !seen {
				first, seen = v, true
			}
			equal = v == first
		}
		return nil
	})
	return first, err == nil && equal
}
