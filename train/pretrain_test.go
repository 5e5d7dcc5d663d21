package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/onnx"
	"sift/text"
)

// countingText writes a vocabulary and documents in which words follow each other as
// numbers do, so that a masked word can be told from its neighbours.
func countingText(t testing.TB) (dir string, cfg config.Config) {
	t.Helper()
	dir = t.TempDir()
	const words = 20
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."}
	for i := range words {
		vocab = append(vocab, fmt.Sprintf("w%c", 'a'+i))
	}
	write(t, filepath.Join(dir, "vocab.txt"), strings.Join(vocab, "\n")+"\n")
	corpus := filepath.Join(dir, "corpus")
	if err := os.Mkdir(corpus, 0o777); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for d := range 12 {
		var b strings.Builder
		for range 8 {
			at := r.IntN(words)
			for i := range 6 + r.IntN(6) {
				if i > 0 {
					b.WriteByte(' ')
				}
				b.WriteString(vocab[6+(at+i)%words])
			}
			b.WriteString(".\n")
		}
		write(t, filepath.Join(corpus, fmt.Sprintf("%02d.txt", d)), b.String())
	}
	cfg = config.DefaultPretrain()
	cfg.Model.Tokenizer = filepath.Join(dir, "vocab.txt")
	cfg.Model.Layers, cfg.Model.Hidden, cfg.Model.Heads, cfg.Model.Positions = 2, 16, 2, 32
	cfg.Task.MaxLength = 24
	cfg.Data.Train, cfg.Data.ValidShare = config.Paths{corpus}, 0.2
	cfg.Train.Updates, cfg.Train.Epochs, cfg.Train.MicroBatch, cfg.Train.SaveEvery, cfg.Train.EvaluateEvery = 20, 0, 4, 7, 6
	cfg.Optimizer.LR = 3e-3
	return dir, cfg
}

func pretrain(t testing.TB, ctx context.Context, cfg config.Config, out string, resume bool, progress func(Event)) (*Summary, error) {
	t.Helper()
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	return Pretrain(ctx, cfg, RunOptions{Out: out, Resume: resume, Device: dev, Version: "test", Progress: progress})
}

