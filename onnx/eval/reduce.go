package eval

import (
	"math"

	"sift/onnx"
)

// reduction is how a Reduce operator folds the elements it joins: start with init,
// fold with add (count is the number of elements joined), and end with done.
type reduction struct {
	init float64
	add  func(acc, x float64) float64
	done func(acc float64, count int) float64
	ints func(acc, x int64) int64 // for integer tensors; nil where the operator has none
}

func same(acc float64, _ int) float64 { return acc }

func reduceSum() reduction {
	return reduction{0, addFloat, same, func(a, x int64) int64 { return a + x }}
}

func reduceMean() reduction {
	return reduction{0, addFloat, func(acc float64, n int) float64 { return acc / float64(n) }, nil}
}

func reduceProd() reduction {
	return reduction{1, mulFloat, same, func(a, x int64) int64 { return a * x }}
}

func reduceMax() reduction {
	return reduction{math.Inf(-1), math.Max, same, func(a, x int64) int64 { return max(a, x) }}
}

func reduceMin() reduction {
	return reduction{math.Inf(1), math.Min, same, func(a, x int64) int64 { return min(a, x) }}
}

func reduceL1() reduction {
	return reduction{0, func(a, x float64) float64 { return a + math.Abs(x) }, same, nil}
}

func reduceL2() reduction {
	return reduction{0, addSquare, func(acc float64, _ int) float64 { return math.Sqrt(acc) }, nil}
}

func reduceSumSquare() reduction { return reduction{0, addSquare, same, nil} }

func reduceLogSum() reduction {
	return reduction{0, addFloat, func(acc float64, _ int) float64 { return math.Log(acc) }, nil}
}

func addSquare(a, x float64) float64 { return a + x*x }

// joinAxes resolves which axes a Reduce operator joins: from input 1 or attribute
// axes; all axes when there are none, unless noop_with_empty_axes.
func (c *call) joinAxes(rank int) (joined []bool, nothing bool) {
	list, _ := c.intsFrom(1, "axes")
	joined = c.axes(list, rank)
	if len(list) > 0 {
		return joined, false
	}
	if c.attrInt("noop_with_empty_axes", 0) != 0 {
		return joined, true
	}
	for i := range joined {
		joined[i] = true
	}
	return joined, false
}

// split separates the output shape of a reduction: full keeps the joined axes as 1
// and is walked; dims is what the caller sees.
func (c *call) reducedDims(x *Tensor, joined []bool, keep bool) (full, dims []int, count int) {
	count, dims = 1, []int{}
	for i, d := range x.Dims {
		if !joined[i] {
			full, dims = append(full, d), append(dims, d)
			continue
		}
		count *= d
		full = append(full, 1)
		if keep {
			dims = append(dims, 1)
		}
	}
	return full, dims, count
}

// visitJoined calls row for stretches of x: elements x[i:i+n] fold into output o when
// step is 0, or into outputs o, o+1, ... when step is 1.
func visitJoined(x *Tensor, full []int, row func(o, step, i, n int)) {
	walk(x.Dims, [][]int{stretched(full, x.Dims)}, func(i, n int, at, step []int) {
		row(at[0], step[0], i, n)
	})
}

// reduce is a Reduce operator.
func reduce(r reduction) operator {
	return func(c *call) []*Tensor {
		x := c.arg(0)
		joined, nothing := c.joinAxes(len(x.Dims))
		if nothing {
			return one(x)
		}
		full, dims, count := c.reducedDims(x, joined, c.attrInt("keepdims", 1) != 0)
		if !x.IsFloat() {
			return one(c.reduceInts(r, x, full, dims, count))
		}
		y := c.newFloat(x.DType, dims)
		for i := range y.F {
			y.F[i] = r.init
		}
		visitJoined(x, full, func(o, step, i, n int) {
			for e := range n {
				y.F[o] = r.add(y.F[o], x.F[i+e])
				o += step
			}
		})
		for i, v := range y.F {
			y.F[i] = r.done(v, count)
		}
		return one(y)
	}
}

func (c *call) reduceInts(r reduction, x *Tensor, full, dims []int, count int) *Tensor {
	if r.ints == nil {
		c.fail("%s of %v is not supported", c.node.OpType, x.DType)
	}
	y := c.newInt(x.DType, dims)
	if count == 0 {
		if math.IsInf(r.init, 0) {
			c.fail("%s over no elements", c.node.OpType)
		}
		for i := range y.I {
			y.I[i] = int64(r.init)
		}
		return y
	}
	started := make([]bool, len(y.I))
	visitJoined(x, full, func(o, step, i, n int) {
		for e := range n {
			if started[o] {
				y.I[o] = wrap(x.DType, r.ints(y.I[o], x.I[i+e]))
			} else {
				y.I[o], started[o] = x.I[i+e], true
			}
			o += step
		}
	})
	return y
}

// opReduceLogSumExp is max + log(sum(exp(x - max))).
func opReduceLogSumExp(c *call) []*Tensor {
	x := c.float(0)
	joined, nothing := c.joinAxes(len(x.Dims))
	if nothing {
		return one(x)
	}
	full, dims, _ := c.reducedDims(x, joined, c.attrInt("keepdims", 1) != 0)
	y := c.newFloat(x.DType, dims)
	top := make([]float64, len(y.F))
	for i := range top {
		top[i] = math.Inf(-1)
	}
	visitJoined(x, full, func(o, step, i, n int) {
		for e := range n {
			top[o] = math.Max(top[o], x.F[i+e])
			o += step
		}
	})
	visitJoined(x, full, func(o, step, i, n int) {
		for e := range n {
			if !math.IsInf(top[o], 0) {
				y.F[o] += math.Exp(x.F[i+e] - top[o])
			}
			o += step
		}
	})
	for i, v := range y.F {
		if y.F[i] = top[i]; !math.IsInf(top[i], 0) {
			y.F[i] += math.Log(v)
		}
	}
	return one(y)
}

// extreme is ArgMax or ArgMin: the position of the best element along an axis, the
// first one or, with select_last_index, the last.
func extreme(better func(x, y float64) bool) operator {
	return func(c *call) []*Tensor {
		x := c.arg(0)
		axis := c.axis(c.attrInt("axis", 0), len(x.Dims))
		last := c.attrInt("select_last_index", 0) != 0
		joined := make([]bool, len(x.Dims))
		joined[axis] = true
		full, dims, n := c.reducedDims(x, joined, c.attrInt("keepdims", 1) != 0)
		y := c.newInt(onnx.Int64, dims)
		if n == 0 {
			c.fail("axis %d is empty", axis)
		}
		values := asFloats(x)
		inner := product(full[axis+1:])
		for o := range y.I {
			at := o/inner*inner*n + o%inner
			best := 0
			for k := 1; k < n; k++ {
				v, b := values[at+k*inner], values[at+best*inner]
				if better(v, b) || last && v == b {
					best = k
				}
			}
			y.I[o] = int64(best)
		}
		return one(y)
	}
}
