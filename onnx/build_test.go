package onnx

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sift/backend"
	"sift/bert"
	"sift/fault"
)

// smallEncoder is the encoder that the cases vary.
func smallEncoder() bert.Config {
	return bert.Config{Layers: 2, Hidden: 12, Heads: 3, Intermediate: 20, Vocab: 37, Positions: 19, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, MaskValue: -math.MaxFloat32}
}

// buildCases are all kinds of models, by name.
func buildCases() map[string]bert.Config {
	list := map[string]bert.Config{}
	add := func(name string, change func(c *bert.Config)) {
		c := smallEncoder()
		change(&c)
		list[name] = c
	}
	add("bare", func(c *bert.Config) {})
	add("bare, pooler", func(c *bert.Config) { c.HasPooler = true })
	add("pretraining", func(c *bert.Config) { c.HasPooler, c.HasMLM, c.HasNSP, c.TiedDecoder = true, true, true, true })
	add("pretraining, untied, tanh", func(c *bert.Config) {
		c.HasPooler, c.HasMLM, c.HasNSP, c.Activation = true, true, true, backend.GeluTanh
	})
	add("masked LM", func(c *bert.Config) { c.HasMLM, c.TiedDecoder, c.Eps = true, true, 1e-5 })
	add("masked LM, untied, pooler", func(c *bert.Config) { c.HasPooler, c.HasMLM = true, true })
	add("next sentence", func(c *bert.Config) { c.HasPooler, c.HasNSP = true, true })
	add("classifier", func(c *bert.Config) { c.HasPooler, c.Classes = true, 2 })
	add("classifier, tanh, one head", func(c *bert.Config) {
		c.HasPooler, c.Classes, c.Activation, c.Heads, c.Layers = true, 5, backend.GeluTanh, 1, 1
	})
	add("all on the pooler", func(c *bert.Config) {
		c.HasPooler, c.HasMLM, c.HasNSP, c.Classes, c.TiedDecoder = true, true, true, 2, true
	})
	add("masked LM and classifier", func(c *bert.Config) { c.HasPooler, c.HasMLM, c.Classes = true, true, 2 })
	add("next sentence and classifier", func(c *bert.Config) { c.HasPooler, c.HasNSP, c.Classes = true, true, 2 })
	add("token classifier", func(c *bert.Config) { c.TokenClasses = 4 })
	add("both classifiers", func(c *bert.Config) { c.HasPooler, c.Classes, c.TokenClasses = true, 3, 4 })
	add("question answering", func(c *bert.Config) { c.HasQA = true })
	add("no types", func(c *bert.Config) { c.TypeVocab, c.HasMLM, c.TiedDecoder = 0, true, true })
	add("one type", func(c *bert.Config) { c.TypeVocab = 1 })
	add("as many types as tokens", func(c *bert.Config) { c.TypeVocab, c.Vocab = 9, 9 })
	add("offset", func(c *bert.Config) { c.PositionOffset, c.HasMLM, c.TiedDecoder, c.Eps = 2, true, true, 1e-5 })
	add("offset, no types", func(c *bert.Config) { c.PositionOffset, c.TypeVocab = 1, 0 })
	add("one position", func(c *bert.Config) { c.Positions, c.HasPooler, c.Classes = 1, true, 2 })
	add("another mask", func(c *bert.Config) { c.MaskValue = -10000 })
	return list
}

// randomWeights draws every parameter, gammas around 1.
func randomWeights(t rapid.TB, cfg bert.Config, seed uint64) bert.Weights {
	t.Helper()
	params, err := bert.Params(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 1))
	w := bert.Weights{}
	for _, p := range params {
		v := make([]float32, p.Len())
		for i := range v {
			v[i] = float32(r.NormFloat64()) * 0.3
			if p.Kind == bert.Gamma {
				v[i]++
			}
		}
		w[p.Role] = v
	}
	return w
}

func buildFile(t testing.TB, cfg bert.Config, w bert.Weights, opt BuildOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if _, err := Build(cfg, w, path, opt); err != nil {
		t.Fatal(err)
	}
	return path
}

