package backendtest

import (
	"fmt"

	"sift/backend"
)

// extremes are arguments where activations saturate, vanish or change sign.
var extremes = []float64{0, rounded(1e-30), rounded(-1e-30), rounded(1e-4), -0.5, 0.5, -1, 1, -3, 3, -5.5, 5.5, -9, 9, -14, 14, -40, 40, -1e4, 1e4, -1e9, 1e9}

// arguments returns n values for an activation, extremes first.
func arguments(name string, n int) []float64 {
	x := normal(source(name), n, 2)
	copy(x, extremes)
	return x
}

// activationProblems are GeluBackward, Tanh and TanhBackward, also in place.
func activationProblems() []problem {
	var gelu, tanh, tanhBackward []problem
	for _, sh := range append([][2]int{{2, len(extremes)}}, shapes...) {
		r, c := sh[0], sh[1]
		name := fmt.Sprintf("%dx%d", r, c)
		rng := source("activation " + name)
		for _, inPlace := range []bool{false, true} {
			for _, act := range []backend.Activation{backend.Linear, backend.GeluErf, backend.GeluTanh} {
				p := problem{op: "gelu backward", name: fmt.Sprintf("%s act=%d in place %t", name, act, inPlace), rowwise: r >= 200,
					run: func(s *backend.Stream, x tensors) {
						s.GeluBackward(over(x, "dx", "dy"), x["dy"], x["pre"], act)
					}}
				p.add(in, "pre", r, c, arguments(p.name, r*c)).along(alongRows)
				p.gradient(r, c, normal(rng, r*c, 1), inPlace)
				gelu = append(gelu, p)
			}
			p := problem{op: "tanh backward", name: fmt.Sprintf("%s in place %t", name, inPlace), rowwise: r >= 200,
				run: func(s *backend.Stream, x tensors) { s.TanhBackward(over(x, "dx", "dy"), x["dy"], x["y"]) }}
			y := make([]float64, r*c)
			for i := range y {
				y[i] = rounded(2*rng.Float64() - 1)
			}
			copy(y, []float64{1, -1, 0})
			p.add(in, "y", r, c, y).along(alongRows)
			p.gradient(r, c, normal(rng, r*c, 1), inPlace)
			tanhBackward = append(tanhBackward, p)
		}
		p := problem{op: "tanh", name: name, rowwise: r >= 200, run: func(s *backend.Stream, x tensors) { s.Tanh(x["y"], x["x"]) }}
		p.add(in, "x", r, c, arguments(name, r*c)).along(alongRows)
		p.add(out, "y", r, c, nil).along(alongRows)
		tanh = append(tanh, p)
	}
	return concat(gelu, tanh, tanhBackward)
}

// gradient adds dy and dx, which are one operand if the operation works in place.
func (p *problem) gradient(r, c int, dy []float64, inPlace bool) {
	if inPlace {
		p.add(inout, "dy", r, c, dy).along(alongRows)
		return
	}
	p.add(in, "dy", r, c, dy).along(alongRows)
	p.add(out, "dx", r, c, nil).along(alongRows)
}

// over returns the tensor of the output, or the input's if the operation works in place.
func over(x tensors, output, input string) backend.Tensor {
	if t := x[output]; !t.Absent() {
		return t
	}
	return x[input]
}
