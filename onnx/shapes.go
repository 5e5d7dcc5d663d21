package onnx

// dim is an integer that is known from the file or not.
type dim struct {
	v     int64
	known bool
}

var unknown = dim{}

func known(v int64) dim { return dim{v, true} }

// most elements of an integer vector that is followed: shapes are short.
const mostIntegers = 64

// integers evaluates an integer scalar or vector, element by element as far as the file
// tells: constants, and the Shape, Gather, Unsqueeze, Concat arithmetic of exporters.
func (m *matcher) integers(value string) ([]dim, bool) {
	if d, seen := m.ints[value]; seen {
		return d, d != nil
	}
	done, ok := m.deeper()
	defer done()
	if !ok {
		return nil, false
	}
	d := m.integersOf(value)
	if len(d) > mostIntegers {
		d = nil
	}
	m.ints[value] = d
	return d, d != nil
}

func (m *matcher) integersOf(value string) []dim {
	if c, ok := m.constantValue(value); ok {
		if !c.t.DType.IsInteger() || c.t.Len > mostIntegers || len(c.dims) > 1 {
			return nil
		}
		v, err := m.f.ReadInt64(c.t)
		if err != nil {
			return nil
		}
		out := make([]dim, len(v))
		for i := range v {
			out[i] = known(v[i])
		}
		return out
	}
	n := m.writer(value)
	if n == nil || n.Domain != "" {
		return nil
	}
	if n.OpType == "Constant" {
		if a, ok := n.Attr("value_int"); ok {
			return []dim{known(a.I)}
		}
		if a, ok := n.Attr("value_ints"); ok {
			out := make([]dim, 0, len(a.Ints))
			for _, v := range a.Ints {
				out = append(out, known(v))
			}
			return out
		}
		return nil
	}
	if len(n.Inputs) == 0 {
		return nil
	}
	switch n.OpType {
	case "Shape":
		return m.shapeAsIntegers(n)
	case "Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape":
		d, _ := m.integers(in(n, 0))
		return d
	case "Concat":
		var out []dim
		for _, v := range n.Inputs {
			d, ok := m.integers(v)
			if !ok {
				return nil
			}
			if out = append(out, d...); len(out) > mostIntegers {
				return nil
			}
		}
		return out
	case "Gather":
		d, ok := m.integers(in(n, 0))
		at, ok2 := m.integers(in(n, 1))
		if !ok2 || n.Int("axis", 0) != 0 {
			return nil
		}
		out := make([]dim, len(at))
		if !ok { // elements of a shape of unknown rank are unknown, but their number is not
			if shape := m.writer(m.skip(in(n, 0))); is(shape, "Shape") {
				return out
			}
			return nil
		}
		for i, a := range at {
			if a.v < 0 {
				a.v += int64(len(d))
			}
			if !a.known || a.v < 0 || a.v >= int64(len(d)) {
				return nil
			}
			out[i] = d[a.v]
		}
		return out
	case "Slice":
		return m.sliceIntegers(n)
	case "Add", "Sub", "Mul", "Div":
		a, ok := m.integers(in(n, 0))
		b, ok2 := m.integers(in(n, 1))
		if !ok || !ok2 {
			return nil
		}
		return integerArithmetic(n.OpType, a, b)
	case "Where": // the exporter's guard against -1 in Expand: which branch is not followed
		d, ok := m.integers(in(n, 2))
		if !ok {
			return nil
		}
		return make([]dim, len(d))
	}
	return nil
}

func integerArithmetic(op string, a, b []dim) []dim {
	n := max(len(a), len(b))
	if len(a) != n && len(a) != 1 || len(b) != n && len(b) != 1 {
		return nil
	}
	out := make([]dim, n)
	for i := range out {
		x, y := a[i%len(a)], b[i%len(b)]
		if !x.known || !y.known {
			continue
		}
		switch op {
		case "Add":
			out[i] = known(x.v + y.v)
		case "Sub":
			out[i] = known(x.v - y.v)
		case "Mul":
			out[i] = known(x.v * y.v)
		case "Div":
			if y.v != 0 {
				out[i] = known(x.v / y.v)
			}
		}
	}
	return out
}

