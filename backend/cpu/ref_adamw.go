package cpu

import (
	"math"

	"sift/backend"
)

// SumSquares sets dst to the sum of x_i^2.
func (r *reference[T]) SumSquares(dst, x backend.Tensor) error {
	var sum float64
	xm := view[T](x)
	for i := range xm.rows {
		sum += product(xm.row(i), xm.row(i))
	}
	view[T](dst).row(0)[0] = T(sum)
	return nil
}

// AdamW is the update that backend.AdamWArgs writes out.
func (r *reference[T]) AdamW(a backend.AdamWArgs) error {
	if a.Param.Cols == 0 {
		return nil
	}
	param, grad := view[T](a.Param).row(0), view[T](a.Grad).row(0)
	m, v := view[T](a.M).row(0), view[T](a.V).row(0)
	scale := a.GradScale
	if a.ClipNorm > 0 {
		scale *= math.Min(1, a.ClipNorm/(a.GradScale*math.Sqrt(scalar(a.SumSq))+1e-6))
	}
	correct1 := 1 - math.Pow(a.Beta1, float64(a.Step))
	correct2 := 1 - math.Pow(a.Beta2, float64(a.Step))
	for i := range param {
		g := float64(grad[i]) * scale
		mi := a.Beta1*float64(m[i]) + (1-a.Beta1)*g
		vi := a.Beta2*float64(v[i]) + (1-a.Beta2)*g*g
		p := float64(param[i])
		p -= a.LR * a.Decay * p
		p -= a.LR * (mi / correct1) / (math.Sqrt(vi/correct2) + a.Eps)
		param[i], m[i], v[i], grad[i] = T(p), T(mi), T(vi), 0
	}
	return nil
}

// scalar reads a 1x1 tensor of either float type.
func scalar(t backend.Tensor) float64 {
	if t.DType == backend.F64 {
		return view[float64](t).row(0)[0]
	}
	return float64(view[float32](t).row(0)[0])
}