func readBack(t testing.TB, path string) (*Match, bert.Weights) {
	t.Helper()
	m := recogniseFile(t, path)
	w, err := Load(m)
	if err != nil {
		t.Fatal(err)
	}
	return m, w
}

// sameWeights names the first parameter that differs in a bit.
func sameWeights(a, b bert.Weights) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d parameters and %d", len(a), len(b))
	}
	for role := range a {
		if !sameBits(a[role], b[role]) {
			return fmt.Errorf("%s differs", role)
		}
	}
	return nil
}

func bytesOf(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBuiltIsRecognised: the importer gives back what was built, and untouched weights
// stored again give the same file.
func TestBuiltIsRecognised(t *testing.T) {
	for name, cfg := range buildCases() {
		t.Run(name, func(t *testing.T) {
			w := randomWeights(t, cfg, 1)
			path := buildFile(t, cfg, w, BuildOptions{Version: "1.2.3"})
			m, again := readBack(t, path)
			if m.Config != cfg {
				t.Fatalf("read\n%+v, built\n%+v", m.Config, cfg)
			}
			if err := sameWeights(w, again); err != nil {
				t.Fatal(err)
			}
			if f := m.File; f.Opset() != 17 || len(f.Opsets) != 1 || f.IRVersion != 8 || f.Producer != "sift 1.2.3" {
				t.Errorf("opsets %v, IR %d, producer %q", f.Opsets, f.IRVersion, f.Producer)
			}
			if len(m.Unrecognised) > 0 {
				t.Errorf("not recognised: %v", m.Unrecognised)
			}
			for _, o := range m.Outputs {
				if o.Kind == "other" {
					t.Errorf("output %s was not recognised", o.Name)
				}
			}
			if want := (Inputs{IDs: "input_ids", Mask: "attention_mask", Types: map[bool]string{true: "token_type_ids"}[cfg.TypeVocab > 0]}); m.Inputs != want {
				t.Errorf("inputs %+v", m.Inputs)
			}
			for _, v := range append(slices.Clone(m.File.Inputs), m.File.Outputs...) {
				if v.Dims[0].Param != "batch" {
					t.Errorf("%s: dimensions %v", v.Name, v.Dims)
				}
			}
			copied := filepath.Join(t.TempDir(), "again.onnx")
			if _, err := Store(m, again, copied); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytesOf(t, path), bytesOf(t, copied)) {
				t.Error("stored again it is another file")
			}
		})
	}
}

// TestBuiltOutputs: outputs are named by what they are.
func TestBuiltOutputs(t *testing.T) {
	cases := buildCases()
	for name, want := range map[string]string{
		"bare": "last_hidden_state:hidden", "bare, pooler": "last_hidden_state:hidden pooler_output:pooled",
		"pretraining": "prediction_logits:mlm seq_relationship_logits:nsp", "masked LM": "prediction_logits:mlm",
		"masked LM, untied, pooler": "pooler_output:pooled prediction_logits:mlm", "classifier": "logits:logits",
		"all on the pooler": "prediction_logits:mlm seq_relationship_logits:nsp logits:logits",
		"both classifiers":  "logits:logits token_logits:token", "question answering": "start_logits:qa end_logits:qa",
	} {
		cfg := cases[name]
		m, _ := readBack(t, buildFile(t, cfg, randomWeights(t, cfg, 1), BuildOptions{}))
		var got []string
		for _, o := range m.Outputs {
			got = append(got, o.Name+":"+o.Kind)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: outputs %s, want %s", name, s, want)
		}
	}
}

