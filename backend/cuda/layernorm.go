//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/layernorm.h"
*/
import "C"

import "sift/backend"

// LayerNorm sets Z = dropout(X) + Residual and Y = (Z - mean) * rstd * Gamma + Beta, with the mean
// and the biased variance of the stored Z.
func (d *device) LayerNorm(a backend.LayerNormArgs) error {
	if a.X.Len() == 0 {
		return nil
	}
	if err := d.own("layer norm", a.Y, a.Z, a.Mean, a.Rstd, a.X, a.Residual, a.Gamma, a.Beta, a.Drop.RowKey); err != nil {
		return err
	}
	mask, err := d.drop(a.Drop)
	if err != nil {
		return err
	}
	p := (*C.LayerNormParams)(d.params())
	p.y, p.z, p.mean, p.rstd, p.x, p.residual = matrix(a.Y), matrix(a.Z), matrix(a.Mean), matrix(a.Rstd), matrix(a.X), matrix(a.Residual)
	p.gamma, p.beta = matrix(a.Gamma).at, matrix(a.Beta).at
	p.drop = mask
	p.rows, p.cols, p.wide = C.u32(a.X.Rows), C.u32(a.X.Cols), wide(a.Y, a.Z, a.X, a.Residual, a.Gamma, a.Beta)
	p.share, p.eps = C.f32(1/float64(a.X.Cols)), C.f32(a.Eps)
	return d.launch(typed(a.X.DType, "layernorm_f32", "layernorm_bf16"), (a.X.Rows+C.NORM_WARPS-1)/C.NORM_WARPS, 1, 1, 32*C.NORM_WARPS, 0)
}

// LayerNormBackward: with n = (Z - mean) * rstd and g = DY * Gamma,
//
//	DZ = rstd * (g - mean_j g_j - n * mean_j (g_j n_j)),  DX = DZ * mask / (1-P)
//	DGamma += sum_t DY n,  DBeta += sum_t DY
//
// The sums over rows are made of chunks, as in ColSum.
func (d *device) LayerNormBackward(a backend.LayerNormBackwardArgs) error {
	if a.DY.Len() == 0 {
		return nil
	}
	if err := d.own("layer norm backward", a.DZ, a.DX, a.DGamma, a.DBeta, a.DY, a.Z, a.Mean, a.Rstd, a.Gamma, a.Drop.RowKey); err != nil {
		return err
	}
	rows, h := a.DY.Rows, a.DY.Cols
	mask, err := d.drop(a.Drop)
	if err != nil {
		return err
	}
	p := (*C.LayerNormBackwardParams)(d.params())
	p.dz, p.dx, p.dy, p.z, p.mean, p.rstd = matrix(a.DZ), matrix(a.DX), matrix(a.DY), matrix(a.Z), matrix(a.Mean), matrix(a.Rstd)
	p.gamma, p.drop = matrix(a.Gamma).at, mask
	p.rows, p.cols, p.wide = C.u32(rows), C.u32(h), wide(a.DZ, a.DX, a.DY, a.Z, a.Gamma)
	p.share = C.f32(1 / float64(h))
	err = d.launch(typed(a.DY.DType, "layernorm_backward_f32", "layernorm_backward_bf16"), (rows+C.NORM_WARPS-1)/C.NORM_WARPS, 1, 1, 32*C.NORM_WARPS, 0)
	if err != nil || a.DGamma.Absent() && a.DBeta.Absent() {
		return err
	}
	chunks := (rows + C.NORM_CHUNK - 1) / C.NORM_CHUNK
	at, err := d.scratch(int64(chunks) * int64(2*h) * 4)
	if err != nil {
		return err
	}
	g := (*C.LayerNormGradientParams)(d.params())
	g.part = C.Matrix{at: at, stride: C.i64(2 * h)}
	g.dy, g.z, g.mean, g.rstd = matrix(a.DY), matrix(a.Z), matrix(a.Mean), matrix(a.Rstd)
	g.rows, g.cols = C.u32(rows), C.u32(h)
	if err := d.launchChunks(typed(a.DY.DType, "layernorm_gradient_f32", "layernorm_gradient_bf16"), h, chunks); err != nil {
		return err
	}
	for i, dst := range [...]backend.Tensor{a.DGamma, a.DBeta} {
		if dst.Absent() {
			continue
		}
		if err := d.addParts(dst, C.Matrix{at: at + C.u64(4*i*h), stride: C.i64(2 * h)}, chunks); err != nil {
			return err
		}
	}
	return nil
}
