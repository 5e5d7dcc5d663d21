package backendtest

import (
	"fmt"
	"math"

	"sift/backend"
)

// optimiserProblems are SumSquares and AdamW.
func optimiserProblems() []problem {
	var squares, adamw []problem
	for _, n := range []int{0, 1, 3, 17, 1000, 4097, 100003} {
		for _, deviation := range []float64{1e-4, 1, 300} {
			p := problem{op: "sum of squares", name: fmt.Sprintf("n=%d deviation %g", n, deviation), run: func(s *backend.Stream, x tensors) {
				s.SumSquares(x["dst"], x["x"])
			}}
			p.add(in, "x", 1, n, normal(source(p.name), n, deviation))
			p.add(out, "dst", 1, 1, nil)
			squares = append(squares, p)
		}
	}
	for _, n := range []int{0, 1, 3, 17, 65, 1000, 20011} {
		for _, a := range []backend.AdamWArgs{
			{GradScale: 1, LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Step: 1},
			{GradScale: 0.25, LR: 2e-5, Beta1: 0.9, Beta2: 0.98, Eps: 1e-6, Decay: 0.01, Step: 2},
			{GradScale: 1, ClipNorm: 1, LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.1, Step: 1000},
			{GradScale: 0.5, ClipNorm: 1e6, LR: 1e-3, Beta1: 0.8, Beta2: 0.999, Eps: 1e-8, Decay: 0.1, Step: 100000},
		} {
			for _, double := range []bool{false, true} {
				if double && a.ClipNorm == 0 {
					continue
				}
				adamw = append(adamw, adamProblem(n, a, double))
			}
		}
	}
	return concat(squares, adamw)
}

// adamProblem is AdamW on n made-up parameters. The last quarter of the gradients is 0, and
// so are the moments at the first step.
func adamProblem(n int, a backend.AdamWArgs, double bool) problem {
	p := problem{op: "adamw", name: fmt.Sprintf("n=%d step %d clip %g float64 norm %t", n, a.Step, a.ClipNorm, double)}
	rng := source(p.name)
	grad, m, v := normal(rng, n, 0.1), normal(rng, n, 0.1), make([]float64, n)
	var sum float64
	for i := range n {
		if i >= (3*n+3)/4 {
			grad[i] = 0
		}
		if a.Step == 1 {
			m[i] = 0
		}
		v[i] = rounded(m[i] * m[i])
		sum += grad[i] * grad[i]
	}
	p.add(inout, "Param", 1, n, normal(rng, n, 0.05))
	p.add(inout, "Grad", 1, n, grad)
	p.add(inout, "M", 1, n, m)
	p.add(inout, "V", 1, n, v)
	if a.ClipNorm > 0 {
		o := p.add(in, "SumSq", 1, 1, []float64{rounded(sum)})
		if double {
			o.dtype = backend.F64
		}
	}
	p.run = func(s *backend.Stream, x tensors) {
		a := a
		a.Param, a.Grad, a.M, a.V, a.SumSq = x["Param"], x["Grad"], x["M"], x["V"], x["SumSq"]
		s.AdamW(a)
	}
	return p
}

// momentSize: V relative to itself, M to its old value and the gradient, a parameter to
// its old value and 0.01, ten times the largest update.
func momentSize(p *problem, ref results, out string) []float64 {
	switch out {
	case "V":
		return magnitudes(ref["V"])
	case "M":
		size := magnitudes(p.find("M").data)
		for i, g := range p.find("Grad").data {
			size[i] += math.Abs(g)
		}
		return size
	}
	size := magnitudes(p.find("Param").data)
	for i := range size {
		size[i] += 0.01
	}
	return size
}
