package backendtest

import (
	"math"
	"testing"

	"sift/backend"
)

// Bench measures the operations of a training step on named sizes, the device
// synchronised inside the timed region: GFLOP/s for matrix products and attention, GB/s
// of operands read and written for the rest.
func Bench(b *testing.B, open func() (backend.Device, error)) {
	dev, err := open()
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := dev.Close(); err != nil {
			b.Error(err)
		}
	}()
	for _, c := range benchmarks() {
		b.Run(c.name, func(b *testing.B) {
			p := c.make()
			pl, err := place(dev, &p, plain)
			if err != nil {
				b.Fatal(err)
			}
			defer pl.free()
			s := backend.NewStream(dev)
			// Warm up: scratch memory, pages.
			p.run(s, pl.view)
			if err := s.Sync(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				p.run(s, pl.view)
				if err := s.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			seconds := b.Elapsed().Seconds() / float64(b.N)
			if c.flops > 0 {
				b.ReportMetric(c.flops/seconds/1e9, "GFLOP/s")
				return
			}
			var bytes float64
			for _, w := range pl.whole {
				bytes += float64(w.Len() * w.DType.Size())
			}
			b.ReportMetric(bytes/seconds/1e9, "GB/s")
		})
	}
}

// benchmark is one measured problem, made only when it is run. Its flops are 0 where
// memory is the limit.
type benchmark struct {
	name  string
	flops float64
	make  func() problem
}

func benchmarks() []benchmark {
	var all []benchmark
	// MiniLM and BERT base on 16 and 8 sequences of 128 tokens: forward with its epilogue, the
	// gradient of the input, the gradient of the weight.
	for _, m := range []struct {
		name    string
		t, h, i int
	}{{"minilm", 2048, 384, 1536}, {"base", 1024, 768, 3072}} {
		for _, l := range []struct {
			name string
			n, k int
			act  backend.Activation
		}{{"qkv", 3 * m.h, m.h, backend.Linear}, {"project", m.h, m.h, backend.Linear}, {"up", m.i, m.h, backend.GeluErf}, {"down", m.h, m.i, backend.Linear}} {
			flops := 2 * float64(m.t) * float64(l.n) * float64(l.k)
			name := "gemm/" + m.name + "/" + l.name
			all = append(all,
				benchmark{name + "/forward", flops, gemmCase{m: m.t, n: l.n, k: l.k, transB: true, alpha: 1, bias: true, pre: l.act != backend.Linear, act: l.act}.problem},
				benchmark{name + "/input", flops, gemmCase{m: m.t, n: l.k, k: l.n, alpha: 1}.problem},
				benchmark{name + "/weight", flops, gemmCase{m: l.n, n: l.k, k: m.t, transA: true, alpha: 1, beta: 1}.problem})
		}
		for _, drop := range []float64{0, 0.1} {
			a := attentionCase{heads: m.h / 32, d: 32, gain: 1, drop: drop}
			if m.h == 768 {
				a.heads, a.d = 12, 64
			}
			pairs := 0.0
			for s := range m.t / 128 {
				a.seqs = append(a.seqs, sequence{128, sampleOf(s), "all"})
				pairs += 128 * 128
			}
			name := "attention/" + m.name
			if drop > 0 {
				name += "/dropout"
			}
			all = append(all, benchmark{name + "/forward", 4 * pairs * float64(m.h), a.forward},
				benchmark{name + "/backward", 10 * pairs * float64(m.h), func() problem { return a.backward() }})
		}
		norm := normCase{t: m.t, h: m.h, z: true, residual: true, drop: 0.1, data: "normal"}
		all = append(all, benchmark{"layer norm/" + m.name + "/forward", 0, norm.forward},
			benchmark{"layer norm/" + m.name + "/backward", 0, func() problem { return norm.backward() }})
	}
	loss := entropyCase{n: 256, v: 30522, gain: 1, data: "normal"}
	return append(all,
		benchmark{"gelu backward", 0, func() problem { return geluProblem(2048, 1536) }},
		benchmark{"cross-entropy/forward", 0, loss.forward},
		benchmark{"cross-entropy/backward", 0, func() problem { return loss.backward(false) }},
		benchmark{"adamw", 0, func() problem {
			return adamProblem(10_000_000, backend.AdamWArgs{GradScale: 1, ClipNorm: 1, LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Step: 1000}, false)
		}})
}

// geluProblem is GeluBackward of the error function's form.
func geluProblem(r, c int) problem {
	p := problem{op: "gelu backward", name: "benchmark", run: func(s *backend.Stream, x tensors) {
		s.GeluBackward(x["dx"], x["dy"], x["pre"], backend.GeluErf)
	}}
	rng := source(p.name)
	p.add(in, "pre", r, c, normal(rng, r*c, math.Sqrt2))
	p.gradient(r, c, normal(rng, r*c, 1), false)
	return p
}
