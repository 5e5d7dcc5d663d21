package backendtest

import (
	"math"
	"testing"

	"sift/backend"
)

// A gradient agrees with central differences of step if they differ by at most gradLimit
// times 1 + the largest gradient of its tensor. The difference's own error is about
// step^2 times a third derivative, and 2^-53 of the loss over step: 1e-10 and 1e-10.
const (
	step      = 1e-5
	gradLimit = 2e-8
)

// testGradients holds every backward operation of a float64 device against central finite
// differences of the forward one, for the loss sum_i w_i out_i with random w.
func testGradients(t *testing.T, dev backend.Device) {
	for _, act := range []backend.Activation{backend.Linear, backend.GeluErf, backend.GeluTanh} {
		gradLinear(t, dev, act)
	}
	gradTanh(t, dev)
	gradEmbed(t, dev)
	gradGather(t, dev)
	gradDropout(t, dev)
	for _, c := range []normCase{
		{t: 5, h: 7, data: "normal"},
		{t: 5, h: 7, z: true, residual: true, data: "normal"},
		{t: 27, h: 6, z: true, residual: true, drop: 0.3, data: "normal"},
		{t: 4, h: 1, z: true, data: "normal"},
	} {
		gradLayerNorm(t, dev, c)
	}
	for _, c := range []attentionCase{
		{name: "plain", seqs: []sequence{{6, 3, "all"}}, heads: 1, d: 3, gain: 1},
		{name: "masks", seqs: mixed(5, 7, 4, 1, 3, 6), heads: 2, d: 3, gain: 1},
		{name: "masks, dropout", seqs: mixed(5, 7, 4, 1, 3, 6), heads: 2, d: 3, gain: 1, drop: 0.3},
	} {
		gradAttention(t, dev, c)
	}
	gradCrossEntropy(t, dev)
	scalarAdamW(t, dev)
}

// loss runs p and returns sum_i w_i out_i.
func loss(t *testing.T, dev backend.Device, p *problem, w results) float64 {
	t.Helper()
	res := must(t, dev, p, plain)
	var sum float64
	for name, weights := range w {
		for i, v := range weights {
			sum += v * res[name][i]
		}
	}
	return sum
}

// differ compares the gradients of the loss with respect to inputs of p with differences.
func differ(t *testing.T, dev backend.Device, p *problem, w results, gradients results) {
	t.Helper()
	for name, grad := range gradients {
		o := p.find(name)
		if len(grad) != len(o.data) || len(grad) == 0 {
			t.Fatalf("%s: gradient of %s has %d elements, want %d", p, name, len(grad), len(o.data))
		}
		limit := gradLimit * (1 + largest(grad))
		for i := range o.data {
			x := o.data[i]
			o.data[i] = x + step
			up := loss(t, dev, p, w)
			o.data[i] = x - step
			down := loss(t, dev, p, w)
			o.data[i] = x
			if slope := (up - down) / (2 * step); !(math.Abs(slope-grad[i]) <= limit) {
				t.Errorf("%s: gradient of %s[%d] is %.9g, differences give %.9g", p, name, i, grad[i], slope)
				break
			}
		}
	}
}

// minus returns the accumulated values less what was there before.
func minus(accumulated, before []float64) []float64 {
	x := make([]float64, len(before))
	for i := range x {
		x[i] = accumulated[i] - before[i]
	}
	return x
}

// gradLinear: C = act(A B^T + bias); dPre = dC act'(Pre), dA = dPre B, dB = dPre^T A and
// dbias the column sums of dPre.
func gradLinear(t *testing.T, dev backend.Device, act backend.Activation) {
	f := gemmCase{m: 5, n: 4, k: 3, transB: true, alpha: 1, bias: true, pre: true, act: act}.problem()
	a, b := f.find("A"), f.find("B")
	m, n, k := a.rows, b.rows, a.cols
	rng := source("linear")
	dc := normal(rng, m*n, 1)
	p := problem{op: "gelu backward", name: "of a linear layer", run: func(s *backend.Stream, x tensors) {
		s.GeluBackward(x["dPre"], x["dC"], x["Pre"], act)
		s.Gemm(backend.GemmArgs{C: x["dA"], A: x["dPre"], B: x["B"], Alpha: 1})
		s.Gemm(backend.GemmArgs{C: x["dB"], A: x["dPre"], TransA: true, B: x["A"], Alpha: 1, Beta: 1})
		s.ColSum(x["dBias"], x["dPre"])
	}}
	p.add(in, "dC", m, n, dc)
	p.add(in, "Pre", m, n, must(t, dev, &f, plain)["Pre"])
	p.add(in, "A", m, k, a.data)
	p.add(in, "B", n, k, b.data)
	p.add(scratch, "dPre", m, n, nil)
	p.add(out, "dA", m, k, nil)
	dB, dBias := p.add(inout, "dB", n, k, normal(rng, n*k, 1)).data, p.add(inout, "dBias", 1, n, normal(rng, n, 1)).data
	res := must(t, dev, &p, plain)
	differ(t, dev, &f, results{"C": dc}, results{"A": res["dA"], "B": minus(res["dB"], dB), "Bias": minus(res["dBias"], dBias)})
}

