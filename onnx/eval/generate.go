package eval

import (
	"math"
	"slices"

	"sift/onnx"
)

// opConstant returns the value in one of its attributes.
func opConstant(c *call) []*Tensor {
	for name, a := range c.node.Attrs {
		switch name {
		case "value":
			if a.T == nil {
				c.fail("attribute value is not a tensor")
			}
			t, err := c.run.g.read(a.T)
			if err != nil {
				c.fail("%v", err)
			}
			return one(t)
		case "value_float":
			return one(Floats([]float64{c.attrFloat(name, 0)}))
		case "value_int":
			return one(Int64s([]int64{c.attrInt(name, 0)}))
		case "value_ints":
			list, _ := c.attrInts(name)
			return one(Int64s(list, len(list)))
		case "value_floats":
			if a.Kind != onnx.AttrFloats {
				c.fail("attribute value_floats is not a list of floats")
			}
			f := make([]float64, len(a.Floats))
			for i, v := range a.Floats {
				f[i] = float64(v)
			}
			return one(Floats(f, len(f)))
		}
	}
	c.fail("no value of a supported kind")
	return nil
}

// opConstantOfShape fills a shape with the one element of attribute value, by default
// a float zero.
func opConstantOfShape(c *call) []*Tensor {
	dims := c.toDims(c.list(0))
	a, ok := c.node.Attrs["value"]
	if !ok {
		return one(c.newFloat(onnx.Float, dims))
	}
	if a.T == nil {
		c.fail("attribute value is not a tensor")
	}
	v, err := c.run.g.read(a.T)
	if err != nil {
		c.fail("%v", err)
	}
	if v.Len() != 1 {
		c.fail("attribute value has %d elements, not one", v.Len())
	}
	y := c.newLike(v, dims)
	for i := range y.F {
		y.F[i] = v.F[0]
	}
	for i := range y.I {
		y.I[i] = v.I[0]
	}
	return one(y)
}

// opRange is start, start+delta, ... up to limit, exclusive.
func opRange(c *call) []*Tensor {
	start, limit, delta := c.arg(0), c.arg(1), c.arg(2)
	c.same(start, limit, delta)
	for _, t := range c.in[:3] {
		if t.Len() != 1 {
			c.fail("shapes %s are not scalars", shapesText(c.in[:3]))
		}
	}
	if start.IsFloat() {
		n := math.Ceil((limit.F[0] - start.F[0]) / delta.F[0])
		if math.IsNaN(n) || n > float64(c.run.limits.Elements) {
			c.fail("from %g to %g by %g", start.F[0], limit.F[0], delta.F[0])
		}
		y := c.newFloat(start.DType, []int{max(0, int(n))})
		for i := range y.F {
			y.F[i] = start.F[0] + float64(i)*delta.F[0]
		}
		return one(y)
	}
	from, to, by := start.I[0], limit.I[0], delta.I[0]
	if by == 0 {
		c.fail("a delta of 0")
	}
	// The distance as an unsigned number: it may exceed an int64.
	n := uint64(0)
	if by > 0 && to > from {
		n = (uint64(to)-uint64(from)-1)/uint64(by) + 1
	} else if by < 0 && to < from {
		n = (uint64(from)-uint64(to)-1)/-uint64(by) + 1
	}
	if n > uint64(c.run.limits.Elements) {
		c.fail("from %d to %d by %d", from, to, by)
	}
	y := c.newInt(start.DType, []int{int(n)})
	for i := range y.I {
		y.I[i] = from + int64(i)*by
	}
	return one(y)
}

// opCumSum adds up along an axis, from the other end with reverse, without the
// element itself with exclusive.
func opCumSum(c *call) []*Tensor {
	x := c.arg(0)
	axis := c.axis(c.scalar(1), len(x.Dims))
	exclusive, reverse := c.attrInt("exclusive", 0) != 0, c.attrInt("reverse", 0) != 0
	if x.IsFloat() {
		return one(c.alongAxis(x, axis, func(line []float64) { cumulate(line, exclusive, reverse) }))
	}
	y := c.newInt(x.DType, x.Dims)
	copy(y.I, x.I)
	n, inner := x.Dims[axis], product(x.Dims[axis+1:])
	line := make([]int64, n)
	for i := range y.I {
		if i/inner%n != 0 {
			continue
		}
		gatherRow(line, x.I, i, inner)
		cumulate(line, exclusive, reverse)
		for k, v := range line {
			y.I[i+k*inner] = wrap(x.DType, v)
		}
	}
	return one(y)
}

func cumulate[T int64 | float64](line []T, exclusive, reverse bool) {
	if reverse {
		slices.Reverse(line)
		defer slices.Reverse(line)
	}
	var sum T
	for i, v := range line {
		if exclusive {
			line[i] = sum
		}
		sum += v
		if !exclusive {
			line[i] = sum
		}
	}
}

