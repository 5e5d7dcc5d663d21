package bert

import "sift/backend"

// linear is y = x W^T + b with its gradients. DW and DB are absent where frozen.
type linear struct {
	W, B, DW, DB backend.Tensor // [out,in], [1,out]
}

// forward sets y [T,out] to act(x W^T + b), x [T,in]. pre, if present, receives the
// value before act.
func (l *linear) forward(s *backend.Stream, y, x backend.Tensor, act backend.Activation, pre backend.Tensor) {
	s.Gemm(backend.GemmArgs{C: y, A: x, B: l.W, TransB: true, Alpha: 1, Bias: l.B, Act: act, Pre: pre})
}

// backward adds dy^T x to DW and the column sums of dy to DB, and sets dx, if present,
// to dy W + beta dx. dy [T,out] is the gradient before any activation.
func (l *linear) backward(s *backend.Stream, dx, dy, x backend.Tensor, beta float64) {
	l.backwardWeights(s, dy, x)
	if !dx.Absent() {
		s.Gemm(backend.GemmArgs{C: dx, A: dy, B: l.W, Alpha: 1, Beta: beta})
	}
}

func (l *linear) backwardWeights(s *backend.Stream, dy, x backend.Tensor) {
	if !l.DW.Absent() {
		s.Gemm(backend.GemmArgs{C: l.DW, A: dy, B: x, TransA: true, Alpha: 1, Beta: 1})
	}
	if !l.DB.Absent() {
		s.ColSum(l.DB, dy)
	}
}

// norm is LayerNorm's scale and shift with their gradients, absent where frozen.
type norm struct {
	Gamma, Beta, DGamma, DBeta backend.Tensor // [1,H]
	Eps                        float64
}

// normActs is what LayerNorm keeps for its backward pass.
type normActs struct {
	Z          backend.Tensor // [T,H] its input, after dropout and residual
	Mean, Rstd backend.Tensor // [T,1]
}

func (a normActs) rows(n int) normActs {
	return normActs{a.Z.RowRange(0, n), a.Mean.RowRange(0, n), a.Rstd.RowRange(0, n)}
}

// forward sets Z = dropout(x) + residual and y = LayerNorm(Z).
func (l *norm) forward(s *backend.Stream, y, x, residual backend.Tensor, a normActs, d backend.Drop) {
	s.LayerNorm(backend.LayerNormArgs{Y: y, Z: a.Z, Mean: a.Mean, Rstd: a.Rstd, X: x, Residual: residual,
		Gamma: l.Gamma, Beta: l.Beta, Eps: l.Eps, Drop: d})
}

// backward sets dz to the gradient of Z, which is also that of residual, and returns
// the gradient of x: dz itself without dropout, else dx.
func (l *norm) backward(s *backend.Stream, dz, dx, dy backend.Tensor, a normActs, d backend.Drop) backend.Tensor {
	if d.P == 0 {
		dx = backend.Tensor{}
	}
	s.LayerNormBackward(backend.LayerNormBackwardArgs{DZ: dz, DX: dx, DGamma: l.DGamma, DBeta: l.DBeta, DY: dy,
		Z: a.Z, Mean: a.Mean, Rstd: a.Rstd, Gamma: l.Gamma, Drop: d})
	if d.P == 0 {
		return dz
	}
	return dx
}
