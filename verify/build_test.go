package verify_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"sift/backend"
	"sift/bert"
	"sift/onnx"
	"sift/verify"
	"sift/verify/orttest"
)

// builtCases are models of every kind that Build writes.
func builtCases() map[string]bert.Config {
	list := map[string]bert.Config{}
	add := func(name string, change func(c *bert.Config)) {
		c := bert.Config{Layers: 3, Hidden: 24, Heads: 3, Intermediate: 40, Vocab: 61, Positions: 24, TypeVocab: 2,
			Activation: backend.GeluErf, Eps: 1e-12}
		change(&c)
		list[name] = c
	}
	pretraining := func(c *bert.Config) { c.HasPooler, c.HasMLM, c.HasNSP = true, true, true }
	add("bare", func(c *bert.Config) {})
	add("bare, tanh, pooler", func(c *bert.Config) { c.HasPooler, c.Activation = true, backend.GeluTanh })
	add("pretraining, tied", func(c *bert.Config) { pretraining(c); c.TiedDecoder = true })
	add("pretraining, untied, tanh", func(c *bert.Config) { pretraining(c); c.Activation = backend.GeluTanh })
	add("masked LM, tied, tanh", func(c *bert.Config) { c.HasMLM, c.TiedDecoder, c.Activation = true, true, backend.GeluTanh })
	add("masked LM, untied, pooler", func(c *bert.Config) { c.HasPooler, c.HasMLM = true, true })
	add("classifier", func(c *bert.Config) { c.HasPooler, c.Classes = true, 4 })
	add("all on the pooler", func(c *bert.Config) { pretraining(c); c.TiedDecoder, c.Classes = true, 2 })
	add("token classifier", func(c *bert.Config) { c.TokenClasses = 5 })
	add("question answering", func(c *bert.Config) { c.HasQA = true })
	add("no types", func(c *bert.Config) { pretraining(c); c.TypeVocab, c.TiedDecoder = 0, true })
	add("offset", func(c *bert.Config) { c.HasMLM, c.TiedDecoder, c.PositionOffset, c.Eps = true, true, 2, 1e-5 })
	add("one head, mask of -10000", func(c *bert.Config) { c.HasPooler, c.Classes, c.Heads, c.MaskValue = true, 3, 1, -10000 })
	return list
}

// distinctWeights draws weights large enough for outputs of the order of one.
func distinctWeights(t testing.TB, cfg bert.Config) bert.Weights {
	t.Helper()
	w := bert.Weights{}
	_, err := bert.InitMissing(cfg, w, 21)
	check(t, err)
	params, err := bert.Params(cfg)
	check(t, err)
	for _, p := range params {
		for i := range w[p.Role] {
			switch v := &w[p.Role][i]; p.Kind {
			case bert.Matrix, bert.Embedding:
				*v *= 12
			case bert.Bias, bert.Beta:
				*v = 0.1 * float32(i%7-3)
			case bert.Gamma:
				*v = 0.7 + 0.1*float32(i%5)
			}
		}
	}
	return w
}

// TestBuiltGraphs holds models that were built whole against the engine, in the float64
// evaluator and in ONNX Runtime, on padded batches of 1, 3 and 8 and lengths up to the
// longest, in float32 and in half precision.
func TestBuiltGraphs(t *testing.T) {
	dev := processor(t)
	dir := t.TempDir()
	jobs := []orttest.Job{}
	all := builtCases()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		cfg := all[name]
		for _, half := range []bool{false, true} {
			file := name + ".onnx"
			if half {
				file = "half " + file
			}
			t.Run(file, func(t *testing.T) {
				path := filepath.Join(dir, file)
				_, err := onnx.Build(cfg, distinctWeights(t, cfg), path, onnx.BuildOptions{Half: half})
				check(t, err)
				f, m := recognise(t, path)
				w, err := onnx.Load(m) // rounded, in half precision
				check(t, err)
				if cfg.TokenClasses > 0 || cfg.HasQA { // heads that the engine does not run
					jobs = append(jobs, orttest.Job{Model: path, Atol: 1e-4, Rtol: 1e-4, Cases: evaluated(t, f, m)})
					return
				}
				e, err := verify.NewModelEngine(dev, m.Config, w, m)
				check(t, err)
				defer e.Close()
				c, err := verify.Run(context.Background(), verify.Options{Model: f, Match: m, Engine: e.Run, EngineName: "the model", Seed: 3})
				check(t, err)
				check(t, c.Err())
				if len(c.Unchecked) > 0 || len(c.Outputs) != len(m.Outputs) || len(c.Inputs) != 9 || len(c.NotTried) > 0 {
					t.Errorf("not compared: %v; inputs %+v, left out %v", c.Unchecked, c.Inputs, c.NotTried)
				}
				cases := []orttest.Case{}
				for _, s := range sizes(m) {
					cases = append(cases, ortCase(t, e, m, padded(m, s.Batch, s.Length, 4)))
				}
				outputsDiffer(t, cases)
				jobs = append(jobs, orttest.Job{Model: path, Atol: 1e-4, Rtol: 1e-4, Cases: cases})
			})
		}
	}
	results, err := orttest.Run(orttest.Require(t), t.TempDir(), jobs)
	check(t, err)
	for i, j := range jobs {
		orttest.Report(t, j.Model, results[i])
	}
}

// evaluated runs the graph in the evaluator: what ONNX Runtime must give, padding left out.
func evaluated(t *testing.T, f *onnx.File, m *onnx.Match) []orttest.Case {
	t.Helper()
	list := []orttest.Case{}
	other, err := onnx.Open(f.Path)
	check(t, err)
	defer other.Close()
	_, err = verify.Run(context.Background(), verify.Options{Model: f, Match: m, Other: other, OtherMatch: m, Seed: 3,
		Observe: func(c orttest.Case) { list = append(list, c) }})
	check(t, err)
	outputsDiffer(t, list)
	return list
}

// outputsDiffer requires that every output spans more than any tolerance.
func outputsDiffer(t *testing.T, cases []orttest.Case) {
	t.Helper()
	lowest, highest := map[string]float64{}, map[string]float64{}
	for _, c := range cases {
		for name, y := range c.Outputs {
			if len(y.F) == 0 {
				t.Fatalf("%s: no elements in %s", name, c.Name)
			}
			lowest[name] = min(lowest[name], slices.Min(y.F))
			highest[name] = max(highest[name], slices.Max(y.F))
		}
	}
	for name := range highest {
		if !(highest[name]-lowest[name] > 0.5) {
			t.Errorf("%s lies between %g and %g: too narrow to tell anything", name, lowest[name], highest[name])
		}
	}
	if len(highest) == 0 {
		t.Error("no outputs")
	}
}
