package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sift/onnx"
	"sift/onnx/eval"
	"sift/verify/orttest"
)

// ortCases runs a graph in the evaluator and returns its outputs as what ONNX Runtime
// must give, padding left out.
func ortCases(t *testing.T, f *onnx.File, m *onnx.Match, batches []Inputs) []orttest.Case {
	t.Helper()
	sig, err := describe(f, m)
	if err != nil {
		t.Fatal(err)
	}
	g, err := eval.New(f)
	if err != nil {
		t.Fatal(err)
	}
	list := []orttest.Case{}
	for i := range batches {
		in := &batches[i]
		feed := in.feed(sig)
		got, err := g.Run(feed)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]orttest.Expected{}
		for _, o := range sig.outputs {
			y := got[o.name]
			e := orttest.Expected{Tensor: y}
			if sig.perToken(o, in, y.Dims) && len(y.Dims) == 3 {
				e.Rows = []int{}
				for row, m := range in.Mask {
					if m != 0 {
						e.Rows = append(e.Rows, row)
					}
				}
			}
			want[o.name] = e
		}
		list = append(list, orttest.Case{Name: in.String(), Inputs: feed, Outputs: want})
	}
	return list
}

// TestFixturesInONNXRuntime: every fixture gives in the evaluator what it gives in ONNX
// Runtime, at several sizes, with padding and holes in the mask.
func TestFixturesInONNXRuntime(t *testing.T) {
	orttest.Require(t)
	paths, _ := filepath.Glob(filepath.Join("../testdata/onnx", "*.onnx"))
	if len(paths) < 20 {
		t.Fatalf("only %d fixtures", len(paths))
	}
	jobs := []orttest.Job{}
	for _, path := range paths {
		if filepath.Base(path) == "quantised.onnx" {
			continue
		}
		f, err := onnx.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := onnx.Recognise(f)
		if err != nil {
			t.Fatal(err)
		}
		v := &verification{opt: Options{Model: f, Match: m, Seed: 5}}
		if err := v.prepare(); err != nil {
			t.Fatal(err)
		}
		batches, _, err := v.batches()
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, orttest.Job{Model: path, Atol: 2e-5, Rtol: 1e-5, Cases: ortCases(t, f, m, batches)})
	}
	results, err := orttest.Run(orttest.Require(t), t.TempDir(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range jobs {
		t.Run(filepath.Base(j.Model), func(t *testing.T) {
			orttest.Report(t, j.Model, results[i])
			t.Logf("largest difference %.2g", worst(results[i]))
		})
	}
}

func worst(results []orttest.Result) float64 {
	d := 0.0
	for _, r := range results {
		for _, o := range r.Outputs {
			d = max(d, o.MaxAbs)
		}
	}
	return d
}

// TestCheckFindsADifference: the check itself can say no.
func TestCheckFindsADifference(t *testing.T) {
	dir := orttest.Require(t)
	path := filepath.Join("../testdata/onnx", "sequence_classification-op14-fold-dynamic.onnx")
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := domain{vocab: 30, types: 2, avoid: -1, masked: true}
	cases := ortCases(t, f, nil, []Inputs{d.random(1, Shape{2, 3})})
	for name, out := range cases[0].Outputs {
		out.F[0] += 1e-3
		cases[0].Outputs[name] = out
	}
	all, err := orttest.Run(dir, t.TempDir(), []orttest.Job{{Model: path, Atol: 1e-4, Rtol: 1e-4, Cases: cases}})
	if err != nil {
		t.Fatal(err)
	}
	results := all[0]
	for name, out := range results[0].Outputs {
		if results[0].OK || out.Bad != 1 {
			t.Errorf("%s: %s", name, fmt.Sprintf("%+v", out))
		}
	}
}

// TestMiniLMInONNXRuntime: the same for a real model.
func TestMiniLMInONNXRuntime(t *testing.T) {
	const path = "../build/minilm/model.onnx"
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SIFT_REQUIRE_MINILM") == "1" {
			t.Fatalf("all-MiniLM-L6-v2 is required: %v", err)
		}
		t.Skip("all-MiniLM-L6-v2 is not in build/minilm: scripts/minilm fetches it")
	}
	if testing.Short() {
		t.Skip("a model of 22 million parameters: not in a short run")
	}
	orttest.Require(t)
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := onnx.Recognise(f)
	if err != nil {
		t.Fatal(err)
	}
	d := domain{vocab: m.Config.Vocab, types: m.Config.TypeVocab, avoid: -1, masked: true}
	batches := []Inputs{d.random(1, Shape{1, 1}), d.random(1, Shape{3, 17}), d.random(1, Shape{1, 128})}
	results := orttest.Check(t, path, 2e-5, 1e-5, ortCases(t, f, m, batches))
	t.Logf("largest difference %.2g", worst(results))
}
