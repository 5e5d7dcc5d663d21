package eval

import (
	"slices"

	"sift/onnx"
)

// toDims checks a list of sizes, none of which may be negative.
func (c *call) toDims(list []int64) []int {
	dims := make([]int, len(list))
	for i, d := range list {
		if d < 0 || int64(int(d)) != d {
			c.fail("size %d in a shape", d)
		}
		dims[i] = int(d)
	}
	return dims
}

func fromDims(dims []int) []int64 {
	list := make([]int64, len(dims))
	for i, d := range dims {
		list[i] = int64(d)
	}
	return list
}

func opIdentity(c *call) []*Tensor { return one(c.arg(0)) }

// opShape returns the sizes of axes start (inclusive) to end (exclusive), both
// clamped; the attributes came with opset 15.
func opShape(c *call) []*Tensor {
	dims := c.arg(0).Dims
	rank := int64(len(dims))
	start, end := c.attrInt("start", 0), c.attrInt("end", rank)
	if start < 0 {
		start += rank
	}
	if end < 0 {
		end += rank
	}
	start, end = min(max(start, 0), rank), min(max(end, 0), rank)
	list := fromDims(dims[start:max(start, end)])
	return one(Int64s(list, len(list)))
}

func opSize(c *call) []*Tensor { return one(Int64s([]int64{int64(c.arg(0).Len())})) }

// opReshape takes 0 for "as in the input" (unless allowzero) and one -1 for "what
// remains".
func opReshape(c *call) []*Tensor {
	x := c.arg(0)
	list, ok := c.intsFrom(1, "shape")
	if !ok {
		c.fail("no target shape")
	}
	dims := make([]int, len(list))
	free, known := -1, 1
	for i, d := range list {
		switch {
		case d == -1 && free < 0:
			free = i
			continue
		case d == 0 && c.attrInt("allowzero", 0) == 0:
			if i >= len(x.Dims) {
				c.fail("0 at position %d of the target shape, but the input has shape %s", i, dimsText(x.Dims))
			}
			dims[i] = x.Dims[i]
		case d < 0 || int64(int(d)) != d:
			c.fail("target shape %v", list)
		default:
			dims[i] = int(d)
		}
	}
	if free >= 0 {
		dims[free] = 1
		if known = c.count(dims); known == 0 || x.Len()%known != 0 {
			c.fail("shape %s cannot become %v", dimsText(x.Dims), list)
		}
		dims[free] = x.Len() / known
	}
	if c.count(dims) != x.Len() {
		c.fail("shape %s cannot become %v", dimsText(x.Dims), list)
	}
	return one(x.with(dims))
}

// opFlatten makes a matrix of the axes before and from attribute axis.
func opFlatten(c *call) []*Tensor {
	x := c.arg(0)
	rank := int64(len(x.Dims))
	at := c.attrInt("axis", 1)
	if at < -rank || at > rank {
		c.fail("axis %d of a tensor of rank %d", at, rank)
	}
	if at < 0 {
		at += rank
	}
	return one(x.with([]int{product(x.Dims[:at]), product(x.Dims[at:])}))
}

// product multiplies sizes of a tensor that exists; with a zero among other axes it
// may wrap, but then there is no element to address.
func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// opSqueeze drops the listed axes of size 1, or all of them.
func opSqueeze(c *call) []*Tensor {
	x := c.arg(0)
	list, given := c.intsFrom(1, "axes")
	drop := c.axes(list, len(x.Dims))
	dims := []int{}
	for i, d := range x.Dims {
		switch {
		case given && drop[i] && d != 1:
			c.fail("axis %d of shape %s is not 1", i, dimsText(x.Dims))
		case given && drop[i] || !given && d == 1:
		default:
			dims = append(dims, d)
		}
	}
	return one(x.with(dims))
}

// opUnsqueeze inserts axes of size 1 at the listed positions of the output.
func opUnsqueeze(c *call) []*Tensor {
	x := c.arg(0)
	list, given := c.intsFrom(1, "axes")
	if !given {
		c.fail("no axes")
	}
	added := c.axes(list, len(x.Dims)+len(list))
	dims := make([]int, len(added))
	next := 0
	for i := range dims {
		dims[i] = 1
		if !added[i] {
			dims[i] = x.Dims[next]
			next++
		}
	}
	return one(x.with(dims))
}

// opTranspose permutes axes: output axis i is input axis perm[i], reversed by
// default.
func opTranspose(c *call) []*Tensor {
	x := c.arg(0)
	rank := len(x.Dims)
	perm, ok := c.attrInts("perm")
	if !ok {
		for i := range rank {
			perm = append(perm, int64(rank-1-i))
		}
	}
	if len(perm) != rank {
		c.fail("perm %v for a tensor of rank %d", perm, rank)
	}
	c.axes(perm, rank)
	order := make([]int, rank)
	for i, p := range perm {
		order[i] = c.axis(p, rank)
	}
	return one(c.transpose(x, order))
}

