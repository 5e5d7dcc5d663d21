package backendtest

import (
	"fmt"
	"math"

	"sift/backend"
	"sift/backend/cpu"
)

// normCase is one call of LayerNorm with made-up operands, and of its backward pass.
type normCase struct {
	t, h     int
	residual bool
	z        bool
	drop     float64
	data     string // "normal"; "offset": mean 1000, deviation 1; "constant": rows of one value
}

const normEps = 1e-12

func (c normCase) String() string {
	return fmt.Sprintf("%dx%d residual=%t z=%t p=%g %s", c.t, c.h, c.residual, c.z, c.drop, c.data)
}

func (c normCase) input() []float64 {
	x := normal(source(c.String()), c.t*c.h, 1)
	for i := range x {
		switch c.data {
		case "offset":
			x[i] = rounded(x[i] + 1000)
		case "constant":
			x[i] = x[i/c.h*c.h]
		}
	}
	return x
}

func (c normCase) forward() problem {
	p := problem{op: "layer norm", name: c.String(), rowwise: c.t >= 200}
	rng := source("parameters of " + p.name)
	drop := p.drops(someDrop(c.drop), c.t, packedKeys(c.t))
	p.add(in, "X", c.t, c.h, c.input()).along(alongRows)
	if c.residual {
		p.add(in, "Residual", c.t, c.h, normal(rng, c.t*c.h, 1)).along(alongRows)
	}
	p.add(in, "Gamma", 1, c.h, normal(rng, c.h, 1))
	p.add(in, "Beta", 1, c.h, normal(rng, c.h, 1))
	p.add(out, "Y", c.t, c.h, nil).along(alongRows)
	if c.z {
		p.add(out, "Z", c.t, c.h, nil).along(alongRows)
	}
	p.add(out, "Mean", c.t, 1, nil).along(alongRows)
	p.add(out, "Rstd", c.t, 1, nil).along(alongRows)
	p.run = func(s *backend.Stream, x tensors) {
		s.LayerNorm(backend.LayerNormArgs{Y: x["Y"], Z: x["Z"], Mean: x["Mean"], Rstd: x["Rstd"], X: x["X"],
			Residual: x["Residual"], Gamma: x["Gamma"], Beta: x["Beta"], Eps: normEps, Drop: drop(x)})
	}
	return p
}

// backward takes Z, Mean and Rstd from the reference's forward pass. The gradients named
// in absent are left out.
func (c normCase) backward(absent ...string) problem {
	f := c.forward()
	res, err := execute(cpu.NewReference(backend.F64), &f, plain)
	if err != nil {
		panic(err)
	}
	z := res["Z"]
	if !c.z {
		z = c.input()
	}
	p := problem{op: "layer norm backward", name: fmt.Sprintf("%s without %v", c, absent), rowwise: c.t >= 200}
	rng := source(p.name)
	drop := p.drops(someDrop(c.drop), c.t, packedKeys(c.t))
	p.add(in, "Z", c.t, c.h, roundedAll(z)).along(alongRows)
	p.add(in, "Mean", c.t, 1, roundedAll(res["Mean"])).along(alongRows)
	p.add(in, "Rstd", c.t, 1, roundedAll(res["Rstd"])).along(alongRows)
	p.add(in, "Gamma", 1, c.h, normal(rng, c.h, 1))
	p.add(in, "DY", c.t, c.h, normal(rng, c.t*c.h, 1)).along(alongRows)
	p.add(out, "DZ", c.t, c.h, nil).along(alongRows)
	left := map[string]bool{}
	for _, name := range absent {
		left[name] = true
	}
	if !left["DX"] {
		p.add(out, "DX", c.t, c.h, nil).along(alongRows)
	}
	for _, name := range []string{"DGamma", "DBeta"} {
		if !left[name] {
			p.add(inout, name, 1, c.h, normal(rng, c.h, 1))
		}
	}
	p.run = func(s *backend.Stream, x tensors) {
		s.LayerNormBackward(backend.LayerNormBackwardArgs{DZ: x["DZ"], DX: x["DX"], DGamma: x["DGamma"], DBeta: x["DBeta"],
			DY: x["DY"], Z: x["Z"], Mean: x["Mean"], Rstd: x["Rstd"], Gamma: x["Gamma"], Drop: drop(x)})
	}
	return p
}