// opOneHot inserts an axis of length depth that holds values[1] at the index and
// values[0] elsewhere. An index outside [-depth, depth) gives no hot element.
func opOneHot(c *call) []*Tensor {
	ids, values := c.arg(0), c.arg(2)
	depthT := c.arg(1)
	if depthT.Len() != 1 || values.Len() != 2 {
		c.fail("depth and values of shapes %s", shapesText(c.in[1:3]))
	}
	depth := truncate(onnx.Int64, asFloats(depthT)[0])
	axis := c.axis(c.attrInt("axis", -1), len(ids.Dims)+1)
	dims := slices.Insert(slices.Clone(ids.Dims), axis, c.toDims([]int64{depth})[0])
	y := c.newLike(values, dims)
	inner := product(dims[axis+1:])
	put := func(at, which int) {
		if values.IsFloat() {
			y.F[at] = values.F[which]
		} else {
			y.I[at] = values.I[which]
		}
	}
	for i := range y.Len() {
		put(i, 0)
	}
	for i, f := range asFloats(ids) {
		id := int64(f)
		if id < 0 {
			id += depth
		}
		if id >= 0 && id < depth {
			put((i/inner*int(depth)+int(id))*inner+i%inner, 1)
		}
	}
	return one(y)
}

// opNonZero lists the positions of non-zero elements, one column each, in row-major
// order: int64 [rank, count].
func opNonZero(c *call) []*Tensor {
	x := c.arg(0)
	at := []int{}
	for i, v := range asFloats(x) {
		if v != 0 {
			at = append(at, i)
		}
	}
	y := c.newInt(onnx.Int64, []int{len(x.Dims), len(at)})
	strides := contiguous(x.Dims)
	for k, i := range at {
		for a, s := range strides {
			y.I[a*len(at)+k] = int64(i / s % x.Dims[a])
		}
	}
	return one(y)
}

// opTrilu keeps the upper (default) or lower triangle of the last two axes, shifted
// by k diagonals.
func opTrilu(c *call) []*Tensor {
	x := c.arg(0)
	if len(x.Dims) < 2 {
		c.fail("shape %s is no matrix", dimsText(x.Dims))
	}
	k := int64(0)
	if c.opt(1) != nil {
		k = c.scalar(1)
	}
	rows, cols := x.Dims[len(x.Dims)-2], x.Dims[len(x.Dims)-1]
	k = min(max(k, -int64(rows)), int64(cols)+1)
	upper := c.attrInt("upper", 1) != 0
	y := c.newLike(x, x.Dims)
	for i := range y.Len() {
		past := int64(i%cols) - int64(i/cols%rows) - k // >= 0 on and above the diagonal
		if upper && past < 0 || !upper && past > 0 {
			continue
		}
		if x.IsFloat() {
			y.F[i] = x.F[i]
		} else {
			y.I[i] = x.I[i]
		}
	}
	return one(y)
}

// opEyeLike is a matrix shaped as the input with ones on diagonal k.
func opEyeLike(c *call) []*Tensor {
	x := c.arg(0)
	if len(x.Dims) != 2 {
		c.fail("shape %s is no matrix", dimsText(x.Dims))
	}
	to := onnx.DataType(c.attrInt("dtype", int64(x.DType)))
	k := c.attrInt("k", 0)
	eye := c.newInt(onnx.Int64, x.Dims)
	for i := range x.Dims[0] {
		if j := int64(i) + k; j >= 0 && j < int64(x.Dims[1]) {
			eye.I[i*x.Dims[1]+int(j)] = 1
		}
	}
	return one(c.cast(eye, to))
}

// opDropout is the identity in inference; the mask, if asked for, is all true. A
// graph exported in training mode is refused.
func opDropout(c *call) []*Tensor {
	x := c.arg(0)
	if c.opt(2) != nil && c.boolean(2).Len() > 0 && c.boolean(2).I[0] != 0 {
		if r := c.optFloat(1); r == nil || r.Len() != 1 || r.F[0] != 0 {
			c.fail("dropout in training mode")
		}
	}
	out := one(x)
	if len(c.node.Outputs) > 1 {
		mask := c.newInt(onnx.Bool, x.Dims)
		for i := range mask.I {
			mask.I[i] = 1
		}
		out = append(out, mask)
	}
	return out
}

// opTopK returns the k largest (or smallest) elements along an axis, sorted, and
// their positions; ties go to the lower position.
func opTopK(c *call) []*Tensor {
	x := c.arg(0)
	k := c.attrInt("k", 0)
	if c.opt(1) != nil {
		k = c.scalar(1)
	}
	axis := c.axis(c.attrInt("axis", -1), len(x.Dims))
	n := x.Dims[axis]
	if k < 0 || k > int64(n) {
		c.fail("k is %d for an axis of size %d", k, n)
	}
	largest := c.attrInt("largest", 1) != 0
	dims := slices.Clone(x.Dims)
	dims[axis] = int(k)
	y, at := c.newLike(x, dims), c.newInt(onnx.Int64, dims)
	values, inner := asFloats(x), product(dims[axis+1:])
	order := make([]int, n)
	for i := range at.I {
		if i/inner%int(k) != 0 {
			continue
		}
		from := i/(inner*int(k))*inner*n + i%inner
		for j := range order {
			order[j] = j
		}
		slices.SortStableFunc(order, func(p, q int) int {
			v, w := values[from+p*inner], values[from+q*inner]
			switch {
			case v == w:
				return 0
			case (v > w) == largest:
				return -1
			}
			return 1
		})
		for j := range int(k) {
			at.I[i+j*inner] = int64(order[j])
			if x.IsFloat() {
				y.F[i+j*inner] = x.F[from+order[j]*inner]
			} else {
				y.I[i+j*inner] = x.I[from+order[j]*inner]
			}
		}
	}
	return []*Tensor{y, at}
}
