package backendtest

import (
	"fmt"
	"math"

	"sift/backend"
)

// gemmCase is one call of Gemm with made-up operands.
type gemmCase struct {
	m, n, k        int
	transA, transB bool
	alpha, beta    float64
	bias, pre      bool
	act            backend.Activation
}

func (g gemmCase) problem() problem {
	form := map[bool]string{false: "N", true: "T"}
	p := problem{
		op: "gemm",
		name: fmt.Sprintf("%s%s m=%d n=%d k=%d alpha=%g beta=%g bias=%t pre=%t act=%d",
			form[g.transA], form[g.transB], g.m, g.n, g.k, g.alpha, g.beta, g.bias, g.pre, g.act),
		rowwise: g.m >= 200 && !g.transA,
	}
	call := func(s *backend.Stream, x tensors, alpha, beta float64, act backend.Activation) {
		s.Gemm(backend.GemmArgs{C: x["C"], A: x["A"], B: x["B"], TransA: g.transA, TransB: g.transB,
			Alpha: alpha, Beta: beta, Bias: x["Bias"], Act: act, Pre: x["Pre"]})
	}
	p.run = func(s *backend.Stream, x tensors) { call(s, x, g.alpha, g.beta, g.act) }
	p.bound = func(s *backend.Stream, x tensors) { call(s, x, math.Abs(g.alpha), math.Abs(g.beta), backend.Linear) }
	rng := source(p.String())
	if g.transA {
		p.add(in, "A", g.k, g.m, normal(rng, g.k*g.m, 1))
	} else {
		p.add(in, "A", g.m, g.k, normal(rng, g.m*g.k, 1)).along(alongRows)
	}
	if g.transB {
		p.add(in, "B", g.n, g.k, normal(rng, g.n*g.k, 1))
	} else {
		p.add(in, "B", g.k, g.n, normal(rng, g.k*g.n, 1))
	}
	if g.bias {
		p.add(in, "Bias", 1, g.n, normal(rng, g.n, 1))
	}
	// Beta 0 must overwrite the NaN that an output starts with.
	if g.beta == 0 {
		p.add(out, "C", g.m, g.n, nil).along(alongRows)
	} else {
		p.add(inout, "C", g.m, g.n, normal(rng, g.m*g.n, 1)).along(alongRows)
	}
	if g.pre {
		p.add(out, "Pre", g.m, g.n, nil).along(alongRows)
	}
	return p
}

// gemmProblems are Gemm in its four forms over odd sizes and all epilogues, and ColSum.
func gemmProblems() []problem {
	var all []problem
	// Epilogues by turns over the grid of sizes, all together on one size.
	turn := 0
	epilogue := func(g gemmCase, turn int) gemmCase {
		g.alpha, g.beta = [...]float64{1, 0.5, -1.25}[turn%3], [...]float64{0, 1, 0, -2}[turn/3%4]
		g.bias, g.pre = turn/12%2 == 1, turn/24%2 == 1
		g.act = backend.Activation(turn / 48 % 3)
		return g
	}
	const epilogues = 3 * 4 * 2 * 2 * 3
	forms := func(add func(transA, transB bool)) {
		for form := range 4 {
			add(form&1 != 0, form&2 != 0)
		}
	}
	for _, m := range []int{1, 3, 17, 65} {
		for _, n := range []int{1, 3, 17, 33, 65} {
			for _, k := range []int{1, 3, 17, 33, 130} {
				forms(func(ta, tb bool) {
					// A step that has no factor in common with the number of epilogues.
					turn += 7
					all = append(all, epilogue(gemmCase{m: m, n: n, k: k, transA: ta, transB: tb}, turn).problem())
				})
			}
		}
	}
	for turn := range epilogues {
		all = append(all, epilogue(gemmCase{m: 9, n: 35, k: 20, transB: true}, turn).problem())
	}
	// Empty sums, rows and columns, and sizes on both sides of cache and register blocks.
	for _, size := range [][3]int{{0, 5, 7}, {5, 0, 7}, {5, 7, 0}, {6, 16, 64}, {128, 128, 128}, {5, 7, 1300}, {13, 1100, 40}, {301, 31, 70}, {130, 97, 513}} {
		forms(func(ta, tb bool) {
			all = append(all,
				gemmCase{m: size[0], n: size[1], k: size[2], transA: ta, transB: tb, alpha: 1}.problem(),
				gemmCase{m: size[0], n: size[1], k: size[2], transA: ta, transB: tb, alpha: 1, beta: 1, bias: true, pre: true, act: backend.GeluErf}.problem())
		})
	}
	// The forms of a forward pass, for row-count independence.
	for _, size := range [][2]int{{1, 5}, {33, 65}, {130, 384}, {64, 1030}, {515, 96}} {
		for _, tb := range []bool{false, true} {
			for _, act := range []backend.Activation{backend.Linear, backend.GeluErf, backend.GeluTanh} {
				all = append(all, gemmCase{m: 200, n: size[0], k: size[1], transB: tb, alpha: 1, bias: true, pre: act != backend.Linear, act: act}.problem())
			}
			all = append(all, gemmCase{m: 200, n: size[0], k: size[1], transB: tb, alpha: 1, beta: 1}.problem())
		}
	}
	for _, sh := range append([][2]int{{5000, 7}, {700, 1536}}, shapes...) {
		p := problem{op: "column sum", name: fmt.Sprintf("%dx%d", sh[0], sh[1]), run: func(s *backend.Stream, x tensors) {
			s.ColSum(x["dst"], x["src"])
		}}
		rng := source(p.String())
		p.add(in, "src", sh[0], sh[1], normal(rng, sh[0]*sh[1], 1))
		p.add(inout, "dst", 1, sh[1], normal(rng, sh[1], 1))
		all = append(all, p)
	}
	return all
}