func (m *matcher) shapeAsIntegers(n *Node) []dim {
	d := m.shape(in(n, 0))
	if d == nil {
		return nil
	}
	from, to := clip(n.Int("start", 0), len(d)), clip(n.Int("end", int64(len(d))), len(d))
	if from > to {
		return []dim{}
	}
	return d[from:to]
}

// clip turns a possibly negative position into one of 0..n.
func clip(i int64, n int) int {
	if i < 0 {
		i += int64(n)
	}
	return int(max(0, min(i, int64(n))))
}

// sliceRange reads a Slice over one axis with step 1, from inputs or attributes (before
// opset 10). An end that is not known is given as unknown.
func (m *matcher) sliceRange(n *Node) (axis int64, from, to dim, ok bool) {
	if a, attr := n.Attr("starts"); attr {
		ends, axes := n.Attrs["ends"].Ints, n.Attrs["axes"].Ints
		if len(a.Ints) != 1 || len(ends) != 1 || len(axes) > 1 {
			return 0, from, to, false
		}
		if len(axes) == 1 {
			axis = axes[0]
		}
		return axis, known(a.Ints[0]), known(ends[0]), true
	}
	starts, ok := m.integers(in(n, 1))
	if !ok || len(starts) != 1 {
		return 0, from, to, false
	}
	ends, ok := m.integers(in(n, 2))
	if !ok || len(ends) != 1 {
		ends = []dim{unknown}
	}
	if v := in(n, 3); v != "" {
		axes, ok := m.integers(v)
		if !ok || len(axes) != 1 || !axes[0].known {
			return 0, from, to, false
		}
		axis = axes[0].v
	}
	if v := in(n, 4); v != "" {
		steps, ok := m.integers(v)
		if !ok || len(steps) != 1 || steps[0] != known(1) {
			return 0, from, to, false
		}
	}
	return axis, starts[0], ends[0], true
}

func (m *matcher) sliceIntegers(n *Node) []dim {
	d, ok := m.integers(in(n, 0))
	if !ok {
		return nil
	}
	_, from, to, ok := m.sliceRange(n)
	if !ok || !from.known || !to.known {
		return nil
	}
	a, b := clip(from.v, len(d)), clip(to.v, len(d))
	if a > b {
		return []dim{}
	}
	return d[a:b]
}

// shape returns the dimensions of a value as far as they are known; nil if not even the
// rank is.
func (m *matcher) shape(value string) []dim {
	if d, seen := m.shapes[value]; seen {
		return d
	}
	done, ok := m.deeper()
	defer done()
	if !ok {
		return nil
	}
	d := m.shapeOf(value)
	if len(d) > maxRank {
		d = nil
	}
	m.shapes[value] = d
	return d
}

