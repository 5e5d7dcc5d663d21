package eval

import (
	"math"

	"sift/onnx"
)

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// compare is a binary predicate with broadcasting on two tensors of one type.
func compare(f func(x, y float64) bool, g func(x, y int64) bool) operator {
	return func(c *call) []*Tensor {
		a, b := c.arg(0), c.arg(1)
		c.same(a, b)
		y := c.newInt(onnx.Bool, c.broadcastDims(a, b))
		if a.IsFloat() {
			map2(y.Dims, y.I, a.F, a.Dims, b.F, b.Dims, func(x, z float64) int64 { return truth(f(x, z)) })
		} else {
			map2(y.Dims, y.I, a.I, a.Dims, b.I, b.Dims, func(x, z int64) int64 { return truth(g(x, z)) })
		}
		return one(y)
	}
}

func equal[T int64 | float64](x, y T) bool        { return x == y }
func less[T int64 | float64](x, y T) bool         { return x < y }
func lessEqual[T int64 | float64](x, y T) bool    { return x <= y }
func greater[T int64 | float64](x, y T) bool      { return x > y }
func greaterEqual[T int64 | float64](x, y T) bool { return x >= y }

// connective is And, Or or Xor on bool tensors.
func connective(f func(x, y int64) int64) operator {
	return func(c *call) []*Tensor {
		a, b := c.boolean(0), c.boolean(1)
		y := c.newInt(onnx.Bool, c.broadcastDims(a, b))
		map2(y.Dims, y.I, a.I, a.Dims, b.I, b.Dims, f)
		return one(y)
	}
}

func opNot(c *call) []*Tensor {
	x := c.boolean(0)
	y := c.newInt(onnx.Bool, x.Dims)
	for i, v := range x.I {
		y.I[i] = 1 - v
	}
	return one(y)
}

// opWhere is condition ? x : y, all three broadcast.
func opWhere(c *call) []*Tensor {
	cond, a, b := c.boolean(0), c.arg(1), c.arg(2)
	c.same(a, b)
	y := c.newLike(a, c.broadcastDims(cond, a, b))
	if a.IsFloat() {
		choose(y.Dims, y.F, cond, a.F, a.Dims, b.F, b.Dims)
	} else {
		choose(y.Dims, y.I, cond, a.I, a.Dims, b.I, b.Dims)
	}
	return one(y)
}

func choose[A any](dims []int, out []A, cond *Tensor, a []A, aDims []int, b []A, bDims []int) {
	strides := [][]int{stretched(cond.Dims, dims), stretched(aDims, dims), stretched(bDims, dims)}
	walk(dims, strides, func(o, n int, at, step []int) {
		for e := range n {
			if cond.I[at[0]+e*step[0]] != 0 {
				out[o+e] = a[at[1]+e*step[1]]
			} else {
				out[o+e] = b[at[2]+e*step[2]]
			}
		}
	})
}

func opIsNaN(c *call) []*Tensor {
	x := c.float(0)
	y := c.newInt(onnx.Bool, x.Dims)
	for i, v := range x.F {
		y.I[i] = truth(math.IsNaN(v))
	}
	return one(y)
}

func opIsInf(c *call) []*Tensor {
	x := c.float(0)
	positive, negative := c.attrInt("detect_positive", 1) != 0, c.attrInt("detect_negative", 1) != 0
	y := c.newInt(onnx.Bool, x.Dims)
	for i, v := range x.F {
		y.I[i] = truth(positive && math.IsInf(v, 1) || negative && math.IsInf(v, -1))
	}
	return one(y)
}
