// Package berttest reads the tiny models and the PyTorch goldens of testdata, and opens
// the devices that tests run on.
package berttest

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/safetensors"
)

// Path returns the path of a file below testdata.
func Path(t testing.TB, name ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(append([]string{dir, "testdata"}, name...)...)
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

// JSON decodes a file below testdata into v.
func JSON(t testing.TB, v any, name ...string) {
	t.Helper()
	data, err := os.ReadFile(Path(t, name...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Tensors reads the float32 tensors of a safetensors file below testdata.
func Tensors(t testing.TB, name ...string) bert.Weights {
	t.Helper()
	f, err := safetensors.Read(Path(t, name...))
	if err != nil {
		t.Fatal(err)
	}
	w := bert.Weights{}
	for k, v := range f.Tensors {
		if v.F32 == nil {
			t.Fatalf("%s: %s is not float32", name, k)
		}
		w[k] = v.F32
	}
	return w
}

// Fixture is what testdata/onnx/manifest.json says of a model.
type Fixture struct {
	File         string   `json:"file"`
	Case         string   `json:"case"`
	Layers       int      `json:"layers"`
	Hidden       int      `json:"hidden"`
	Heads        int      `json:"heads"`
	Intermediate int      `json:"intermediate"`
	Vocab        int      `json:"vocab"`
	Positions    int      `json:"positions"`
	TypeVocab    int      `json:"type_vocab"`
	Eps          float64  `json:"eps"`
	Activation   string   `json:"activation"`
	HeadsFound   []string `json:"heads_found"`
	TiedDecoder  bool     `json:"tied_decoder"`
	Classes      int      `json:"classes"`
	TokenClasses int      `json:"token_classes"`
	Outputs      []struct{ Name, Kind string }
	Weights      string
}

// Fixtures reads the manifest.
func Fixtures(t testing.TB) []Fixture {
	t.Helper()
	var m struct{ Models []Fixture }
	JSON(t, &m, "onnx", "manifest.json")
	if len(m.Models) == 0 {
		t.Fatal("the manifest has no models")
	}
	return m.Models
}

// Find returns the fixture of an ONNX file.
func Find(t testing.TB, file string) Fixture {
	t.Helper()
	all := Fixtures(t)
	i := slices.IndexFunc(all, func(f Fixture) bool { return f.File == file })
	if i < 0 {
		t.Fatalf("no fixture %s", file)
	}
	return all[i]
}

// Config returns the fixture's configuration.
func (f Fixture) Config() bert.Config {
	has := func(h string) bool { return slices.Contains(f.HeadsFound, h) }
	c := bert.Config{Layers: f.Layers, Hidden: f.Hidden, Heads: f.Heads, Intermediate: f.Intermediate, Vocab: f.Vocab,
		Positions: f.Positions, TypeVocab: f.TypeVocab, Activation: backend.GeluErf, Eps: f.Eps,
		HasPooler: has("pooler"), HasMLM: has("mlm"), HasNSP: has("nsp"), TiedDecoder: f.TiedDecoder,
		Classes: f.Classes, TokenClasses: f.TokenClasses, HasQA: has("qa")}
	if f.Activation == "gelu_tanh" {
		c.Activation = backend.GeluTanh
	}
	return c
}

// Roles reads the weights that cfg has, from the fixture's file and more.
func (f Fixture) Roles(t testing.TB, cfg bert.Config, more bert.Weights) bert.Weights {
	t.Helper()
	all := Tensors(t, "onnx", f.Weights)
	params, err := bert.Params(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := bert.Weights{}
	for _, p := range params {
		if v, ok := more[p.Role]; ok {
			w[p.Role] = v
		} else if v, ok := all[p.Role]; ok {
			w[p.Role] = v
		}
	}
	if err := w.Check(cfg); err != nil {
		t.Fatalf("%s: %v", f.File, err)
	}
	return w
}

// Padded is a batch as padded arrays, as the command line reads it.
type Padded struct {
	IDs   [][]int32 `json:"input_ids"`
	Mask  [][]int32 `json:"attention_mask"`
	Types [][]int32 `json:"token_type_ids"`
	MLM   [][]int32 `json:"mlm_labels"`
	NSP   []int32   `json:"nsp_labels"`
	Label []int32   `json:"labels"`
}

// Pack packs p.
func (p Padded) Pack(t testing.TB) *bert.Batch {
	t.Helper()
	b, err := bert.PackPadded(p.IDs, p.Mask, p.Types, p.MLM, p.NSP, p.Label, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Device is one to run a test on.
type Device struct {
	Name string
	backend.Device
}

// Devices returns the float32 reference and, where there are C kernels, the processor
// with each instruction set it has. They are closed with the test.
func Devices(t testing.TB) []Device {
	t.Helper()
	all := []Device{{"reference", cpu.NewReference(backend.F32)}}
	for _, isa := range []string{"portable", "avx2", "avx512"} {
		d, err := cpu.Open(cpu.Options{ISA: isa, Threads: 2})
		if err != nil || d.Info().Kind == "reference" {
			t.Logf("%s: not here", isa)
			continue
		}
		t.Cleanup(func() { d.Close() })
		all = append(all, Device{isa, d})
	}
	return all
}

// Distance returns the Euclidean norm of got - want and of want.
func Distance(got, want []float32) (distance, norm float64) {
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		distance += d * d
		norm += float64(w) * float64(w)
	}
	return math.Sqrt(distance), math.Sqrt(norm)
}
