package backendtest

import (
	"fmt"
	"math"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
)

// tolerance limits the error of one output of an operation: at most
//
//	units * eps * scale
//
// where eps is half the spacing of the device's floats at 1 and scale is given per element. A
// sum of n random terms needs no factor for n where scale is the sum of their magnitudes:
// added one by one, the errors of its partial sums, of size sqrt(n), come to 0.45 eps scale.
type tolerance struct {
	op, out string // out "" stands for every output not listed
	units   float64
	scale   scale
	why     string
}

// scale returns, for each element of an output, the size that errors are relative to.
type scale func(p *problem, ref results, out string) []float64

var tolerances = []tolerance{
	{"zero", "", 0, elements, "nothing is computed"},
	{"copy", "", 0, elements, "nothing is computed"},
	{"gather rows", "", 0, elements, "nothing is computed"},
	{"add", "", 1, elements, "one rounding"},
	{"scatter-add rows", "", 4, absolutes, "sums, relative to the sum of magnitudes"},
	{"embed", "", 3, absolutes, "two additions"},
	{"dropout", "", 2, elements, "1/(1-p) rounds, and its product with x"},
	{"gemm", "", 12, absolutes, "dot products, relative to the sum of |a||b|; GELU's slope is at most 1.13 and 1+erf cancels to eps |x|"},
	{"column sum", "", 4, absolutes, "sums, relative to the sum of magnitudes"},
	{"gelu backward", "", 12, gradients, "the slope is at most 1.13; 1 - tanh^2 cancels to eps, times x^3 where it is not yet 0"},
	{"tanh", "", 4, elements, "a library function"},
	{"tanh backward", "", 4, gradients, "1 - y^2 cancels to eps"},
	{"layer norm", "Z", 3, normInput, "dropout and one addition"},
	{"layer norm", "Mean", 8, normInput, "a mean, relative to the largest |z|"},
	{"layer norm", "Rstd", 16, normRstd, "z - mean loses eps |z|; half of that in the root"},
	{"layer norm", "Y", 16, normOutput, "z - mean loses eps |z| before it is scaled by rstd and gamma"},
	{"layer norm backward", "DZ", 12, normGradient, "three terms of the size of rstd |gamma dy| (1 + |n|)"},
	{"layer norm backward", "DX", 12, normGradient, "DZ and 1/(1-p)"},
	{"layer norm backward", "", 8, normParameters, "sums over rows, relative to the sum of |dy| (1 + |z| rstd)"},
	{"attention", "LSE", 8, attentionLSE, "a score loses eps |score|"},
	{"attention", "Out", 8, attentionOut, "a weighted mean of v; the weights lose eps |score|"},
	{"attention backward", "DQKV", 2, attentionGradient, "dP - Delta cancels to eps |dOut||v|; the weights lose eps |score|"},
	{"cross-entropy", "Correct", 0, elements, "a comparison of equal inputs"},
	{"cross-entropy", "Entropy", 16, entropySize, "a sum of w(x-m) and log V"},
	{"cross-entropy", "", 4, logitSize, "lse loses eps times the largest |logit|"},
	{"cross-entropy backward", "", 4, probabilitySize, "exp of a difference that loses eps |x - lse|"},
	{"sum of squares", "", 1.5, elements, "summed in float64, rounded once"},
	{"adamw", "Grad", 0, elements, "set to zero"},
	{"adamw", "", 8, momentSize, "a handful of operations on each element"},
}

// limit returns the row of the table for an output.
func limit(op, out string) tolerance {
	for _, t := range tolerances {
		if t.op == op && (t.out == out || t.out == "") {
			return t
		}
	}
	panic("backendtest: no tolerance for " + op)
}

// epsilon returns half the distance from 1 to the next float.
func epsilon(float backend.DType) float64 {
	if float == backend.F64 {
		return 0x1p-53
	}
	return 0x1p-24
}

// elements: the error is relative to the value.
func elements(_ *problem, ref results, out string) []float64 { return magnitudes(ref[out]) }

// absolutes: relative to what the operation gives when every input is replaced by its
// magnitude, for a dot product the sum of |a||b|.
func absolutes(p *problem, _ results, out string) []float64 {
	q := *p
	if p.bound != nil {
		q.run = p.bound
	}
	q.operands = nil
	for _, o := range p.operands {
		if o.dtype != backend.I32 {
			o.data = magnitudes(o.data)
		}
		q.operands = append(q.operands, o)
	}
	res, err := execute(cpu.NewReference(backend.F64), &q, plain)
	if err != nil {
		panic(fmt.Sprintf("backendtest: magnitudes of %s: %v", p, err))
	}
	return res[out]
}

// gradients: relative to the incoming gradient dy.
func gradients(p *problem, _ results, _ string) []float64 { return magnitudes(p.find("dy").data) }

func magnitudes(x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = math.Abs(v)
	}
	return y
}

// largest returns the largest magnitude in x, 0 if there is none.
func largest(x []float64) float64 {
	var m float64
	for _, v := range x {
		m = math.Max(m, math.Abs(v))
	}
	return m
}

// compare reports the first element of each output that is too far from the reference,
// and returns the largest error as a share of what is allowed.
func compare(t *testing.T, dev backend.Device, p *problem, got results) (worst float64) {
	t.Helper()
	want, scales := p.solve(t)
	for name, w := range want {
		g := got[name]
		if len(g) != len(w) {
			t.Errorf("%s: %s has %d elements, want %d", p, name, len(g), len(w))
			continue
		}
		tol := limit(p.op, name)
		sizes := scales[name]
		allowed := tol.units * epsilon(dev.Info().Float)
		for i := range w {
			if g[i] == w[i] || math.IsNaN(g[i]) && math.IsNaN(w[i]) {
				continue
			}
			wrong := math.Abs(g[i] - w[i])
			// The negation catches NaN.
			if !(wrong <= allowed*sizes[i]+tiny) {
				t.Errorf("%s: %s[%d] = %.9g, want %.9g: off by %.3g, allowed %.3g (%s)",
					p, name, i, g[i], w[i], wrong, allowed*sizes[i], tol.why)
				break
			}
			worst = math.Max(worst, wrong/(allowed*sizes[i]+tiny))
		}
	}
	return worst
}

// tiny forgives results that float32 cannot represent normally.
const tiny = 0x1p-126