func gradTanh(t *testing.T, dev backend.Device) {
	rng := source("tanh gradient")
	f := problem{op: "tanh", name: "gradient", run: func(s *backend.Stream, x tensors) { s.Tanh(x["y"], x["x"]) }}
	f.add(in, "x", 3, 5, normal(rng, 15, 1))
	f.add(out, "y", 3, 5, nil)
	dy := normal(rng, 15, 1)
	p := problem{op: "tanh backward", name: "gradient", run: func(s *backend.Stream, x tensors) { s.TanhBackward(x["dx"], x["dy"], x["y"]) }}
	p.add(in, "y", 3, 5, must(t, dev, &f, plain)["y"])
	p.gradient(3, 5, dy, false)
	differ(t, dev, &f, results{"y": dy}, results{"x": must(t, dev, &p, plain)["dx"]})
}

// scatter returns the sum of dy's rows by index, as ScatterAddRows gives it.
func scatter(t *testing.T, dev backend.Device, dy *operand, index []float64, rows int) []float64 {
	t.Helper()
	p := problem{op: "scatter-add rows", name: "gradient", run: func(s *backend.Stream, x tensors) {
		s.ScatterAddRows(x["dst"], x["src"], x["index"])
	}}
	p.add(in, "src", dy.rows, dy.cols, dy.data)
	p.add(in, "index", 1, len(index), index).ints()
	before := p.add(inout, "dst", rows, dy.cols, normal(source("scatter"), rows*dy.cols, 1)).data
	return minus(must(t, dev, &p, plain)["dst"], before)
}

// gradEmbed: the gradient of each table is that of the rows that took from it.
func gradEmbed(t *testing.T, dev backend.Device) {
	const rows, h = 9, 4
	rng := source("embed gradient")
	f := problem{op: "embed", name: "gradient", run: func(s *backend.Stream, x tensors) {
		s.Embed(backend.EmbedArgs{Out: x["Out"], IDs: x["IDs"], Positions: x["Positions"], Types: x["Types"],
			Word: x["Word"], Position: x["Position"], Type: x["Type"]})
	}}
	gradients := results{}
	dy := &operand{rows: rows, cols: h, data: normal(rng, rows*h, 1)}
	for _, table := range []struct {
		name, index string
		size        int
	}{{"Word", "IDs", 6}, {"Position", "Positions", 7}, {"Type", "Types", 2}} {
		index := below(rng, rows, table.size)
		f.add(in, table.index, 1, rows, index).ints()
		f.add(in, table.name, table.size, h, normal(rng, table.size*h, 1))
		gradients[table.name] = scatter(t, dev, dy, index, table.size)
	}
	f.add(out, "Out", rows, h, nil)
	differ(t, dev, &f, results{"Out": dy.data}, gradients)
}

func gradGather(t *testing.T, dev backend.Device) {
	rng := source("gather gradient")
	index := []float64{3, 0, 3, 1, 3}
	f := problem{op: "gather rows", name: "gradient", run: func(s *backend.Stream, x tensors) { s.GatherRows(x["dst"], x["src"], x["index"]) }}
	f.add(in, "src", 4, 3, normal(rng, 12, 1))
	f.add(in, "index", 1, 5, index).ints()
	f.add(out, "dst", 5, 3, nil)
	dy := &operand{rows: 5, cols: 3, data: normal(rng, 15, 1)}
	differ(t, dev, &f, results{"dst": dy.data}, results{"src": scatter(t, dev, dy, index, 4)})
}

func gradDropout(t *testing.T, dev backend.Device) {
	const rows, h = 15, 3
	rng := source("dropout gradient")
	f := dropoutProblem("gradient", someDrop(0.4), rows, h, packedKeys(rows), normal(rng, rows*h, 1), false)
	dy := normal(rng, rows*h, 1)
	b := dropoutProblem("gradient", someDrop(0.4), rows, h, packedKeys(rows), dy, false)
	differ(t, dev, &f, results{"y": dy}, results{"x": must(t, dev, &b, plain)["y"]})
}

