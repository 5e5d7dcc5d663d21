//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/adamw.h"
*/
import "C"

import (
	"math"

	"sift/backend"
)

// SumSquares sets dst to the sum of x_i^2, summed in float64.
func (d *device) SumSquares(dst, x backend.Tensor) error {
	if x.Len() == 0 {
		return d.Zero(dst)
	}
	if err := d.own("sum of squares", dst, x); err != nil {
		return err
	}
	n := x.Len()
	parts := (n + C.SQUARE_CHUNK - 1) / C.SQUARE_CHUNK
	at, err := d.scratch(8 * int64(parts))
	if err != nil {
		return err
	}
	p := (*C.SquaresParams)(d.params())
	p.part, p.x, p.n = at, matrix(x).at, C.i64(n)
	if err := d.launch("squares", parts, 1, 1, 256, 0); err != nil {
		return err
	}
	s := (*C.SquaresSumParams)(d.params())
	s.dst, s.part, s.parts = matrix(dst).at, at, C.u32(parts)
	return d.launch("squares_sum", 1, 1, 1, 256, 0)
}

// AdamW is the update that backend.AdamWArgs writes out.
func (d *device) AdamW(a backend.AdamWArgs) error {
	n := a.Param.Len()
	if n == 0 {
		return nil
	}
	if err := d.own("adamw", a.Param, a.Grad, a.M, a.V, a.Half, a.SumSq); err != nil {
		return err
	}
	correct1 := 1 - math.Pow(a.Beta1, float64(a.Step))
	correct2 := 1 - math.Pow(a.Beta2, float64(a.Step))
	p := (*C.AdamWParams)(d.params())
	p.param, p.grad, p.m, p.v, p.half = matrix(a.Param).at, matrix(a.Grad).at, matrix(a.M).at, matrix(a.V).at, matrix(a.Half).at
	p.n = C.i64(n)
	p.gradScale, p.clip = C.f32(a.GradScale), C.f32(a.ClipNorm)
	p.beta1, p.rest1, p.beta2, p.rest2 = C.f32(a.Beta1), C.f32(1-a.Beta1), C.f32(a.Beta2), C.f32(1-a.Beta2)
	p.decay, p.rate, p.correct, p.eps = C.f32(a.LR*a.Decay), C.f32(a.LR/correct1), C.f32(1/correct2), C.f32(a.Eps)
	if a.Guard {
		p.guard = 1
	}
	if a.ClipNorm > 0 || a.Guard {
		p.sumSq, p.norm = matrix(a.SumSq).at, 1
		if a.SumSq.DType == backend.F64 {
			p.norm = 2
		}
	}
	p.wide = wide(a.Param, a.Grad, a.M, a.V, a.Half)
	return d.launch("adamw", blocks256(quads(n)), 1, 1, 256, 0)
}