func (m *matcher) shapeOf(value string) []dim {
	if t := m.f.byName[value]; t != nil {
		return knownDims(t.Dims)
	}
	if v := m.input(value); v != nil {
		if !v.HasShape {
			return nil
		}
		out := make([]dim, len(v.Dims))
		for i, d := range v.Dims {
			out[i] = dim{d.Value, d.Value >= 0}
		}
		return out
	}
	n := m.writer(value)
	if n == nil {
		return nil
	}
	if is(n, "Constant") {
		if a, ok := n.Attr("value"); ok && a.Kind == AttrTensor {
			return knownDims(a.T.Dims)
		}
		return nil
	}
	if len(n.Inputs) == 0 || first(n) != value {
		return nil
	}
	switch n.OpType {
	case "Reshape":
		return m.reshaped(n)
	case "Transpose":
		d, p := m.shape(in(n, 0)), n.Attrs["perm"].Ints
		if d == nil || len(p) != len(d) {
			return nil
		}
		out := make([]dim, len(d))
		for i, from := range p {
			if from < 0 || int(from) >= len(d) {
				return nil
			}
			out[i] = d[from]
		}
		return out
	case "Unsqueeze":
		return m.unsqueezed(n)
	case "Squeeze":
		return m.squeezed(n)
	case "MatMul", "FusedMatMul":
		a, b := m.shape(in(n, 0)), m.shape(in(n, 1))
		if len(a) < 2 || len(b) != 2 || n.OpType != "MatMul" {
			return nil
		}
		return append(append([]dim{}, a[:len(a)-1]...), b[1])
	case "Gemm":
		a, b := m.shape(in(n, 0)), m.shape(in(n, 1))
		if len(a) != 2 || len(b) != 2 || n.Int("transA", 0) != 0 {
			return nil
		}
		return []dim{a[0], b[1-n.Int("transB", 0)&1]}
	case "Gather":
		data, at := m.shape(in(n, 0)), m.shape(in(n, 1))
		if data == nil || at == nil || n.Int("axis", 0) != 0 || len(data) == 0 {
			return nil
		}
		return append(append([]dim{}, at...), data[1:]...)
	case "Add", "Sub", "Mul", "Div", "Pow":
		a, b := m.shape(in(n, 0)), m.shape(in(n, 1))
		if a == nil || b == nil {
			return nil
		}
		if len(a) < len(b) {
			a, b = b, a
		}
		out := append([]dim{}, a...)
		for i := range b {
			o, d := &out[len(a)-len(b)+i], b[i]
			if !o.known || *o == known(1) {
				*o = d
			}
		}
		return out
	case "ReduceMean":
		d := m.shape(in(n, 0))
		axes, ok := m.axesOf(n)
		if d == nil || !ok || len(axes) != 1 || n.Int("keepdims", 1) != 1 || clip(axes[0], len(d)) >= len(d) {
			return nil
		}
		out := append([]dim{}, d...)
		out[clip(axes[0], len(d))] = known(1)
		return out
	case "LayerNormalization", "SkipLayerNormalization", "Cast", "Identity", "Dropout", "Erf", "Tanh", "Sqrt", "Softmax",
		"BiasGelu", "Gelu", "FastGelu":
		return m.shape(in(n, 0))
	}
	return nil
}

func knownDims(dims []int64) []dim {
	out := make([]dim, len(dims))
	for i, d := range dims {
		out[i] = known(d)
	}
	return out
}

func (m *matcher) reshaped(n *Node) []dim {
	target, ok := m.integers(in(n, 1))
	if !ok {
		return nil
	}
	from := m.shape(in(n, 0))
	out := make([]dim, len(target))
	for i, d := range target {
		switch {
		case d.known && d.v > 0:
			out[i] = d
		case d.known && d.v == 0 && n.Int("allowzero", 0) == 0 && i < len(from):
			out[i] = from[i]
		}
	}
	return out
}

// axesOf reads the axes of Unsqueeze, Squeeze and the reductions: an attribute, later an input.
func (m *matcher) axesOf(n *Node) ([]int64, bool) {
	if a, ok := n.Attr("axes"); ok {
		return a.Ints, true
	}
	d, ok := m.integers(in(n, 1))
	if !ok {
		return nil, false
	}
	out := make([]int64, len(d))
	for i, v := range d {
		if !v.known {
			return nil, false
		}
		out[i] = v.v
	}
	return out, true
}

func (m *matcher) unsqueezed(n *Node) []dim {
	d := m.shape(in(n, 0))
	axes, ok := m.axesOf(n)
	if d == nil || !ok || len(d)+len(axes) > maxRank {
		return nil
	}
	rank := len(d) + len(axes)
	one := make([]bool, rank)
	for _, a := range axes {
		if a < 0 {
			a += int64(rank)
		}
		if a < 0 || a >= int64(rank) || one[a] {
			return nil
		}
		one[a] = true
	}
	out := make([]dim, rank)
	for i := range out {
		if one[i] {
			out[i] = known(1)
		} else {
			out[i], d = d[0], d[1:]
		}
	}
	return out
}

func (m *matcher) squeezed(n *Node) []dim {
	d := m.shape(in(n, 0))
	axes, ok := m.axesOf(n)
	if d == nil || !ok {
		return nil
	}
	drop := make([]bool, len(d))
	for _, a := range axes {
		if a < 0 {
			a += int64(len(d))
		}
		if a < 0 || a >= int64(len(d)) {
			return nil
		}
		drop[a] = true
	}
	out := []dim{}
	for i := range d {
		if !drop[i] {
			out = append(out, d[i])
		}
	}
	return out
}
