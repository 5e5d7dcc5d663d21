package eval

import (
	"math"
	"slices"
)

// opAttention is com.microsoft:Attention without past state: for each head of size d,
//
//	softmax(Q K^T scale + mask) V, [Q K V] = x W + b
//
// Inputs: x [B, S, Hin], W [Hin, Hq+Hk+Hv], b, mask. A mask of shape [B] holds lengths,
// [2B] ends then starts, [B, S] or [B, S, S] zeros where attention is not allowed, where
// mask_filter_value is added.
func opAttention(c *call) []*Tensor {
	x, w, b := c.float(0), c.float(1), c.optFloat(2)
	for i := 4; i < len(c.in); i++ {
		if c.in[i] != nil {
			c.fail("input %d (past state or attention bias) is not supported", i)
		}
	}
	if len(x.Dims) != 3 || len(w.Dims) != 2 {
		c.fail("shapes %s", shapesText(c.in[:2]))
	}
	width := w.Dims[1]
	sizes := []int{width / 3, width / 3, width / 3}
	if list, ok := c.attrInts("qkv_hidden_sizes"); ok {
		if len(list) != 3 {
			c.fail("qkv_hidden_sizes %v", list)
		}
		sizes = c.toDims(list)
	}
	for _, s := range sizes {
		if s > width {
			c.fail("sizes %v of a weight of shape %s", sizes, dimsText(w.Dims))
		}
	}
	if sizes[0]+sizes[1]+sizes[2] != width {
		c.fail("sizes %v of a weight of shape %s", sizes, dimsText(w.Dims))
	}
	joint := c.matmul(x, w, false, false, 1)
	if b != nil {
		for i, v := range c.stretchTo(b, joint.Dims) {
			joint.F[i] += v
		}
	}
	q := c.section(joint, 2, 0, 1, sizes[0])
	k := c.section(joint, 2, sizes[0], 1, sizes[1])
	v := c.section(joint, 2, sizes[0]+sizes[1], 1, sizes[2])
	return one(c.attend(q, k, v, c.opt(3)))
}

// opMultiHeadAttention is com.microsoft:MultiHeadAttention on separate query, key and
// value of shapes [B, S, H], with an optional bias [3H] added to them.
func opMultiHeadAttention(c *call) []*Tensor {
	qkv := []*Tensor{c.float(0), c.float(1), c.float(2)}
	for i := 5; i < len(c.in); i++ {
		if c.in[i] != nil {
			c.fail("input %d (past state or attention bias) is not supported", i)
		}
	}
	at := 0
	for i, t := range qkv {
		if len(t.Dims) != 3 {
			c.fail("shapes %s are not three axes each", shapesText(qkv))
		}
		b := c.optFloat(3)
		if b == nil {
			continue
		}
		n := t.Dims[2]
		if len(b.F) < at+n {
			c.fail("a bias of shape %s", dimsText(b.Dims))
		}
		qkv[i] = c.biased(t, Floats(b.F[at:at+n], n), same1)
		at += n
	}
	return one(c.attend(qkv[0], qkv[1], qkv[2], c.opt(4)))
}

// attend computes attention head by head on q [B, S, Hq], k [B, T, Hq], v [B, T, Hv].
func (c *call) attend(q, k, v, mask *Tensor) *Tensor {
	batch, rows, cols := q.Dims[0], q.Dims[1], k.Dims[1]
	heads := c.attrInt("num_heads", 0)
	hq, hv := q.Dims[2], v.Dims[2]
	if heads <= 0 || heads > int64(min(hq, hv)) || hq%int(heads) != 0 || hv%int(heads) != 0 {
		c.fail("%d heads for widths %d and %d", heads, hq, hv)
	}
	if !slices.Equal(k.Dims, []int{batch, cols, hq}) || v.Dims[0] != batch || v.Dims[1] != cols {
		c.fail("query, key and value of shapes %s", shapesText([]*Tensor{q, k, v}))
	}
	scale := c.attrFloat("scale", 0)
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(hq/int(heads)))
	}
	causal := c.attrInt("unidirectional", 0) != 0
	filter := c.attrFloat("mask_filter_value", -10000)
	allowed := c.allowed(mask, batch, rows, cols)
	y := c.newFloat(q.DType, []int{batch, rows, hv})
	c.spend(batch, rows, cols, hq+hv)
	n, m := hq/int(heads), hv/int(heads)
	score := make([]float64, cols)
	for i := range batch * int(heads) * rows {
		r, h, s := i/(int(heads)*rows), i/rows%int(heads), i%rows
		query := q.F[(r*rows+s)*hq+h*n:][:n]
		for t := range cols {
			dot := 0.0
			for e, kv := range k.F[(r*cols+t)*hq+h*n:][:n] {
				dot += query[e] * kv
			}
			score[t] = dot * scale
			if !allowed(r, s, t) {
				score[t] += filter
			}
			if causal && t > s {
				score[t] = math.Inf(-1)
			}
		}
		softmaxRow(score, func(row []float64, top, sum float64) {
			for t, x := range row {
				row[t] = math.Exp(x-top) / sum
			}
		})
		out := y.F[(r*rows+s)*hv+h*m:][:m]
		for t, p := range score {
			for e, x := range v.F[(r*cols+t)*hv+h*m:][:m] {
				out[e] += p * x
			}
		}
	}
	return y
}

// allowed reads the mask of an attention: may row s of sequence r attend to key t?
func (c *call) allowed(mask *Tensor, batch, rows, cols int) func(r, s, t int) bool {
	if mask == nil {
		return func(_, _, _ int) bool { return true }
	}
	if mask.IsFloat() {
		c.fail("a mask of type %v", mask.DType)
	}
	switch {
	case slices.Equal(mask.Dims, []int{batch, cols}):
		return func(r, _, t int) bool { return mask.I[r*cols+t] != 0 }
	case slices.Equal(mask.Dims, []int{batch, rows, cols}):
		return func(r, s, t int) bool { return mask.I[(r*rows+s)*cols+t] != 0 }
	case slices.Equal(mask.Dims, []int{batch}):
		return func(r, _, t int) bool { return int64(t) < mask.I[r] }
	case slices.Equal(mask.Dims, []int{2 * batch}):
		return func(r, _, t int) bool { return int64(t) < mask.I[r] && int64(t) >= mask.I[batch+r] }
	}
	c.fail("a mask of shape %s is not supported", dimsText(mask.Dims))
	return nil
}
