package train

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/config"
	"sift/safetensors"
	"sift/sifting"
)

const testdata = "../testdata"

// goldenRun is ten updates by torch (scripts/fixtures/goldens.py).
type goldenRun struct {
	Model         string    `json:"model"`
	Head          string    `json:"head"`
	Weights       string    `json:"weights"`
	Beta1         float64   `json:"beta1"`
	Beta2         float64   `json:"beta2"`
	Eps           float64   `json:"eps"`
	WeightDecay   float64   `json:"weight_decay"`
	DecayExclude  []string  `json:"decay_exclude"`
	ClipNorm      float64   `json:"clip_norm"`
	LearningRates []float64 `json:"learning_rates"`
	Updates       []struct {
		Loss float64 `json:"loss"`
		Norm float64 `json:"gradient_norm"`
	} `json:"updates"`
	LargestChange float64 `json:"largest_change"`
	Batches       []struct {
		IDs       [][]int32 `json:"input_ids"`
		Mask      [][]int32 `json:"attention_mask"`
		Types     [][]int32 `json:"token_type_ids"`
		MLMLabels [][]int32 `json:"mlm_labels"`
		NSPLabels []int32   `json:"nsp_labels"`
		Labels    []int32   `json:"labels"`
	} `json:"batches"`
}

// manifestEntry is what testdata/onnx/manifest.json says of a model.
type manifestEntry struct {
	File         string   `json:"file"`
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
	Weights      string   `json:"weights"`
}

