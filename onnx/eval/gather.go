package eval

import (
	"slices"
)

// opSlice cuts x[start:end:step] along some axes, with Python's clamping. Up to opset
// 9 the lists are attributes, from 10 inputs: starts, ends, axes, steps.
func opSlice(c *call) []*Tensor {
	x := c.arg(0)
	starts, okStarts := c.intsFrom(1, "starts")
	ends, okEnds := c.intsFrom(2, "ends")
	axes, okAxes := c.intsFrom(3, "axes")
	steps, okSteps := c.intsFrom(4, "steps")
	if !okStarts || !okEnds || len(starts) != len(ends) ||
		okAxes && len(axes) != len(starts) || okSteps && len(steps) != len(starts) {
		c.fail("starts %v, ends %v, axes %v, steps %v do not match", starts, ends, axes, steps)
	}
	if !okAxes {
		for i := range starts {
			axes = append(axes, int64(i))
		}
	}
	c.axes(axes, len(x.Dims))
	for i, a := range axes {
		axis := c.axis(a, len(x.Dims))
		step := int64(1)
		if okSteps {
			step = steps[i]
		}
		start, n := c.clampSlice(starts[i], ends[i], step, int64(x.Dims[axis]))
		if n == x.Dims[axis] && step == 1 {
			continue
		}
		x = c.section(x, axis, start, int(step), n)
	}
	return one(x)
}

// clampSlice resolves negative and overlong bounds and counts the elements taken from
// an axis of the given size.
func (c *call) clampSlice(start, end, step, size int64) (int, int) {
	lo, hi := int64(0), size // of both bounds, when stepping forward
	switch {
	case step == 0:
		c.fail("a step of 0")
	case step < 0:
		lo, hi = -1, size-1
	}
	if start < 0 {
		start += size
	}
	if end < 0 {
		end += size
	}
	if step > 0 {
		start, end = min(max(start, lo), hi), min(max(end, lo), hi)
	} else {
		start, end = min(max(start, 0), hi), min(max(end, lo), hi)
	}
	n := int64(0)
	switch {
	case step > 0 && end > start:
		n = (end-start-1)/step + 1
	case step < 0 && end < start:
		n = (end-start+1)/step + 1
	}
	return int(start), int(n)
}

// index returns i in [0, n), counting from the end if it is negative.
func (c *call) index(i int64, n int) int {
	if i < -int64(n) || i >= int64(n) {
		c.fail("index %d into an axis of size %d", i, n)
	}
	if i < 0 {
		i += int64(n)
	}
	return int(i)
}

// opGather takes slices of data along an axis: the output has the shape of the
// indices in place of that axis.
func opGather(c *call) []*Tensor {
	x, ids := c.arg(0), c.integer(1)
	if len(x.Dims) == 0 {
		c.fail("the data is a scalar")
	}
	axis := c.axis(c.attrInt("axis", 0), len(x.Dims))
	dims := slices.Concat(x.Dims[:axis], ids.Dims, x.Dims[axis+1:])
	y := c.newLike(x, dims)
	outer, n, inner := product(x.Dims[:axis]), x.Dims[axis], product(x.Dims[axis+1:])
	if y.Len() == 0 {
		return one(y)
	}
	to := 0
	for o := range outer {
		for _, id := range ids.I {
			from := (o*n + c.index(id, n)) * inner
			if x.IsFloat() {
				copy(y.F[to:to+inner], x.F[from:])
			} else {
				copy(y.I[to:to+inner], x.I[from:])
			}
			to += inner
		}
	}
	return one(y)
}

// opGatherElements reads out[i][j][k] = data[i][ids[i][j][k]][k] (for axis 1).
func opGatherElements(c *call) []*Tensor {
	x, ids := c.arg(0), c.integer(1)
	axis := c.axis(c.attrInt("axis", 0), len(x.Dims))
	y := c.newLike(x, ids.Dims)
	c.elementwise(x, ids, axis, func(i, at int) {
		if x.IsFloat() {
			y.F[i] = x.F[at]
		} else {
			y.I[i] = x.I[at]
		}
	})
	return one(y)
}

// elementwise calls each with the position of every index and the offset in x to
// which it points along axis.
func (c *call) elementwise(x, ids *Tensor, axis int, each func(i, at int)) {
	if len(ids.Dims) != len(x.Dims) {
		c.fail("indices of shape %s for data of shape %s", dimsText(ids.Dims), dimsText(x.Dims))
	}
	for a, d := range ids.Dims {
		if a != axis && d > x.Dims[a] {
			c.fail("indices of shape %s for data of shape %s", dimsText(ids.Dims), dimsText(x.Dims))
		}
	}
	strides := contiguous(x.Dims)
	position := make([]int, len(ids.Dims))
	for i, id := range ids.I {
		at := 0
		for a, p := range position {
			if a == axis {
				p = c.index(id, x.Dims[axis])
			}
			at += p * strides[a]
		}
		each(i, at)
		for a := len(position) - 1; a >= 0; a-- {
			if position[a]++; position[a] < ids.Dims[a] {
				break
			}
			position[a] = 0
		}
	}
}

