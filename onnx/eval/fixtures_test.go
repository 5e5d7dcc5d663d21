package eval

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/fault"
	"sift/onnx"
)

const fixtures = "../../testdata/onnx"

// TestFixtures holds every exported fixture against what torch computed in float64
// from the same weights; the files give it with 9 digits.
func TestFixtures(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(fixtures, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Models []struct{ File, Case string }
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, m := range manifest.Models {
		if m.Case == "" {
			continue
		}
		ran++
		t.Run(m.File, func(t *testing.T) { checkFixture(t, m.File, m.Case) })
	}
	if ran < 20 {
		t.Errorf("only %d fixtures", ran)
	}
}

func checkFixture(t *testing.T, file, kase string) {
	data, err := os.ReadFile(filepath.Join(fixtures, kase))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Inputs  map[string][][]int64
		Outputs map[string]struct {
			Shape []int
			Data  []float64
		}
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	f, err := onnx.Open(filepath.Join(fixtures, file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]*Tensor{}
	for name, rows := range c.Inputs {
		inputs[name] = Int64s(slices.Concat(rows...), len(rows), len(rows[0]))
	}
	got, err := g.Run(inputs)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Outputs) == 0 || len(got) != len(c.Outputs) {
		t.Fatalf("%d outputs, want %d", len(got), len(c.Outputs))
	}
	worst := 0.0
	for name, want := range c.Outputs {
		y := got[name]
		if y == nil || !slices.Equal(y.Dims, want.Shape) {
			t.Fatalf("output %s: %v, want shape %v", name, y, want.Shape)
		}
		for i, w := range want.Data {
			worst = max(worst, math.Abs(y.F[i]-w)/math.Max(1, math.Abs(w)))
		}
	}
	// The graphs hold constants such as 1/sqrt(2) rounded to float32.
	if !(worst < 5e-7) {
		t.Errorf("largest difference %g", worst)
	}
	t.Logf("largest difference %.2g", worst)
}

func TestQuantisedRefused(t *testing.T) {
	f, err := onnx.Open(filepath.Join(fixtures, "quantised.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = New(f)
	if fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "is not supported") {
		t.Errorf("got %v", err)
	}
}