func mustPretrain(t testing.TB, cfg config.Config, out string) *Summary {
	t.Helper()
	s, err := pretrain(t, context.Background(), cfg, out, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPretrainLearns trains until masked words are told from their neighbours.
func TestPretrainLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for some seconds")
	}
	dir, cfg := countingText(t)
	cfg.Train.Updates, cfg.Train.MicroBatch, cfg.Train.EvaluateEvery, cfg.Train.SaveEvery = 700, 16, 0, 0
	cfg.Train.Dropout, cfg.Train.AttentionDropout, cfg.Optimizer.LR = 0, 0, 5e-3
	cfg.Model.Hidden, cfg.Data.NextSentence = 32, false
	out := filepath.Join(dir, "run")
	dev, err := cpu.Open(cpu.Options{ISA: "auto"})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, err := Pretrain(context.Background(), cfg, RunOptions{Out: out, Device: dev, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	// A word at random is right one time in twenty.
	if s.Best == nil || s.Best.MaskedEvaluation == nil || s.Best.Accuracy < 0.6 {
		t.Fatalf("held-out accuracy %+v", s.Best)
	}
}

// TestPretrainResume stops runs at random updates and compares everything with a run that
// never stopped.
func TestPretrainResume(t *testing.T) {
	for name, set := range map[string]func(*config.Config){
		"no selection":          func(*config.Config) {},
		"loss at 1":             func(c *config.Config) { c.Sift.Score, c.Sift.Log = "loss", true },
		"entropy at 0, naive":   func(c *config.Config) { c.Sift.Score, c.Sift.ExitLayer, c.Sift.Reuse = "entropy", 0, false },
		"random, accumulated":   func(c *config.Config) { c.Sift.Score, c.Train.Accumulate = "random", 2 },
		"without next sentence": func(c *config.Config) { c.Data.NextSentence = false },
	} {
		t.Run(name, func(t *testing.T) {
			dir, cfg := countingText(t)
			set(&cfg)
			whole := filepath.Join(dir, "whole")
			s := mustPretrain(t, cfg, whole)
			if s.Updates != 20 || s.Best == nil || s.Best.NSPCount > 0 != cfg.Data.NextSentence {
				t.Fatalf("%+v", s)
			}
			want := finish(t, whole, s.Updates)
			r := rand.New(rand.NewPCG(3, uint64(len(name))))
			out, stops := filepath.Join(dir, "run"), 0
			for resume := false; ; resume = true {
				ctx, cancel := context.WithCancel(context.Background())
				after := 1 + r.IntN(8)
				_, err := pretrain(t, ctx, cfg, out, resume, func(e Event) {
					if _, ok := e.(*Updated); ok {
						if after--; after == 0 {
							cancel()
						}
					}
				})
				cancel()
				if err == nil {
					break
				}
				wantKind(t, err, fault.Interrupted, "interrupted at update", "--resume")
				stops++
			}
			if stops < 2 {
				t.Fatalf("stopped %d times", stops)
			}
			want.same(t, name, finish(t, out, s.Updates))
		})
	}
}

// TestPretrainMetrics checks the lines of metrics.jsonl against each other.
func TestPretrainMetrics(t *testing.T) {
	dir, cfg := countingText(t)
	cfg.Sift.Score, cfg.Sift.Start = "loss", 5
	out := filepath.Join(dir, "run")
	s := mustPretrain(t, cfg, out)
	updates, evaluations := 0, 0
	flops := 0.0
	for _, m := range metricsOf(t, out) {
		number := func(key string) float64 {
			var x float64
			if _, err := fmt.Sscan(fmt.Sprint(m[key]), &x); err != nil {
				t.Fatalf("%s: %v in %v", key, err, m)
			}
			return x
		}
		switch m["kind"] {
		case "update":
			updates++
			if d := number("kept_loss") - number("mlm_loss") - number("nsp_loss"); d > 1e-9 || d < -1e-9 {
				t.Errorf("update %d: the loss is not the sum of its parts: %v", updates, m)
			}
			selecting := updates > 5
			if m["selecting"] != selecting || (number("kept_share") < 0.9) != selecting || (number("score_flops") > 0) != selecting {
				t.Errorf("update %d: %v", updates, m)
			}
			flops += number("flops")
		case "evaluation":
			evaluations++
			if number("n") == 0 || number("nsp_pairs") != number("sequences") || m["confusion"] != nil || m["f1"] != nil {
				t.Errorf("%v", m)
			}
		}
	}
	if updates != 20 || evaluations != 4 || s.FLOPs != flops || s.ScoreFLOPs == 0 {
		t.Errorf("%d updates, %d evaluations, %g operations, summary %+v", updates, evaluations, flops, s)
	}
}

// TestPretrainSeedsShareTheirValidation: whatever the seed, the same documents with the
// same masks.
func TestPretrainSeedsShareTheirValidation(t *testing.T) {
	dir, cfg := countingText(t)
	var texts []*running
	for seed := range uint64(2) {
		cfg.Train.Seed = seed + 5
		in, err := readText(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer in.text.close()
		texts = append(texts, in.text)
	}
	a, b := texts[0], texts[1]
	if a.valid.Len() == 0 || a.valid.Len() != b.valid.Len() || a.heldDocuments+a.documents != 12 {
		t.Fatalf("%s: %d and %d held out", dir, a.valid.Len(), b.valid.Len())
	}
	var x, y, again text.PretrainingExample
	differ := false
	for i := range a.valid.Len() {
		a.valid.Fill(&x, 0, i)
		b.valid.Fill(&y, 0, i)
		a.valid.Fill(&again, 7, i)
		if !reflect.DeepEqual(x.IDs, y.IDs) || !reflect.DeepEqual(x.MLMLabels, y.MLMLabels) || !reflect.DeepEqual(x.IDs, again.IDs) {
			t.Fatalf("held-out example %d differs", i)
		}
		a.train.Fill(&x, 0, i)
		b.train.Fill(&y, 0, i)
		differ = differ || !reflect.DeepEqual(x.IDs, y.IDs)
	}
	if !differ {
		t.Error("the seed does not change the training examples")
	}
}

// TestPretrainPrepared: from prepared data come the same bits as from the text.
func TestPretrainPrepared(t *testing.T) {
	dir, cfg := countingText(t)
	cfg.Sift.Score = "entropy"
	s := mustPretrain(t, cfg, filepath.Join(dir, "text"))
	tok, err := text.Load(cfg.Model.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	prepared := filepath.Join(dir, "prepared")
	if _, err := tok.Prepare(context.Background(), prepared, text.PrepareOptions{Paths: cfg.Data.Train, Threads: 2, ShardBytes: 1 << 10}); err != nil {
		t.Fatal(err)
	}
	both := cfg
	both.Data.Train = config.Paths{cfg.Data.Train[0], prepared}
	_, err = pretrain(t, context.Background(), both, filepath.Join(dir, "both"), false, nil)
	wantKind(t, err, fault.Config, prepared, "stands alone")
	cfg.Data.Train = config.Paths{prepared}
	mustPretrain(t, cfg, filepath.Join(dir, "run"))
	finish(t, filepath.Join(dir, "text"), s.Updates).same(t, "prepared", finish(t, filepath.Join(dir, "run"), s.Updates))
}

// TestPretrainExports takes models from scratch and imported ones to a file and back.
func TestPretrainExports(t *testing.T) {
	for name, k := range map[string]struct {
		path  string
		whole bool // the export is built whole
		set   func(*config.Config)
	}{
		"from scratch": {"", true, func(*config.Config) {}},
		"from scratch, untied": {"", true, func(c *config.Config) {
			c.Model.Tied, c.Model.Activation, c.Data.NextSentence = false, "gelu_tanh", false
		}},
		"with the heads":           {"pretraining-op14-fold-dynamic-fresh.onnx", false, func(*config.Config) {}},
		"masked LM alone":          {"masked_lm-op14-fold-dynamic-minus10000.onnx", false, func(c *config.Config) { c.Data.NextSentence = false }},
		"masked LM, and sentences": {"masked_lm-op14-fold-dynamic-minus10000.onnx", true, func(*config.Config) {}},
		"encoder":                  {"encoder-op14-fold-dynamic.onnx", true, func(*config.Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, cfg := countingText(t)
			k.set(&cfg)
			var before bert.Config
			if k.path != "" {
				cfg.Model.Path = filepath.Join(testdata, "onnx", k.path)
				g, err := importGraph(cfg.Model.Path)
				if err != nil {
					t.Fatal(err)
				}
				before = g.config
				g.Close()
				cfg.Task.MaxLength = min(cfg.Task.MaxLength, before.MaxTokens())
			}
			out := filepath.Join(dir, "run")
			s := mustPretrain(t, cfg, out)
			c, err := OpenRun(out)
			if err != nil {
				t.Fatal(err)
			}
			f, err := onnx.Open(filepath.Join(out, s.Model))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m, err := onnx.Recognise(f)
			if err != nil {
				t.Fatal(err)
			}
			if built := strings.HasPrefix(f.Producer, "sift"); built != k.whole {
				t.Errorf("producer %q; built whole: %v, want %v", f.Producer, built, k.whole)
			}
			m.Config.MaskValue = 0
			if want := c.Config; m.Config != want || !want.HasMLM || want.HasNSP != (cfg.Data.NextSentence || before.HasNSP) {
				t.Errorf("exported %+v, trained %+v", m.Config, want)
			}
			w, err := onnx.Load(m)
			if err != nil {
				t.Fatal(err)
			}
			for role, v := range c.Weights {
				if !reflect.DeepEqual(w[role], v) {
					t.Errorf("%s: the exported weights are not the trained ones", role)
				}
			}
			again := filepath.Join(dir, "again.onnx")
			if _, err := c.Export(again, onnx.BuildOptions{Version: "test"}); err != nil {
				t.Fatal(err)
			}
			a, b := mustRead(t, again), mustRead(t, filepath.Join(out, s.Model))
			if string(a) != string(b) {
				t.Error("exported again, the file has other bytes")
			}
			_, err = c.Evaluate(context.Background(), "x.tsv", ReadOptions{})
			wantKind(t, err, fault.Data, out, "masked LM")
		})
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestFinetuneMLM: fine-tuning by name mlm is pre-training from a model.
func TestFinetuneMLM(t *testing.T) {
	dir, cfg := countingText(t)
	cfg.Model.Path = filepath.Join(testdata, "onnx", "masked_lm-op14-fold-dynamic-minus10000.onnx")
	cfg.Data.NextSentence = false
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if _, err := Finetune(context.Background(), cfg, RunOptions{Out: a, Device: dev, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	mustPretrain(t, cfg, b)
	finish(t, a, 20).same(t, "both names", finish(t, b, 20))
}

func TestPretrainBadInput(t *testing.T) {
	for name, k := range map[string]struct {
		kind  fault.Kind
		parts string
		set   func(dir string, c *config.Config)
	}{
		"no text":       {fault.Missing, "absent", func(_ string, c *config.Config) { c.Data.Train = config.Paths{"absent"} }},
		"nothing given": {fault.Config, "data.train: not set", func(_ string, c *config.Config) { c.Data.Train = nil }},
		"empty file": {fault.Data, "holds no text", func(dir string, c *config.Config) {
			write(t, dir+"/e.txt", "\n")
			c.Data.Train = config.Paths{dir + "/e.txt"}
		}},
		"no tokenizer":          {fault.Config, "model.tokenizer: not set", func(_ string, c *config.Config) { c.Model.Tokenizer = "" }},
		"no [MASK]":             {fault.Data, "MASK", func(dir string, c *config.Config) { write(t, dir+"/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nwa\n") }},
		"one document":          {fault.Data, "1 document", func(dir string, c *config.Config) { c.Data.Train = config.Paths{c.Data.Train[0] + "/00.txt"} }},
		"classification":        {fault.Config, "task.name", func(_ string, c *config.Config) { c.Task.Name = "classification" }},
		"tsv":                   {fault.Config, "data.format", func(_ string, c *config.Config) { c.Data.Format = "tsv" }},
		"longer than the model": {fault.Config, "task.max_length", func(_ string, c *config.Config) { c.Task.MaxLength = 33 }},
		"small vocabulary":      {fault.Data, "vocab.txt", func(_ string, c *config.Config) { c.Model.Vocab = 10 }},
		"exit too deep":         {fault.Config, "sift.exit_layer", func(_ string, c *config.Config) { c.Sift.Score, c.Sift.ExitLayer = "loss", 3 }},
		"no masks":              {fault.Config, "data.mask_probability", func(_ string, c *config.Config) { c.Data.MaskProbability = 0 }},
		"replacement":           {fault.Config, "data.mask_replace", func(_ string, c *config.Config) { c.Data.MaskReplace = []float64{0.8, 0.1} }},
		"held out of itself": {fault.Config, "has the same text as", func(dir string, c *config.Config) {
			text, _ := os.ReadFile(c.Data.Train[0] + "/00.txt")
			write(t, dir+"/copy.txt", string(text))
			c.Data.Valid = config.Paths{dir + "/copy.txt"}
		}},
		"binary": {fault.Data, "does not look like text", func(dir string, c *config.Config) {
			write(t, dir+"/b.txt", strings.Repeat("\x00\x01wa wb", 20))
			c.Data.Train = config.Paths{dir + "/b.txt"}
		}},
		"vectors of one":       {fault.Config, "model.intermediate", func(_ string, c *config.Config) { c.Model.Intermediate = 1 }},
		"too many layers":      {fault.Config, "layers: 1000000", func(_ string, c *config.Config) { c.Model.Layers = 1000000 }},
		"same text twice":      {fault.Config, "data.valid", func(_ string, c *config.Config) { c.Data.Valid = c.Data.Train }},
		"early, no validation": {fault.Config, "train.early_stopping", func(_ string, c *config.Config) { c.Train.EarlyStopping, c.Data.ValidShare = 2, 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			dir, cfg := countingText(t)
			k.set(dir, &cfg)
			out := filepath.Join(dir, "run")
			_, err := pretrain(t, context.Background(), cfg, out, false, nil)
			wantKind(t, err, k.kind, k.parts)
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Error("something was left behind")
			}
		})
	}
}

// TestEvaluateText: the run and its exported file say what validation said.
func TestEvaluateText(t *testing.T) {
	dir, cfg := countingText(t)
	held := filepath.Join(dir, "held.txt")
	write(t, held, string(mustRead(t, filepath.Join(cfg.Data.Train[0], "03.txt")))+"\n"+string(mustRead(t, filepath.Join(cfg.Data.Train[0], "07.txt"))))
	cfg.Data.Valid = config.Paths{held}
	out := filepath.Join(dir, "run")
	s := mustPretrain(t, cfg, out)
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	for _, path := range []string{out, filepath.Join(out, s.Model)} {
		c, err := Open(path, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		task := c.Task
		task.MaxLength = cfg.Task.MaxLength
		e, err := c.EvaluateText(context.Background(), cfg.Data.Valid, ReadOptions{Device: dev, Task: task, BatchSize: 5})
		if err != nil {
			t.Fatal(err)
		}
		want := s.Best
		if e.N != want.N || e.Accuracy != want.Accuracy || math.Abs(e.MLMLoss-want.MLMLoss) > 1e-6 ||
			e.NSPCount != want.NSPCount || e.NSPAccuracy != want.NSPAccuracy || math.Abs(e.NSPLoss-want.NSPLoss) > 1e-6 {
			t.Errorf("%s: %+v %+v, validation said %+v %+v", path, e, e.MaskedEvaluation, want, want.MaskedEvaluation)
		}
		_, err = c.EvaluateText(context.Background(), config.Paths{"absent"}, ReadOptions{Device: dev, Task: task})
		wantKind(t, err, fault.Missing, "absent")
	}
}