// TestBuiltNames: initializers have Hugging Face's names, and a tied decoder is stored once.
func TestBuiltNames(t *testing.T) {
	cfg := buildCases()["pretraining"]
	path := buildFile(t, cfg, randomWeights(t, cfg, 1), BuildOptions{})
	m := recogniseFile(t, path)
	for name, dims := range map[string][]int64{
		"bert.embeddings.word_embeddings.weight":               {37, 12},
		"bert.embeddings.token_type_embeddings.weight":         {2, 12},
		"bert.embeddings.LayerNorm.bias":                       {12},
		"bert.encoder.layer.0.attention.self.query.weight":     {12, 12},
		"bert.encoder.layer.1.attention.output.dense.bias":     {12},
		"bert.encoder.layer.1.attention.output.LayerNorm.bias": {12},
		"bert.encoder.layer.1.intermediate.dense.weight":       {20, 12},
		"bert.encoder.layer.0.output.dense.weight":             {12, 20},
		"bert.pooler.dense.weight":                             {12, 12},
		"cls.predictions.transform.dense.weight":               {12, 12},
		"cls.predictions.transform.LayerNorm.weight":           {12},
		"cls.predictions.bias":                                 {37},
		"cls.seq_relationship.weight":                          {2, 12},
	} {
		if x := m.File.Initializer(name); x == nil || !equalInts(x.Dims, dims) {
			t.Errorf("%s: %+v, want dimensions %v", name, x, dims)
		}
	}
	tables := 0
	for _, x := range m.File.Initializers {
		if x.Len == 37*12 {
			tables++
		}
	}
	decoder, _ := m.Binding(bert.RoleDecoderWeight)
	if tables != 1 || decoder.Initializer != "bert.embeddings.word_embeddings.weight" {
		t.Errorf("%d tensors as large as the embeddings, the decoder in %s", tables, decoder.Initializer)
	}
	for _, n := range m.File.Nodes {
		if n.Name == "/bert/encoder/layer.1/attention/self/query/MatMul" {
			return
		}
	}
	t.Error("nodes are not named by module")
}

// TestBuiltIsDeterministic: the same arguments give the same bytes.
func TestBuiltIsDeterministic(t *testing.T) {
	cfg := buildCases()["all on the pooler"]
	for _, opt := range []BuildOptions{{}, {Half: true, Version: "2"}} {
		a := bytesOf(t, buildFile(t, cfg, randomWeights(t, cfg, 1), opt))
		for range 3 {
			if !bytes.Equal(a, bytesOf(t, buildFile(t, cfg, randomWeights(t, cfg, 1), opt))) {
				t.Fatal("two builds differ")
			}
		}
	}
}

// TestBuiltInHalf: matrices and tables are rounded to float16, all else is as it was, and
// the file is as small as that promises.
func TestBuiltInHalf(t *testing.T) {
	for name, cfg := range buildCases() {
		t.Run(name, func(t *testing.T) {
			w := randomWeights(t, cfg, 2)
			path := buildFile(t, cfg, w, BuildOptions{Half: true})
			m, got := readBack(t, path)
			if m.Config != cfg {
				t.Fatalf("read\n%+v, built\n%+v", m.Config, cfg)
			}
			params, _ := bert.Params(cfg)
			want := bert.Weights{}
			for _, p := range params {
				want[p.Role] = slices.Clone(w[p.Role])
				if p.Kind == bert.Matrix || p.Kind == bert.Embedding {
					for i, v := range w[p.Role] {
						want[p.Role][i] = float16To32(float16From32(v))
					}
				}
			}
			if err := sameWeights(want, got); err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(t.TempDir(), "again.onnx")
			if _, err := Store(m, got, copied); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytesOf(t, path), bytesOf(t, copied)) {
				t.Error("stored again it is another file")
			}
		})
	}
}

// TestBuiltDemoSize: a small BERT with the usual vocabulary, in half precision, stays well
// under 24 MB: the decoder is stored once and nothing is stored twice.
func TestBuiltDemoSize(t *testing.T) {
	cfg := bert.Config{Layers: 4, Hidden: 192, Heads: 3, Intermediate: 768, Vocab: 30522, Positions: 512, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, HasMLM: true, HasNSP: true, TiedDecoder: true}
	w := bert.Weights{}
	if _, err := bert.InitMissing(cfg, w, 1); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(buildFile(t, cfg, w, BuildOptions{Half: true}))
	if err != nil {
		t.Fatal(err)
	}
	params, _ := bert.Params(cfg)
	payload := int64(0)
	for _, p := range params {
		payload += int64(p.Len() * stored(p, true).Size())
	}
	if over := info.Size() - payload; info.Size() > 17<<20 || over < 0 || over > 64<<10 {
		t.Errorf("%d bytes, %d of them parameters", info.Size(), payload)
	}
}

