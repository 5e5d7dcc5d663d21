package eval

import (
	"slices"

	"sift/onnx"
)

// The operators of domain com.microsoft that ONNX Runtime's transformer optimiser
// writes; their pages are in ONNX Runtime's docs/ContribOperators.md.

// opBiasGelu is gelu(x + bias), bias along the last axis.
func opBiasGelu(c *call) []*Tensor { return one(c.biased(c.float(0), c.float(1), gelu)) }

// opFastGelu is the tanh approximation of gelu of x, or of x + bias.
func opFastGelu(c *call) []*Tensor { return one(c.biased(c.float(0), c.optFloat(1), geluTanh)) }

// opQuickGelu is x sigmoid(alpha x).
func opQuickGelu(c *call) []*Tensor {
	alpha := c.attrFloat("alpha", 1.702)
	return unary(func(x float64) float64 { return x * sigmoid(alpha*x) })(c)
}

func (c *call) biased(x, bias *Tensor, f func(float64) float64) *Tensor {
	y := c.newFloat(x.DType, x.Dims)
	var b []float64
	if bias != nil {
		b = c.stretchTo(bias, x.Dims)
	}
	for i, v := range x.F {
		if b != nil {
			v += b[i]
		}
		y.F[i] = f(v)
	}
	return y
}

// opSkipLayerNormalization is LayerNorm(x + skip + bias) over the last axis. Inputs:
// x, skip, gamma, beta, bias; outputs: y, mean, 1/deviation, the sum.
func opSkipLayerNormalization(c *call) []*Tensor {
	x, skip := c.float(0), c.float(1)
	if len(x.Dims) == 0 {
		c.fail("the input is a scalar")
	}
	sum := c.newFloat(x.DType, x.Dims)
	copy(sum.F, x.F)
	for _, term := range []*Tensor{skip, c.optFloat(4)} {
		if term == nil {
			continue
		}
		for i, v := range c.stretchTo(term, x.Dims) {
			sum.F[i] += v
		}
	}
	out := c.layerNorm(sum, len(x.Dims)-1, c.float(2), c.optFloat(3), c.attrFloat("epsilon", 1e-12))
	return append(out, sum)
}

// opEmbedLayerNormalization is LayerNorm(word[ids] + position[p] + segment[types]).
// Inputs: ids, segment ids, word, position, segment, gamma, beta, mask, position ids;
// outputs: the embeddings, the number of unmasked tokens of each sequence, the sum.
func opEmbedLayerNormalization(c *call) []*Tensor {
	ids, word, position := c.integer(0), c.float(2), c.float(3)
	if len(ids.Dims) != 2 || len(word.Dims) != 2 || len(position.Dims) != 2 {
		c.fail("ids, word and position tables of shapes %s", shapesText([]*Tensor{ids, word, position}))
	}
	batch, length, width := ids.Dims[0], ids.Dims[1], word.Dims[1]
	sum := c.newFloat(word.DType, []int{batch, length, width})
	add := func(table *Tensor, row func(i int) int64) {
		if len(table.Dims) != 2 || table.Dims[1] != width {
			c.fail("a table of shape %s, not %d wide", dimsText(table.Dims), width)
		}
		for i := range batch * length {
			at := c.index(max(row(i), -1<<62), table.Dims[0]) * width
			for e, v := range table.F[at : at+width] {
				sum.F[i*width+e] += v
			}
		}
	}
	add(word, func(i int) int64 { return ids.I[i] })
	if p := c.opt(8); p != nil {
		if p.IsFloat() || len(p.I) != length && len(p.I) != batch*length {
			c.fail("position ids of shape %s", dimsText(p.Dims))
		}
		add(position, func(i int) int64 { return p.I[i%len(p.I)] })
	} else {
		add(position, func(i int) int64 { return int64(i % length) })
	}
	if types, table := c.opt(1), c.optFloat(4); types != nil && table != nil {
		if !slices.Equal(types.Dims, ids.Dims) || types.IsFloat() {
			c.fail("segment ids of shape %s", dimsText(types.Dims))
		}
		add(table, func(i int) int64 { return types.I[i] })
	}
	y := c.layerNorm(sum, 2, c.float(5), c.optFloat(6), c.attrFloat("epsilon", 1e-12))[0]
	counts := c.newInt(onnx.Int32, []int{batch})
	if mask := c.opt(7); mask != nil {
		if !slices.Equal(mask.Dims, ids.Dims) || mask.IsFloat() {
			c.fail("a mask of shape %s", dimsText(mask.Dims))
		}
		for i, m := range mask.I {
			counts.I[i/length] += truth(m != 0)
		}
	}
	return []*Tensor{y, counts, sum}
}