// layerNormProblems are LayerNorm and LayerNormBackward.
func layerNormProblems() []problem {
	var forward, backward []problem
	for _, sh := range append([][2]int{{700, 64}, {3, 768}}, shapes...) {
		if sh[1] == 0 {
			continue // a row of nothing has no mean
		}
		for i, c := range []normCase{
			{data: "normal"},
			{data: "normal", z: true},
			{data: "normal", z: true, residual: true},
			{data: "normal", z: true, drop: 0.1},
			{data: "normal", z: true, residual: true, drop: 0.5},
			{data: "offset"},
			{data: "offset", z: true, residual: true, drop: 0.1},
			{data: "constant"},
		} {
			c.t, c.h = sh[0], sh[1]
			forward = append(forward, c.forward())
			backward = append(backward, c.backward([][]string{nil, {"DX"}, {"DGamma"}, {"DBeta"}, nil, {"DX", "DGamma", "DBeta"}}[i%6]...))
		}
	}
	return concat(forward, backward)
}

// normSize returns the magnitude of each element of Z before its addition.
func normSize(p *problem) []float64 {
	if z := p.find("Z"); z != nil && z.role == in {
		return magnitudes(z.data)
	}
	size := magnitudes(p.find("X").data)
	for i := range size {
		if p.kept > 0 {
			size[i] *= p.kept
		}
		if r := p.find("Residual"); r != nil {
			size[i] += math.Abs(r.data[i])
		}
	}
	return size
}

// perRow returns the largest of each run of n values.
func perRow(x []float64, n int) []float64 {
	m := make([]float64, len(x)/n)
	for i := range m {
		m[i] = largest(x[i*n : (i+1)*n])
	}
	return m
}

// normInput: the size of dropout(X) and Residual; for Mean the largest of the row.
func normInput(p *problem, _ results, out string) []float64 {
	if out == "Z" {
		return normSize(p)
	}
	return perRow(normSize(p), p.find("X").cols)
}

// normRstd: rstd (1 + max|z| rstd).
func normRstd(p *problem, ref results, _ string) []float64 {
	m := perRow(normSize(p), p.find("X").cols)
	for i, r := range ref["Rstd"] {
		m[i] = r * (1 + m[i]*r)
	}
	return m
}

// normOutput: max|z| rstd |gamma| + |beta|.
func normOutput(p *problem, ref results, _ string) []float64 {
	gamma, beta := p.find("Gamma").data, p.find("Beta").data
	m := perRow(normSize(p), len(gamma))
	y := make([]float64, len(ref["Y"]))
	for i := range y {
		t, j := i/len(gamma), i%len(gamma)
		y[i] = m[t]*ref["Rstd"][t]*math.Abs(gamma[j]) + math.Abs(beta[j])
	}
	return y
}

// normGradient: rstd max|gamma dy| (1 + max|z| rstd), times 1/(1-p) for DX.
func normGradient(p *problem, _ results, out string) []float64 {
	dy, gamma, rstd := p.find("DY").data, p.find("Gamma").data, p.find("Rstd").data
	h := len(gamma)
	g := make([]float64, len(dy))
	for i := range g {
		g[i] = dy[i] * gamma[i%h]
	}
	rowG, rowZ := perRow(g, h), perRow(normSize(p), h)
	for i := range g {
		t := i / h
		g[i] = rstd[t] * rowG[t] * (1 + rowZ[t]*rstd[t])
		if out == "DX" && p.kept > 0 {
			g[i] *= p.kept
		}
	}
	return g
}

// normParameters: what was there and sum |dy| (1 + max|z| rstd), for DBeta sum |dy|.
func normParameters(p *problem, _ results, out string) []float64 {
	dy, rstd := p.find("DY").data, p.find("Rstd").data
	sum := magnitudes(p.find(out).data)
	h := len(sum)
	rowZ := perRow(normSize(p), h)
	for i, v := range dy {
		w := 1.0
		if out == "DGamma" {
			w += rowZ[i/h] * rstd[i/h]
		}
		sum[i%h] += math.Abs(v) * w
	}
	return sum
}
