package eval

import "slices"

// opMatMul is numpy.matmul: the last two axes are matrices, the others broadcast; a
// vector is a row on the left and a column on the right, and its axis disappears.
func opMatMul(c *call) []*Tensor {
	a, b := c.float(0), c.float(1)
	c.same(a, b)
	return one(c.matmul(a, b, false, false, 1))
}

// opFusedMatMul is com.microsoft:FusedMatMul, alpha op(A) op(B) with op an optional
// transposition of the last two axes.
func opFusedMatMul(c *call) []*Tensor {
	a, b := c.float(0), c.float(1)
	if c.attrInt("transBatchA", 0) != 0 || c.attrInt("transBatchB", 0) != 0 {
		c.fail("transBatchA and transBatchB are not supported")
	}
	return one(c.matmul(a, b, c.attrInt("transA", 0) != 0, c.attrInt("transB", 0) != 0, c.attrFloat("alpha", 1)))
}

// matmul multiplies with broadcasting over the leading axes.
func (c *call) matmul(a, b *Tensor, transA, transB bool, alpha float64) *Tensor {
	if len(a.Dims) == 0 || len(b.Dims) == 0 {
		c.fail("a scalar operand")
	}
	aDims, bDims := a.Dims, b.Dims
	vectorA, vectorB := len(aDims) == 1, len(bDims) == 1
	if vectorA {
		aDims, transA = []int{1, aDims[0]}, false
	}
	if vectorB {
		bDims, transB = []int{bDims[0], 1}, false
	}
	left, m, k := c.lastTwo(a, aDims, transA)
	right, k2, n := c.lastTwo(b, bDims, transB)
	if k != k2 {
		c.fail("shapes %s do not multiply", shapesText([]*Tensor{a, b}))
	}
	aBatch, bBatch := aDims[:len(aDims)-2], bDims[:len(bDims)-2]
	batch := c.broadcastDims(&Tensor{Dims: aBatch}, &Tensor{Dims: bBatch})
	y := c.newFloat(a.DType, append(slices.Clone(batch), m, n))
	c.spend(len(y.F), k)
	switch {
	case len(y.F) == 0:
	case product(bBatch) == 1 && !transA:
		// One matrix on the right: the batch is more rows.
		product2D(c.run.ctx, y.F, left, right, len(y.F)/n, n, k)
	case product(batch) == 1:
		product2D(c.run.ctx, y.F, left, right, m, n, k)
	default:
		c.batched(y.F, left, aBatch, right, bBatch, batch, m, n, k)
	}
	if alpha != 1 {
		for i := range y.F {
			y.F[i] *= alpha
		}
	}
	if vectorA || vectorB {
		dims := batch
		if !vectorA {
			dims = append(dims, m)
		}
		if !vectorB {
			dims = append(dims, n)
		}
		y = y.with(dims)
	}
	return y
}

// lastTwo views the last two axes as a matrix and returns its size.
func (c *call) lastTwo(t *Tensor, dims []int, trans bool) (matrix, int, int) {
	rows, cols := dims[len(dims)-2], dims[len(dims)-1]
	if trans {
		return matrix{data: t.F, row: 1, col: cols}, cols, rows
	}
	return matrix{data: t.F, row: cols, col: 1}, rows, cols
}

// batched multiplies matrix by matrix, several at a time.
func (c *call) batched(out []float64, a matrix, aBatch []int, b matrix, bBatch, batch []int, m, n, k int) {
	type pair struct{ a, b int }
	pairs := make([]pair, 0, product(batch))
	strides := [][]int{stretched(aBatch, batch), stretched(bBatch, batch)}
	walk(batch, strides, func(_, rows int, at, step []int) {
		for e := range rows {
			pairs = append(pairs, pair{at[0] + e*step[0], at[1] + e*step[1]})
		}
	})
	parallel(c.run.ctx, len(pairs), func(i int, s *strip) {
		left, right := a, b
		left.at, right.at = pairs[i].a*m*k, pairs[i].b*k*n
		gemm(out[i*m*n:(i+1)*m*n], left, right, m, n, k, s)
	})
}

// opGemm is alpha op(A) op(B) + beta C, C broadcast to the result.
func opGemm(c *call) []*Tensor {
	a, b := c.float(0), c.float(1)
	if len(a.Dims) != 2 || len(b.Dims) != 2 {
		c.fail("shapes %s are not two matrices", shapesText(c.in[:2]))
	}
	y := c.matmul(a, b, c.attrInt("transA", 0) != 0, c.attrInt("transB", 0) != 0, c.attrFloat("alpha", 1))
	if bias := c.optFloat(2); bias != nil {
		beta := c.attrFloat("beta", 1)
		for i, v := range c.stretchTo(bias, y.Dims) {
			y.F[i] += beta * v
		}
	}
	return one(y)
}

// opFusedGemm is com.microsoft:FusedGemm, a Gemm followed by an activation.
func opFusedGemm(c *call) []*Tensor {
	y := opGemm(c)[0]
	name := c.attrString("activation", "")
	f := map[string]func(float64) float64{"": same1, "Relu": relu, "Tanh": tanh, "Sigmoid": sigmoid, "Gelu": gelu}[name]
	if f == nil {
		c.fail("activation %q is not supported", name)
	}
	for i, v := range y.F {
		y.F[i] = f(v)
	}
	return one(y)
}
