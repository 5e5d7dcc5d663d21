package cpu

import (
	"math"

	"sift/backend"
)

// The constants of the tanh form of GELU (Hendrycks and Gimpel 2016, section 2).
const (
	geluScale = math.Sqrt2 / math.SqrtPi // sqrt(2/pi)
	geluCubic = 0.044715
)

// activate returns act(x).
func activate(act backend.Activation, x float64) float64 {
	switch act {
	case backend.GeluErf:
		// erfc keeps the relative precision of the left tail, where 1 + erf would cancel.
		return x / 2 * math.Erfc(-x/math.Sqrt2)
	case backend.GeluTanh:
		return x / 2 * (1 + math.Tanh(geluScale*(x+geluCubic*x*x*x)))
	}
	return x
}

// slope returns act'(x).
//
//	erf:  Phi(x) + x phi(x), Phi and phi the normal distribution and density
//	tanh: (1 + t)/2 + x/2 (1 - t^2) sqrt(2/pi) (1 + 3*0.044715 x^2), t the tanh of activate
func slope(act backend.Activation, x float64) float64 {
	switch act {
	case backend.GeluErf:
		return math.Erfc(-x/math.Sqrt2)/2 + x*math.Exp(-x*x/2)/(math.Sqrt2*math.SqrtPi)
	case backend.GeluTanh:
		t := math.Tanh(geluScale * (x + geluCubic*x*x*x))
		if t*t == 1 {
			// Saturated: the second term is 0, and for a huge x would be 0 times infinity.
			return (1 + t) / 2
		}
		return (1+t)/2 + x/2*(1-t*t)*geluScale*(1+3*geluCubic*x*x)
	}
	return 1
}

// GeluBackward sets dx to dy * act'(pre).
func (r *reference[T]) GeluBackward(dx, dy, pre backend.Tensor, act backend.Activation) error {
	dxm, dym, pm := view[T](dx), view[T](dy), view[T](pre)
	for i := range dym.rows {
		dxr, dyr, pr := dxm.row(i), dym.row(i), pm.row(i)
		for j, x := range pr {
			dxr[j] = T(float64(dyr[j]) * slope(act, float64(x)))
		}
	}
	return nil
}

// Tanh sets y to tanh(x).
func (r *reference[T]) Tanh(y, x backend.Tensor) error {
	ym, xm := view[T](y), view[T](x)
	for i := range xm.rows {
		yr := ym.row(i)
		for j, v := range xm.row(i) {
			yr[j] = T(math.Tanh(float64(v)))
		}
	}
	return nil
}

// TanhBackward sets dx to dy * (1 - y^2).
func (r *reference[T]) TanhBackward(dx, dy, y backend.Tensor) error {
	dxm, dym, ym := view[T](dx), view[T](dy), view[T](y)
	for i := range dym.rows {
		dxr, dyr := dxm.row(i), dym.row(i)
		for j, v := range ym.row(i) {
			dxr[j] = T(float64(dyr[j]) * (1 - float64(v)*float64(v)))
		}
	}
	return nil
}