func gradLayerNorm(t *testing.T, dev backend.Device, c normCase) {
	f, b := c.forward(), c.backward()
	res := must(t, dev, &f, plain)
	// The backward problem's inputs were rounded to float32: replace them.
	for _, name := range []string{"Mean", "Rstd", "Z"} {
		if res[name] != nil {
			b.find(name).data = res[name]
		}
	}
	b.find("Gamma").data = f.find("Gamma").data
	grad := must(t, dev, &b, plain)
	gradients := results{
		"X":     grad["DX"],
		"Gamma": minus(grad["DGamma"], b.find("DGamma").data),
		"Beta":  minus(grad["DBeta"], b.find("DBeta").data),
	}
	if c.residual {
		gradients["Residual"] = grad["DZ"]
	}
	if c.h == 1 {
		// A row of one column has no variance: Y is Beta whatever X is, but 1/sqrt(eps) times
		// the rounding of X - mean would be visible in a difference.
		for i, v := range gradients["X"] {
			if v != 0 {
				t.Errorf("%s: DX[%d] is %g in a row of one column", &b, i, v)
			}
		}
		return
	}
	differ(t, dev, &f, results{"Y": b.find("DY").data}, gradients)
}

func gradAttention(t *testing.T, dev backend.Device, c attentionCase) {
	f, b := c.forward(), c.backward()
	res := must(t, dev, &f, plain)
	b.find("Out").data, b.find("LSE").data = res["Out"], res["LSE"]
	differ(t, dev, &f, results{"Out": b.find("DOut").data}, results{"QKV": must(t, dev, &b, plain)["DQKV"]})
}

// gradCrossEntropy: the loss is entropyScale times the sum of the losses of the rows.
func gradCrossEntropy(t *testing.T, dev backend.Device) {
	for _, c := range []entropyCase{{n: 9, v: 5, gain: 1, data: "normal"}, {n: 5, v: 1, gain: 1, data: "normal"}, {n: 8, v: 7, gain: 1, data: "ties"}} {
		f, b := c.forward(), c.backward(false)
		b.find("LSE").data = must(t, dev, &f, plain)["LSE"]
		differ(t, dev, &f, results{"Loss": filled(c.n, entropyScale)}, results{"Logits": must(t, dev, &b, plain)["DLogits"]})
	}
}

// scalarAdamW holds ten steps against the update written out for one number.
func scalarAdamW(t *testing.T, dev backend.Device) {
	const lr, beta1, beta2, eps, decay, clip, scale = 0.01, 0.9, 0.99, 1e-8, 0.1, 0.7, 0.5
	rng := source("adamw")
	n := 5
	param, m, v := normal(rng, n, 1), make([]float64, n), make([]float64, n)
	want := append([]float64(nil), param...)
	wm, wv := make([]float64, n), make([]float64, n)
	for k := 1; k <= 10; k++ {
		grad := normal(rng, n, 0.6)
		p := problem{op: "adamw", name: "ten steps", run: func(s *backend.Stream, x tensors) {
			s.SumSquares(x["SumSq"], x["Grad"])
			s.AdamW(backend.AdamWArgs{Param: x["Param"], Grad: x["Grad"], M: x["M"], V: x["V"], SumSq: x["SumSq"],
				ClipNorm: clip, GradScale: scale, LR: lr, Beta1: beta1, Beta2: beta2, Eps: eps, Decay: decay, Step: k})
		}}
		p.add(inout, "Param", 1, n, param)
		p.add(inout, "Grad", 1, n, grad)
		p.add(inout, "M", 1, n, m)
		p.add(inout, "V", 1, n, v)
		p.add(scratch, "SumSq", 1, 1, nil)
		res := must(t, dev, &p, plain)
		param, m, v = res["Param"], res["M"], res["V"]

		norm := 0.0
		for _, g := range grad {
			norm += scale * g * scale * g
		}
		norm = math.Sqrt(norm)
		for i, g := range grad {
			g *= scale
			if norm+1e-6 > clip {
				g *= clip / (norm + 1e-6)
			}
			wm[i] = beta1*wm[i] + (1-beta1)*g
			wv[i] = beta2*wv[i] + (1-beta2)*g*g
			mHat, vHat := wm[i]/(1-math.Pow(beta1, float64(k))), wv[i]/(1-math.Pow(beta2, float64(k)))
			want[i] = want[i]*(1-lr*decay) - lr*mHat/(math.Sqrt(vHat)+eps)
			if math.Abs(param[i]-want[i]) > 1e-14 || res["Grad"][i] != 0 {
				t.Fatalf("step %d: parameter %d is %.17g, want %.17g; gradient %g", k, i, param[i], want[i], res["Grad"][i])
			}
		}
	}
}