// TestBuiltIsStored: a built file takes other weights as any other does.
func TestBuiltIsStored(t *testing.T) {
	for _, name := range []string{"pretraining", "pretraining, untied, tanh", "bare, pooler", "both classifiers", "offset"} {
		cfg := buildCases()[name]
		m := recogniseFile(t, buildFile(t, cfg, randomWeights(t, cfg, 3), BuildOptions{}))
		w := randomWeights(t, cfg, 4)
		path := filepath.Join(t.TempDir(), "other.onnx")
		changes, err := Store(m, w, path)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes.Added) > 0 || len(changes.Patched) != len(w) {
			t.Errorf("%s: %d of %d initializers patched, %v added", name, len(changes.Patched), len(w), changes.Added)
		}
		if !bytes.Equal(bytesOf(t, path), bytesOf(t, buildFile(t, cfg, w, BuildOptions{}))) {
			t.Errorf("%s: stored and built files differ", name)
		}
	}
}

// TestBuiltIsGrafted: a pre-trained model that was built gets a classifier.
func TestBuiltIsGrafted(t *testing.T) {
	for _, half := range []bool{false, true} {
		cfg := buildCases()["masked LM"]
		m, w := readBack(t, buildFile(t, cfg, randomWeights(t, cfg, 5), BuildOptions{Half: half}))
		cfg.HasPooler, cfg.Classes = true, 3
		if _, err := bert.InitMissing(cfg, w, 6); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "classifier.onnx")
		if _, err := Export(m, cfg, w, path); err != nil {
			t.Fatal(err)
		}
		grafted, again := readBack(t, path)
		if grafted.Config != cfg {
			t.Errorf("half %v: read %+v", half, grafted.Config)
		}
		if err := sameWeights(w, again); err != nil {
			t.Errorf("half %v: %v", half, err)
		}
	}
}

