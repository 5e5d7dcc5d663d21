package onnx

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/bert"
)

// The demo's checkpoint lies in the repository twice: as Build wrote it, and as
// scripts/democheckpoint/reexport.py let PyTorch's exporter write the same weights.
const (
	demoOurs    = "sift-small.onnx"
	demoForeign = "sift-small-torch.onnx"
)

func demoFile(t *testing.T, name string) (*Match, bert.Weights) {
	t.Helper()
	return readBack(t, filepath.Join("..", "testdata", "demo", name))
}

// The two files hold one model: equal configurations, and weights equal in every bit.
func TestDemoCheckpointsHoldOneModel(t *testing.T) {
	ours, ourWeights := demoFile(t, demoOurs)
	foreign, foreignWeights := demoFile(t, demoForeign)

	if ours.Config != foreign.Config {
		t.Errorf("%s: %+v\n%s: %+v", demoOurs, ours.Config, demoForeign, foreign.Config)
	}
	if c := ours.Config; !c.HasMLM || !c.HasNSP || !c.HasPooler || !c.TiedDecoder {
		t.Errorf("%s: %+v: no pre-training model with a tied decoder", demoOurs, c)
	}
	for _, m := range []*Match{ours, foreign} {
		if m.Architecture != "BertForPreTraining" {
			t.Errorf("%s: architecture %s", m.File.Path, m.Architecture)
		}
		if len(m.Unrecognised) > 0 {
			t.Errorf("%s: not recognised: %v", m.File.Path, m.Unrecognised[0])
		}
	}
	if ours.Inputs != foreign.Inputs {
		t.Errorf("inputs: %+v and %+v", ours.Inputs, foreign.Inputs)
	}
	if !slices.Equal(ours.Outputs, foreign.Outputs) {
		t.Errorf("outputs: %+v and %+v", ours.Outputs, foreign.Outputs)
	}
	params, err := bert.Params(ours.Config)
	if err != nil {
		t.Fatal(err)
	}
	if len(ourWeights) != len(params) {
		t.Errorf("%d weights of %d parameters", len(ourWeights), len(params))
	}
	if err := sameWeights(ourWeights, foreignWeights); err != nil {
		t.Error(err)
	}
	for _, p := range params {
		if p.Kind == bert.Matrix && constantSlice(ourWeights[p.Role]) {
			t.Errorf("%s: all elements are %g: not trained", p.Role, ourWeights[p.Role][0])
		}
	}
}

func constantSlice(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return x != v[0] })
}

// The second file is torch's: the exporter's name, and the linears of the encoder and of the
// head's transform folded into transposed initializers without their names.
func TestDemoCheckpointIsForeign(t *testing.T) {
	m, _ := demoFile(t, demoForeign)
	if !strings.HasPrefix(m.File.Producer, "pytorch") {
		t.Errorf("producer %q", m.File.Producer)
	}
	folded := 0
	for _, b := range m.Roles {
		linear := strings.HasPrefix(b.Role, "encoder.layer.") && len(b.Shape) == 2 || b.Role == bert.RoleTransformWeight
		if !linear {
			continue
		}
		folded++
		if !strings.HasPrefix(b.Initializer, "onnx::MatMul_") || !b.Transposed {
			t.Errorf("%s: initializer %s, transposed %v", b.Role, b.Initializer, b.Transposed)
		}
	}
	if want := 6*m.Config.Layers + 1; folded != want {
		t.Errorf("%d linears, want %d", folded, want)
	}
	tables := 0
	for _, x := range m.File.Initializers {
		if x.Len == int64(m.Config.Vocab)*int64(m.Config.Hidden) {
			tables++
		}
	}
	if tables != 1 {
		t.Errorf("the word embeddings are stored %d times", tables)
	}
}

// What the repository takes.
func TestDemoCheckpointsAreSmall(t *testing.T) {
	const largest = 24 << 20
	for _, name := range []string{demoOurs, demoForeign} {
		m, _ := demoFile(t, name)
		if m.File.Size > largest {
			t.Errorf("%s: %d bytes, more than %d", name, m.File.Size, largest)
		}
	}
}
