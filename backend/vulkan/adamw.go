//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import (
	"math"

	"sift/backend"
)

// squareChunk is the number of elements whose squares are summed into one pair of floats.
const squareChunk = 16384

// SumSquares sets dst to the sum of x_i^2, exact to float32: chunks are summed in pairs of
// floats, then the chunks' sums.
func (d *device) SumSquares(dst, x backend.Tensor) error {
	if x.Len() == 0 {
		return d.Zero(dst)
	}
	x = x.Reshape(1, x.Len())
	step := min(d.cols(x), x.Cols)
	chunk := min(squareChunk, (step+3)&^3)
	step = max(step/chunk, 1) * chunk
	chunks := (x.Cols + chunk - 1) / chunk
	parts, err := d.scratch(2 * chunks)
	if err != nil {
		return err
	}
	for at := 0; at < x.Cols; at += step {
		x := x.ColRange(at, min(step, x.Cols-at))
		r := d.newRowwise(x.Cols, x)
		c := d.call("squares", r.local, r.lanes, r.width, r.tail)
		c.write(parts)
		c.read(x)
		n := (x.Cols + chunk - 1) / chunk
		c.u32(uint32(chunk), uint32(x.Cols), uint32(n), uint32(at/chunk))
		if err := r.run(c, n); err != nil {
			return err
		}
	}
	r := d.newRowwise(chunks)
	c := d.call("squares_sum", r.local, r.lanes)
	c.write(dst)
	c.read(parts)
	c.u32(uint32(chunks))
	return c.groups(1)
}

// AdamW is the update that backend.AdamWArgs writes out.
func (d *device) AdamW(a backend.AdamWArgs) error {
	if a.Param.Len() == 0 {
		return nil
	}
	norm := uint32(0)
	if a.ClipNorm > 0 {
		norm = 1 + flag(a.SumSq.DType == backend.F64)
	} else {
		a.SumSq = backend.Tensor{}
	}
	correct1 := 1 - math.Pow(a.Beta1, float64(a.Step))
	correct2 := 1 - math.Pow(a.Beta2, float64(a.Step))
	step := d.cols(a.Param, a.Grad, a.M, a.V)
	for at := 0; at < a.Param.Cols; {
		n := min(step, a.Param.Cols-at)
		if n > 3 {
			n &^= 3 // the last ones take a dispatch of their own
		}
		param, grad, m, v := a.Param.ColRange(at, n), a.Grad.ColRange(at, n), a.M.ColRange(at, n), a.V.ColRange(at, n)
		p := d.newPass(1, n, wide(param, grad, m, v))
		c := d.call("adamw", p.local, p.width, norm)
		c.update(param)
		c.update(grad)
		c.update(m)
		c.update(v)
		c.read(a.SumSq)
		c.f32(a.GradScale, a.ClipNorm, a.Beta1, 1-a.Beta1, a.Beta2, 1-a.Beta2,
			a.LR*a.Decay, a.LR/correct1, 1/correct2, a.Eps)
		if err := p.run(c); err != nil {
			return err
		}
		at += n
	}
	return nil
}
