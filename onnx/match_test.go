package onnx

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/fault"
)

// fixture is an entry of testdata/onnx/manifest.json.
type fixture struct {
	File         string
	Architecture string
	Layers       int
	Hidden       int
	Heads        int
	Intermediate int
	Vocab        int
	Positions    int
	TypeVocab    int `json:"type_vocab"`
	Eps          float64
	Activation   string
	HeadsFound   []string `json:"heads_found"`
	TiedDecoder  bool     `json:"tied_decoder"`
	Classes      int
	TokenClasses int `json:"token_classes"`
	Parameters   int
	Merged       bool
	Inputs       []string
	Outputs      []struct{ Name, Kind string }
	Weights      string
	Stored       string
	External     string
	Folding      bool
	Dynamic      bool
	Opset        int64
}

const fixtureDir = "../testdata/onnx"

func manifest(t testing.TB) []fixture {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(fixtureDir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Models []fixture }
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Models) < 20 {
		t.Fatalf("only %d fixtures", len(m.Models))
	}
	return m.Models
}

func (x fixture) path() string { return filepath.Join(fixtureDir, x.File) }

func recogniseFile(t testing.TB, path string) *Match {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := Recognise(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// safetensors reads a float32 file of the format's simplest kind.
func safetensors(t testing.TB, path string) (map[string][]float32, map[string][]int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	var header map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	data, shapes := map[string][]float32{}, map[string][]int{}
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var e struct {
			Dtype   string
			Shape   []int
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil || e.Dtype != "F32" {
			t.Fatalf("%s: %s %v", name, e.Dtype, err)
		}
		p := b[8+int(n)+e.Offsets[0] : 8+int(n)+e.Offsets[1]]
		v := make([]float32, len(p)/4)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
		}
		data[name], shapes[name] = v, e.Shape
	}
	return data, shapes
}

// TestFixtures holds what is recognised in every exported file against what torch exported:
// the configuration, and every weight bit for bit.
func TestFixtures(t *testing.T) {
	for _, x := range manifest(t) {
		t.Run(x.File, func(t *testing.T) {
			m := recogniseFile(t, x.path())
			c := m.Config
			for _, p := range []struct {
				name      string
				got, want int
			}{
				{"layers", c.Layers, x.Layers}, {"hidden", c.Hidden, x.Hidden}, {"heads", c.Heads, x.Heads},
				{"intermediate", c.Intermediate, x.Intermediate}, {"vocab", c.Vocab, x.Vocab}, {"positions", c.Positions, x.Positions},
				{"type_vocab", c.TypeVocab, x.TypeVocab}, {"classes", c.Classes, x.Classes}, {"token_classes", c.TokenClasses, x.TokenClasses},
			} {
				if p.got != p.want {
					t.Errorf("%s: %d, want %d", p.name, p.got, p.want)
				}
			}
			act := map[string]backend.Activation{"gelu_erf": backend.GeluErf, "gelu_tanh": backend.GeluTanh}[x.Activation]
			if c.Activation != act || math.Abs(c.Eps-x.Eps) > 1e-6*x.Eps || c.TiedDecoder != x.TiedDecoder || m.TiedDecoder != x.TiedDecoder {
				t.Errorf("activation %v, eps %g, tied %v", c.Activation, c.Eps, c.TiedDecoder)
			}
			if got := m.HeadsFound(); !slices.Equal(got, x.HeadsFound) {
				t.Errorf("heads %v, want %v", got, x.HeadsFound)
			}
			if len(m.Unrecognised) > 0 {
				t.Errorf("not recognised: %v", m.Unrecognised[0])
			}
			if len(m.Outputs) != len(x.Outputs) {
				t.Fatalf("outputs %v", m.Outputs)
			}
			for i, o := range x.Outputs {
				if m.Outputs[i].Name != o.Name || m.Outputs[i].Kind != o.Kind {
					t.Errorf("output %v, want %v", m.Outputs[i], o)
				}
			}
			var inputs []string
			for _, s := range []string{m.Inputs.IDs, m.Inputs.Mask, m.Inputs.Types, m.Inputs.Positions} {
				if s != "" {
					inputs = append(inputs, s)
				}
			}
			if !slices.Equal(inputs, x.Inputs) {
				t.Errorf("inputs %v, want %v", inputs, x.Inputs)
			}
			checkWeights(t, m, x)
		})
	}
}

func checkWeights(t *testing.T, m *Match, x fixture) {
	w, err := Load(m)
	if err != nil {
		t.Fatal(err)
	}
	want, shapes := safetensors(t, filepath.Join(fixtureDir, x.Weights))
	elements := 0
	for role, got := range w {
		elements += len(got)
		b, _ := m.Binding(role)
		if b.Role != role || !slices.Equal(b.Shape, shapes[role]) && !(len(shapes[role]) == 0) {
			t.Errorf("%s: bound as %v, want %v", role, b.Shape, shapes[role])
		}
		v, ok := want[role]
		if !ok {
			t.Errorf("%s: torch has no such parameter", role)
			continue
		}
		for i := range got {
			expect := v[i]
			switch x.Stored {
			case "float16":
				expect = float16To32(float16From32(expect))
			case "bfloat16":
				expect = bfloat16To32(bfloat16From32(expect))
			}
			if math.Float32bits(got[i]) != math.Float32bits(expect) {
				t.Errorf("%s: element %d is %v, want %v", role, i, got[i], expect)
				break
			}
		}
	}
	if elements != x.Parameters {
		t.Errorf("%d parameters, want %d", elements, x.Parameters)
	}
}

func TestQuantisedIsRefusedByName(t *testing.T) {
	f, err := Open(filepath.Join(fixtureDir, "quantised.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = Recognise(f)
	if err == nil || fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "DynamicQuantizeLinear") || !strings.Contains(err.Error(), "quantised") {
		t.Errorf("got %v", err)
	}
}

// TestOptimised: files that ONNX Runtime wrote from the fixtures give the same weights.
func TestOptimised(t *testing.T) {
	files, err := filepath.Glob("testdata/optimised/*.onnx")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		want := recogniseFile(t, filepath.Join(fixtureDir, filepath.Base(path)))
		m := recogniseFile(t, path)
		w, original := load(t, m), load(t, want)
		static := want.File.Inputs[0].Dims[0].Value > 0
		if static { // folding kept only the rows that the static shape can reach
			m.Config.Positions, m.Config.TypeVocab = want.Config.Positions, want.Config.TypeVocab
		}
		if m.Config != want.Config || len(m.Unrecognised) > 0 || !slices.Equal(m.HeadsFound(), want.HeadsFound()) {
			t.Errorf("%s: %+v, want %+v; unrecognised %v", path, m.Config, want.Config, m.Unrecognised)
		}
		for role, v := range w {
			if len(v) <= len(original[role]) && static {
				original[role] = original[role][:len(v)]
			}
			if !sameBits(v, original[role]) {
				t.Errorf("%s: %s differs", path, role)
			}
		}
		out := filepath.Join(t.TempDir(), "out.onnx")
		train(w, 5)
		m = recogniseFile(t, path)
		if _, err := Store(m, w, out); err != nil {
			t.Error(err)
			continue
		}
		again := load(t, recogniseFile(t, out))
		for role, v := range w {
			if !sameBits(again[role], v) {
				t.Errorf("%s: %s is stored wrongly", path, role)
			}
		}
	}
}
