package train

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/text"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The toy task: 12 tokens, of which 0 is [CLS] and 1 is [SEP]; the label says whether
// token 3 occurs.
const toyVocab = 12

func toyExamples(n int, seed uint64) *examples {
	r := rand.New(rand.NewPCG(seed, 99))
	e := &text.Encoded{Offsets: []int{0}}
	for i := range n {
		length, label := 1+r.IntN(6), int32(i%2)
		e.IDs = append(e.IDs, 0)
		at := r.IntN(length)
		for j := range length {
			id := int32(4 + r.IntN(toyVocab-4))
			if label == 1 && j == at {
				id = 3
			}
			e.IDs = append(e.IDs, id)
		}
		e.IDs = append(e.IDs, 1)
		e.Types = append(e.Types, make([]int32, length+2)...)
		e.Offsets = append(e.Offsets, len(e.IDs))
		e.Labels = append(e.Labels, label)
	}
	return &examples{Encoded: e, types: true}
}

// toyConfig is a short run of 6 updates an epoch.
func toyConfig() config.Config {
	c := config.Default()
	c.Model.Path, c.Data.Train, c.Data.Valid = "model.onnx", config.Paths{"train.tsv"}, config.Paths{"valid.tsv"}
	c.Task.MaxLength = 8
	c.Train.MicroBatch, c.Train.Epochs, c.Train.SaveEvery = 4, 2, 5
	c.Optimizer.LR = 3e-3
	return c
}

func toyMaterial(t testing.TB, cfg config.Config, train, valid int) *material {
	t.Helper()
	in := &material{
		model: tinyShape(toyVocab), weights: bert.Weights{}, labels: []string{"absent", "present"},
		train: toyExamples(train, 1), hashes: inputs{Train: "t", Valid: "v", Model: "m", Tokenizer: "k"},
		files: []file{{"vocab.txt", []byte("[PAD]\n")}},
	}
	if valid > 0 {
		in.valid = toyExamples(valid, 2)
	}
	if _, err := bert.InitMissing(in.model, in.weights, 5); err != nil {
		t.Fatal(err)
	}
	var err error
	if _, in.configText, err = resolvedText(cfg); err != nil {
		t.Fatal(err)
	}
	return in
}

type toy struct {
	cfg          config.Config
	train, valid int
	dtype        backend.DType
	out          string
}

func newToy(t testing.TB, set func(*config.Config)) *toy {
	k := &toy{cfg: toyConfig(), train: 24, valid: 10, dtype: backend.F32, out: filepath.Join(t.TempDir(), "run")}
	if set != nil {
		set(&k.cfg)
	}
	return k
}

// run trains in k.out; options may be changed by set.
func (k *toy) run(t testing.TB, ctx context.Context, set func(*RunOptions)) (*Summary, error) {
	t.Helper()
	if err := k.cfg.ValidateFinetune(); err != nil {
		t.Fatal(err)
	}
	dev := cpu.NewReference(k.dtype)
	defer dev.Close()
	opt := RunOptions{Out: k.out, Device: dev, Version: "test"}
	if set != nil {
		set(&opt)
	}
	return execute(ctx, k.cfg, opt, toyMaterial(t, k.cfg, k.train, k.valid))
}

func (k *toy) mustRun(t testing.TB) *Summary {
	t.Helper()
	s, err := k.run(t, context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// timings are the fields of metrics.jsonl that differ from run to run.
var timings = []string{"tokens_per_second", "score_seconds", "step_seconds", "train_seconds", "seconds", "evaluate_seconds", "run"}

func withoutTimings(t testing.TB, v map[string]any) {
	t.Helper()
	for _, key := range timings {
		delete(v, key)
	}
	for _, x := range v {
		if m, ok := x.(map[string]any); ok {
			withoutTimings(t, m)
		}
	}
}

// metricsOf reads metrics.jsonl without its timings. Numbers keep their text, so that
// equal means equal in every bit.
func metricsOf(t testing.TB, out string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, metricsName))
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		var v map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		withoutTimings(t, v)
		list = append(list, v)
	}
	return list
}

// sectionsOf reads the numbers of a checkpoint.
func sectionsOf(t testing.TB, path string) []byte {
	t.Helper()
	c, err := openCheckpoint(osDisk{}, path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var all bytes.Buffer
	for _, s := range c.Sections {
		b := make([]byte, s.Count*c.size)
		if _, err := c.r.ReadAt(b, s.Offset); err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.Bytes()
}

func weightsOf(t testing.TB, path string) bert.Weights {
	t.Helper()
	c, err := openCheckpoint(osDisk{}, path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := c.weights()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func wantKind(t testing.TB, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want kind %d %q", kind, parts)
	}
	if fault.KindOf(err) != kind || strings.Contains(err.Error(), "\n") {
		t.Fatalf("kind %d %q; want kind %d", fault.KindOf(err), err, kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Fatalf("%q does not say %q", err, p)
		}
	}
}