// opScatterElements writes updates where GatherElements would read; reduction may be
// none or add.
func opScatterElements(c *call) []*Tensor {
	x, ids, updates := c.arg(0), c.integer(1), c.arg(2)
	c.same(x, updates)
	if !slices.Equal(ids.Dims, updates.Dims) {
		c.fail("indices and updates of shapes %s", shapesText(c.in[1:3]))
	}
	axis := c.axis(c.attrInt("axis", 0), len(x.Dims))
	y, put := c.scatterInto(x, updates)
	c.elementwise(x, ids, axis, func(i, at int) { put(at, i, 1) })
	return one(y)
}

// scatterInto copies x and returns a function that writes n elements of updates.
func (c *call) scatterInto(x, updates *Tensor) (*Tensor, func(to, from, n int)) {
	reduction := c.attrString("reduction", "none")
	if reduction != "none" && reduction != "add" && reduction != "mul" {
		c.fail("reduction %q is not supported", reduction)
	}
	y := c.newLike(x, x.Dims)
	copy(y.F, x.F)
	copy(y.I, x.I)
	return y, func(to, from, n int) {
		for k := range n {
			switch {
			case reduction == "none" && x.IsFloat():
				y.F[to+k] = updates.F[from+k]
			case reduction == "none":
				y.I[to+k] = updates.I[from+k]
			case reduction == "add" && x.IsFloat():
				y.F[to+k] += updates.F[from+k]
			case reduction == "add":
				y.I[to+k] = wrap(x.DType, y.I[to+k]+updates.I[from+k])
			case x.IsFloat():
				y.F[to+k] *= updates.F[from+k]
			default:
				y.I[to+k] = wrap(x.DType, y.I[to+k]*updates.I[from+k])
			}
		}
	}
}

// slices resolves the index vectors of GatherND and ScatterND. Each is the last axis
// of ids, of length q, and points at a slice of n elements of x behind the first
// batch axes. each receives the number of the vector and the offset of its slice.
func (c *call) slices(x, ids *Tensor, batch int) (q, n int, visit func(each func(i, at int))) {
	if len(ids.Dims) == 0 || len(x.Dims) == 0 {
		c.fail("data or indices are a scalar")
	}
	q = ids.Dims[len(ids.Dims)-1]
	if batch < 0 || batch >= len(ids.Dims) || batch+q > len(x.Dims) ||
		!slices.Equal(x.Dims[:batch], ids.Dims[:batch]) {
		c.fail("indices of shape %s for data of shape %s with %d batch axes", dimsText(ids.Dims), dimsText(x.Dims), batch)
	}
	n = product(x.Dims[batch+q:])
	vectors := product(ids.Dims[:len(ids.Dims)-1])
	return q, n, func(each func(i, at int)) {
		batches := product(x.Dims[:batch])
		if batches == 0 {
			return
		}
		c.spend(vectors)
		perBatch, block := vectors/batches, product(x.Dims[batch:])
		for i := range vectors {
			at := 0
			for a, id := range ids.I[i*q : (i+1)*q] {
				d := x.Dims[batch+a]
				at = at*d + c.index(id, d)
			}
			each(i, i/perBatch*block+at*n)
		}
	}
}

func opGatherND(c *call) []*Tensor {
	x, ids := c.arg(0), c.integer(1)
	batch := int(c.attrInt("batch_dims", 0))
	q, n, visit := c.slices(x, ids, batch)
	y := c.newLike(x, slices.Concat(ids.Dims[:len(ids.Dims)-1], x.Dims[batch+q:]))
	visit(func(i, at int) {
		if x.IsFloat() {
			copy(y.F[i*n:(i+1)*n], x.F[at:at+n])
		} else {
			copy(y.I[i*n:(i+1)*n], x.I[at:at+n])
		}
	})
	return one(y)
}

func opScatterND(c *call) []*Tensor {
	x, ids, updates := c.arg(0), c.integer(1), c.arg(2)
	c.same(x, updates)
	q, n, visit := c.slices(x, ids, 0)
	if want := slices.Concat(ids.Dims[:len(ids.Dims)-1], x.Dims[q:]); !slices.Equal(updates.Dims, want) {
		c.fail("updates of shape %s, not %s", dimsText(updates.Dims), dimsText(want))
	}
	y, put := c.scatterInto(x, updates)
	visit(func(i, at int) { put(at, i*n, n) })
	return one(y)
}