func (e manifestEntry) config() bert.Config {
	c := bert.Config{Layers: e.Layers, Hidden: e.Hidden, Heads: e.Heads, Intermediate: e.Intermediate, Vocab: e.Vocab,
		Positions: e.Positions, TypeVocab: e.TypeVocab, Eps: e.Eps, Activation: backend.GeluErf, Classes: e.Classes,
		HasPooler: slices.Contains(e.HeadsFound, "pooler"), HasMLM: slices.Contains(e.HeadsFound, "mlm"),
		HasNSP: slices.Contains(e.HeadsFound, "nsp"), TiedDecoder: e.TiedDecoder}
	if e.Activation == "gelu_tanh" {
		c.Activation = backend.GeluTanh
	}
	return c
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readWeights(t testing.TB, path string) bert.Weights {
	t.Helper()
	f, err := safetensors.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bert.Weights{}
	for role, x := range f.Tensors {
		w[role] = x.F32
	}
	return w
}

// goldenModel returns the configuration and first weights of a golden run.
func goldenModel(t testing.TB, g goldenRun) (bert.Config, bert.Weights) {
	t.Helper()
	var manifest struct {
		Models []manifestEntry `json:"models"`
	}
	readJSON(t, filepath.Join(testdata, "onnx", "manifest.json"), &manifest)
	for _, e := range manifest.Models {
		if e.File != g.Model {
			continue
		}
		c, all := e.config(), readWeights(t, filepath.Join(testdata, "onnx", e.Weights))
		if g.Head != "" {
			for role, x := range readWeights(t, filepath.Join(testdata, "golden", g.Head)) {
				all[role] = x
			}
			c.HasPooler, c.Classes = true, len(all[bert.RoleClassBias])
		}
		params, err := bert.Params(c)
		if err != nil {
			t.Fatal(err)
		}
		w := bert.Weights{}
		for _, p := range params {
			w[p.Role] = all[p.Role]
		}
		return c, w
	}
	t.Fatalf("%s is not in the manifest", g.Model)
	return bert.Config{}, nil
}

// TestAdamWGolden makes ten clipped, decayed updates under a schedule beside torch's.
func TestAdamWGolden(t *testing.T) {
	for _, name := range []string{"pretraining", "classifier-on-encoder"} {
		for _, k := range []struct {
			dtype        backend.DType
			loss, weight float64 // limits: relative, and absolute (the weights move by up to 1e-2)
		}{
			{backend.F64, 1e-9, 1e-7}, // the golden weights are rounded to float32
			{backend.F32, 1e-5, 5e-6}, // torch's own float32 run is off by up to 6e-7
		} {
			t.Run(name+" "+k.dtype.String(), func(t *testing.T) {
				var g goldenRun
				readJSON(t, filepath.Join(testdata, "golden", "adamw-"+name+".json"), &g)
				if len(g.Updates) != 10 || len(g.Batches) != 10 {
					t.Fatalf("%d updates, %d batches", len(g.Updates), len(g.Batches))
				}
				got := replayGolden(t, g, k.dtype, k.loss)
				want := readWeights(t, filepath.Join(testdata, "golden", g.Weights))
				var rates float64
				for _, lr := range g.LearningRates {
					rates += lr
				}
				if len(got) != len(want) {
					t.Fatalf("%d parameters, want %d", len(got), len(want))
				}
				worst, worstRole := 0.0, ""
				for role, w := range want {
					limit := k.weight
					if strings.HasSuffix(role, "attention.key.bias") {
						limit = rates // its gradient is rounding noise, which Adam magnifies
					}
					for i := range w {
						d := math.Abs(float64(got[role][i]) - float64(w[i]))
						if !(d <= limit) {
							t.Fatalf("%s[%d]: %v, want %v", role, i, got[role][i], w[i])
						}
						if limit < rates && d > worst {
							worst, worstRole = d, role
						}
					}
				}
				t.Logf("largest error %.1e (%s), largest change %.1e", worst, worstRole, g.LargestChange)
			})
		}
	}
}

func replayGolden(t *testing.T, g goldenRun, dtype backend.DType, tolerance float64) bert.Weights {
	t.Helper()
	cfg, w := goldenModel(t, g)
	var batches []*bert.Batch
	limits := bert.Limits{}
	for _, b := range g.Batches {
		packed, err := bert.PackPadded(b.IDs, b.Mask, b.Types, b.MLMLabels, b.NSPLabels, b.Labels, nil)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, packed)
		l := packed.Limits()
		limits = bert.Limits{Rows: max(limits.Rows, l.Rows), Seqs: max(limits.Seqs, l.Seqs),
			MaxLen: max(limits.MaxLen, l.MaxLen), Labelled: max(limits.Labelled, l.Labelled)}
	}
	dev := cpu.NewReference(dtype)
	defer dev.Close()
	model, err := bert.NewModel(dev, cfg, limits)
	if err != nil {
		t.Fatal(err)
	}
	if err := model.SetWeights(w); err != nil {
		t.Fatal(err)
	}
	stepper, err := sifting.NewStepper(model, sifting.Options{})
	if err != nil {
		t.Fatal(err)
	}
	optim, err := newAdamW(dev, model, config.Optimizer{Beta1: g.Beta1, Beta2: g.Beta2, Eps: g.Eps,
		WeightDecay: g.WeightDecay, DecayExclude: g.DecayExclude}, g.ClipNorm)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, u int, got, want float64) {
		if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
			t.Errorf("update %d: %s %.12g, want %.12g", u, what, got, want)
		}
	}
	for i, b := range batches {
		r, err := stepper.Step(b, sifting.StepArgs{Update: i})
		if err != nil {
			t.Fatal(err)
		}
		optim.measure()
		norm, err := optim.norm()
		if err != nil {
			t.Fatal(err)
		}
		near("loss", i+1, r.Loss, g.Updates[i].Loss)
		near("gradient norm", i+1, norm, g.Updates[i].Norm)
		if err := optim.step(g.LearningRates[i], i+1, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	after, err := model.Weights()
	if err != nil {
		t.Fatal(err)
	}
	return after
}

// TestDecayRuns: neighbours that share a decay make one run, frozen parameters none.
func TestDecayRuns(t *testing.T) {
	params, err := bert.Params(tinyShape(toyVocab))
	if err != nil {
		t.Fatal(err)
	}
	all := func(int) bool { return true }
	o := config.Optimizer{WeightDecay: 0.01}
	if runs := decayRuns(params, all, o); len(runs) != 1 || runs[0].offset != 0 || runs[0].decay != 0.01 {
		t.Errorf("everything decays: %v", runs)
	}
	o.DecayExclude = []string{"bias", "norm", "embeddings"}
	runs := decayRuns(params, func(i int) bool { return params[i].Stage != 1 }, o)
	covered := map[string]float64{}
	for i, p := range params {
		for _, r := range runs {
			if p.Offset >= r.offset && p.Offset+p.Len() <= r.offset+r.length {
				covered[p.Role] = r.decay
				if p.Stage == 1 {
					t.Errorf("%s is frozen, but in %v", p.Role, r)
				}
			}
		}
		if _, ok := covered[p.Role]; !ok && p.Stage != 1 {
			t.Errorf("%s is in no run", p.Role)
		}
		if want := p.Kind == bert.Matrix; p.Stage != 1 && (covered[p.Role] > 0) != want {
			t.Errorf("parameter %d, %s: decay %v", i, p.Role, covered[p.Role])
		}
	}
	if len(runs) < 5 || runs[0].decay != 0 {
		t.Errorf("%v", runs)
	}
}