func (c *call) transpose(x *Tensor, order []int) *Tensor {
	dims, strides := make([]int, len(order)), make([]int, len(order))
	own := contiguous(x.Dims)
	for i, p := range order {
		dims[i], strides[i] = x.Dims[p], own[p]
	}
	y := c.newLike(x, dims)
	walk(dims, [][]int{strides}, func(o, n int, at, step []int) {
		if x.IsFloat() {
			gatherRow(y.F[o:o+n], x.F, at[0], step[0])
		} else {
			gatherRow(y.I[o:o+n], x.I, at[0], step[0])
		}
	})
	return y
}

// opExpand broadcasts the input and the given shape against each other.
func opExpand(c *call) []*Tensor {
	x := c.arg(0)
	target := &Tensor{DType: onnx.Bool, Dims: c.toDims(c.list(1))}
	dims := c.broadcastDims(x, target)
	if slices.Equal(dims, x.Dims) {
		return one(x)
	}
	y := c.newLike(x, dims)
	if x.IsFloat() {
		stretch(dims, y.F, x.F, x.Dims)
	} else {
		stretch(dims, y.I, x.I, x.Dims)
	}
	return one(y)
}

// opTile repeats the input along each axis: a reshape to [1 d0 1 d1 ...] broadcast to
// [r0 d0 r1 d1 ...].
func opTile(c *call) []*Tensor {
	x := c.arg(0)
	repeats := c.toDims(c.list(1))
	if len(repeats) != len(x.Dims) {
		c.fail("%d repeats for a tensor of rank %d", len(repeats), len(x.Dims))
	}
	dims, from, to := make([]int, len(repeats)), []int{}, []int{}
	for i, r := range repeats {
		d := x.Dims[i]
		if d != 0 && r > int(c.run.limits.Elements)/d {
			c.fail("%d repeats of axis %d, of size %d, are beyond the limit", r, i, d)
		}
		dims[i] = r * d
		from, to = append(from, 1, d), append(to, r, d)
	}
	y := c.newLike(x, dims)
	if x.IsFloat() {
		stretch(to, y.F, x.F, from)
	} else {
		stretch(to, y.I, x.I, from)
	}
	return one(y)
}

// opConcat joins tensors along an axis.
func opConcat(c *call) []*Tensor {
	first := c.arg(0)
	axis := c.axis(c.attrInt("axis", 1), len(first.Dims))
	dims := slices.Clone(first.Dims)
	for i := 1; i < len(c.in); i++ {
		t := c.arg(i)
		c.same(first, t)
		ok := len(t.Dims) == len(dims)
		for a := 0; ok && a < len(dims); a++ {
			ok = a == axis || t.Dims[a] == dims[a]
		}
		if !ok {
			c.fail("shapes %s do not join along axis %d", shapesText(c.in), axis)
		}
		dims[axis] += t.Dims[axis]
	}
	y := c.newLike(first, dims)
	outer, row := product(dims[:axis]), product(dims[axis:])
	at := 0
	for i := range c.in {
		t := c.arg(i)
		n := product(t.Dims[axis:])
		if t.Len() == 0 {
			continue
		}
		for o := range outer {
			if t.IsFloat() {
				copy(y.F[o*row+at:o*row+at+n], t.F[o*n:])
			} else {
				copy(y.I[o*row+at:o*row+at+n], t.I[o*n:])
			}
		}
		at += n
	}
	return one(y)
}

// opSplit cuts along an axis: into the given lengths, or into as many equal parts as
// there are outputs, the last one smaller where the division leaves a remainder.
func opSplit(c *call) []*Tensor {
	x := c.arg(0)
	axis := c.axis(c.attrInt("axis", 0), len(x.Dims))
	size := x.Dims[axis]
	parts := len(c.node.Outputs)
	list, given := c.intsFrom(1, "split")
	if n := c.attrInt("num_outputs", int64(parts)); n != int64(parts) {
		c.fail("num_outputs is %d, but there are %d outputs", n, parts)
	}
	if !given {
		if parts == 0 {
			c.fail("no outputs")
		}
		chunk := (size + parts - 1) / parts
		for left := size; len(list) < parts; left -= chunk {
			list = append(list, int64(min(max(left, 0), chunk)))
		}
	}
	lengths := c.toDims(list)
	left := size
	for _, n := range lengths {
		if n > left {
			left = -1
			break
		}
		left -= n
	}
	if left != 0 || len(lengths) != parts {
		c.fail("axis %d of size %d cannot be cut into %v for %d outputs", axis, size, list, parts)
	}
	outputs := make([]*Tensor, parts)
	start := 0
	for i, n := range lengths {
		outputs[i] = c.section(x, axis, start, 1, n)
		start += n
	}
	return outputs
}

// section copies n steps of one axis, from start, step apart.
func (c *call) section(x *Tensor, axis, start, step, n int) *Tensor {
	dims := slices.Clone(x.Dims)
	dims[axis] = n
	y := c.newLike(x, dims)
	if y.Len() == 0 {
		return y
	}
	outer, inner := product(dims[:axis]), product(dims[axis+1:])
	for o := range outer {
		for k := range n {
			from, to := (o*x.Dims[axis]+start+k*step)*inner, (o*n+k)*inner
			if x.IsFloat() {
				copy(y.F[to:to+inner], x.F[from:])
			} else {
				copy(y.I[to:to+inner], x.I[from:])
			}
		}
	}
	return y
}