// TestBuiltBesideData: what does not fit one message has its weights beside it.
func TestBuiltBesideData(t *testing.T) {
	cfg := smallEncoder()
	cfg.HasPooler, cfg.Classes, cfg.Hidden, cfg.Intermediate = true, 2, 24, 60
	w := randomWeights(t, cfg, 7)
	path := filepath.Join(t.TempDir(), "model.onnx")
	changes, err := build(cfg, w, path, BuildOptions{}, 40000)
	if err != nil {
		t.Fatal(err)
	}
	if len(changes.DataFiles) != 1 || changes.DataFiles[0] != path+".data" {
		t.Fatalf("data files %v", changes.DataFiles)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 40000 {
		t.Errorf("the model has %d bytes, %v", info.Size(), err)
	}
	m, again := readBack(t, path)
	if m.Config != cfg {
		t.Errorf("read %+v", m.Config)
	}
	if err := sameWeights(w, again); err != nil {
		t.Error(err)
	}
	outside := 0
	for _, x := range m.File.Initializers {
		if x.External != nil {
			outside++
			if x.External.Offset%dataAlignment != 0 || x.Bytes() < smallestData {
				t.Errorf("%s: %d bytes at %d", x.Name, x.Bytes(), x.External.Offset)
			}
		}
	}
	if outside < 10 {
		t.Errorf("%d tensors in the data file", outside)
	}
	_, err = build(cfg, w, filepath.Join(t.TempDir(), "model.onnx"), BuildOptions{}, 1000)
	if fault.KindOf(err) != fault.CannotWrite {
		t.Errorf("a graph that fits nowhere: %v", err)
	}
}

// TestBuildRefuses: bad requests are errors that say where, and leave no file.
func TestBuildRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *bert.Config, w bert.Weights, o *BuildOptions)
		says   string
	}{
		"no layers":        {func(c *bert.Config, w bert.Weights, o *BuildOptions) { c.Layers = 0 }, "layers"},
		"a missing weight": {func(c *bert.Config, w bert.Weights, o *BuildOptions) { delete(w, bert.RoleWord) }, bert.RoleWord},
		"a short weight":   {func(c *bert.Config, w bert.Weights, o *BuildOptions) { w[bert.RolePosition] = nil }, bert.RolePosition},
		"a weight too many": {func(c *bert.Config, w bert.Weights, o *BuildOptions) {
			w[bert.RolePoolerBias] = make([]float32, 12)
		}, bert.RolePoolerBias},
		"NaN": {func(c *bert.Config, w bert.Weights, o *BuildOptions) {
			w[bert.RoleEmbeddingsBeta][3] = float32(math.NaN())
		}, "element 3 is NaN"},
		"infinity": {func(c *bert.Config, w bert.Weights, o *BuildOptions) {
			w[bert.RoleWord][5] = float32(math.Inf(-1))
		}, "element 5 is -Inf"},
		"too large for half": {func(c *bert.Config, w bert.Weights, o *BuildOptions) {
			w[bert.RoleWord][7], o.Half = -65520, true
		}, "element 7 is -65520"},
		"epsilon": {func(c *bert.Config, w bert.Weights, o *BuildOptions) { c.Eps = 1e-60 }, "epsilon"},
		"token types": {func(c *bert.Config, w bert.Weights, o *BuildOptions) {
			c.TypeVocab = 38
			w[bert.RoleTokenType] = make([]float32, 38*12)
		}, "token types"},
	} {
		cfg, o := smallEncoder(), BuildOptions{}
		w := randomWeights(t, cfg, 8)
		c.change(&cfg, w, &o)
		dir := t.TempDir()
		_, err := Build(cfg, w, filepath.Join(dir, "model.onnx"), o)
		if fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "model.onnx: ") {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v behind", name, left)
		}
	}
	// What float16 still holds is no error.
	cfg := smallEncoder()
	w := randomWeights(t, cfg, 8)
	w[bert.RoleWord][7], w[bert.RoleEmbeddingsBeta][0] = 65519, 1e9
	buildFile(t, cfg, w, BuildOptions{Half: true})
}

// TestBuildAnything: whatever the configuration, what was built is read back.
func TestBuildAnything(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
		number := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
		c := bert.Config{Layers: number("layers", 1, 3), Heads: number("heads", 1, 4), Intermediate: number("intermediate", 2, 9),
			Vocab: number("vocab", 1, 9), Positions: number("positions", 1, 9), MaskValue: -math.MaxFloat32,
			Eps: rapid.SampledFrom([]float64{1e-12, 1e-5, 1e-7}).Draw(t, "eps"), HasMLM: flag("mlm"), HasNSP: flag("nsp"), HasQA: flag("qa"),
			Activation: backend.GeluErf, TokenClasses: number("token classes", 0, 4)}
		if flag("tanh") {
			c.Activation = backend.GeluTanh
		}
		c.Hidden = c.Heads * number("size", 1+1/c.Heads, 4)
		c.TypeVocab = number("types", 0, min(3, c.Vocab))
		c.PositionOffset = number("offset", 0, c.Positions-1)
		c.Classes = number("classes", 0, 4)
		c.HasPooler = c.HasNSP || c.Classes > 0 || flag("pooler")
		c.TiedDecoder = c.HasMLM && flag("tied")
		w := randomWeights(t, c, 9)
		path := filepath.Join(dir, "model.onnx")
		if _, err := Build(c, w, path, BuildOptions{}); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := Recognise(f)
		if err != nil {
			t.Fatal(err)
		}
		if m.Config != c {
			t.Fatalf("read\n%+v, built\n%+v", m.Config, c)
		}
		again, err := Load(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameWeights(w, again); err != nil {
			t.Fatal(err)
		}
	})
}
