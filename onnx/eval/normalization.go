package eval

import (
	"math"

	"sift/onnx"
)

// opSoftmax normalises exp(x - max). From opset 13 along one axis, by default the
// last; before, over all axes from axis (by default 1) taken together.
func opSoftmax(c *call) []*Tensor {
	return c.softmax(func(row []float64, top, sum float64) {
		for i, v := range row {
			row[i] = math.Exp(v-top) / sum
		}
	})
}

// opLogSoftmax is x - max - log(sum(exp(x - max))).
func opLogSoftmax(c *call) []*Tensor {
	return c.softmax(func(row []float64, top, sum float64) {
		for i, v := range row {
			row[i] = v - top - math.Log(sum)
		}
	})
}

func (c *call) softmax(finish func(row []float64, top, sum float64)) []*Tensor {
	x := c.float(0)
	rank := len(x.Dims)
	if c.opset >= 13 {
		axis := c.axis(c.attrInt("axis", -1), rank)
		return one(c.alongAxis(x, axis, func(row []float64) { softmaxRow(row, finish) }))
	}
	axis := 0
	if rank > 0 {
		axis = c.axis(c.attrInt("axis", 1), rank)
	}
	y := c.newFloat(x.DType, x.Dims)
	copy(y.F, x.F)
	if n := product(x.Dims[axis:]); len(y.F) > 0 {
		for at := 0; at < len(y.F); at += n {
			softmaxRow(y.F[at:at+n], finish)
		}
	}
	return one(y)
}

func softmaxRow(row []float64, finish func(row []float64, top, sum float64)) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range row {
		top = math.Max(top, v)
	}
	for _, v := range row {
		sum += math.Exp(v - top)
	}
	finish(row, top, sum)
}

// alongAxis copies x and lets f change every line of it along an axis, several at a
// time.
func (c *call) alongAxis(x *Tensor, axis int, f func(line []float64)) *Tensor {
	y := c.newFloat(x.DType, x.Dims)
	copy(y.F, x.F)
	n, inner := x.Dims[axis], product(x.Dims[axis+1:])
	if len(y.F) == 0 {
		return y
	}
	if inner == 1 {
		spread(len(y.F), func(lo, hi int) { // a line belongs to the part it begins in
			for i := (lo + n - 1) / n * n; i < hi; i += n {
				f(y.F[i : i+n])
			}
		})
		return y
	}
	line := make([]float64, n)
	for block := 0; block < len(y.F); block += n * inner {
		for i := block; i < block+inner; i++ {
			gatherRow(line, y.F, i, inner)
			f(line)
			for k, v := range line {
				y.F[i+k*inner] = v
			}
		}
	}
	return y
}

// opHardmax is one at the first largest element along the axis, zero elsewhere.
func opHardmax(c *call) []*Tensor {
	x := c.float(0)
	if c.opset < 13 {
		c.fail("before opset 13 it is not supported")
	}
	axis := c.axis(c.attrInt("axis", -1), len(x.Dims))
	return one(c.alongAxis(x, axis, func(line []float64) {
		best := 0
		for i, v := range line {
			if v > line[best] {
				best = i
			}
		}
		clear(line)
		line[best] = 1
	}))
}

// opLayerNormalization computes, over the axes from axis on,
//
//	y = (x - mean) / sqrt(variance + epsilon) * gamma + beta
//
// with the biased variance. The optional outputs are mean and 1/sqrt(variance +
// epsilon). The operator entered the default domain at opset 17; files optimised by
// ONNX Runtime carry it at older ones, with the same meaning.
func opLayerNormalization(c *call) []*Tensor {
	x := c.float(0)
	axis := c.axis(c.attrInt("axis", -1), len(x.Dims))
	return c.layerNorm(x, axis, c.float(1), c.optFloat(2), c.attrFloat("epsilon", 1e-5))
}

func (c *call) layerNorm(x *Tensor, axis int, gamma, beta *Tensor, epsilon float64) []*Tensor {
	tail := x.Dims[axis:]
	g := c.stretchTo(gamma, tail)
	var b []float64
	if beta != nil {
		b = c.stretchTo(beta, tail)
	}
	y := c.newFloat(x.DType, x.Dims)
	statDims := make([]int, len(x.Dims))
	for i, d := range x.Dims {
		statDims[i] = 1
		if i < axis {
			statDims[i] = d
		}
	}
	mean, rstd := c.newFloat(onnx.Float, statDims), c.newFloat(onnx.Float, statDims)
	n := product(tail)
	for r := range mean.F {
		m, s := normalizeRow(y.F[r*n:(r+1)*n], x.F[r*n:(r+1)*n], g, b, epsilon)
		mean.F[r], rstd.F[r] = m, s
	}
	return []*Tensor{y, mean, rstd}
}

// normalizeRow writes (x - mean) rstd gamma + beta and returns mean and rstd.
func normalizeRow(y, x, gamma, beta []float64, epsilon float64) (mean, rstd float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	variance := 0.0
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	rstd = 1 / math.Sqrt(variance/float64(len(x))+epsilon)
	for i, v := range x {
		y[i] = (v - mean) * rstd * gamma[i]
		if beta != nil {
			y[i] += beta[i]
		}
	}
	return mean, rstd
}

// stretchTo broadcasts a float tensor to exactly the given shape.
func (c *call) stretchTo(t *Tensor, dims []int) []float64 {
	target := &Tensor{DType: t.DType, Dims: dims}
	got := c.broadcastDims(t, target)
	if len(got) != len(dims) || product(got) != product(dims) {
		c.fail("shape %s does not broadcast to %s", dimsText(t.Dims), dimsText(dims))
	}
	if len(t.F) == product(dims) {
		return t.F
	}
	out := make([]float64, c.count(dims))
	stretch(dims, out, t.F, t.Dims)
	return out
}
