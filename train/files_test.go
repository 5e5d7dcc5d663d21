package train

import (
	"bytes"
	"context"
	"encoding/json"
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
	"sift/config"
	"sift/fault"
	"sift/text"
)

const fixture = "encoder-op14-fold-dynamic.onnx" // 41 tokens, 24 positions, a pooler, no classifier

// writeFixture lays out a tokenizer, labelled files and a configuration around the
// fixture model. The label says whether "good" occurs.
func writeFixture(t testing.TB) (dir string, cfg config.Config) {
	t.Helper()
	dir = t.TempDir()
	words := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"}
	for len(words) < 41 {
		words = append(words, "w"+string(rune('a'+len(words)%26))+string(rune('a'+len(words)/26)))
	}
	write(t, filepath.Join(dir, "vocab.txt"), strings.Join(words, "\n")+"\n")
	r := rand.New(rand.NewPCG(3, 3))
	for _, f := range []struct {
		name string
		n    int
	}{{"train.tsv", 64}, {"valid.tsv", 30}} {
		var b strings.Builder
		b.WriteString("sentence\tlabel\n")
		for i := range f.n {
			n := 2 + r.IntN(5)
			line := make([]string, n)
			for j := range line {
				line[j] = words[6+r.IntN(35)]
			}
			label := "neg"
			if i%2 == 1 {
				line[r.IntN(n)], label = "good", "pos"
			}
			fmt.Fprintf(&b, "%s\t%s\n", strings.Join(line, " "), label)
		}
		write(t, filepath.Join(dir, f.name), b.String())
	}
	cfg = config.Default()
	cfg.Model.Path, cfg.Model.Tokenizer = filepath.Join(testdata, "onnx", fixture), filepath.Join(dir, "vocab.txt")
	cfg.Data.Train, cfg.Data.Valid = config.Paths{filepath.Join(dir, "train.tsv")}, config.Paths{filepath.Join(dir, "valid.tsv")}
	cfg.Task.TextColumn, cfg.Task.LabelColumn, cfg.Task.MaxLength = "sentence", "label", 16
	cfg.Train.MicroBatch, cfg.Train.Dropout, cfg.Train.AttentionDropout, cfg.Optimizer.LR = 8, 0, 0, 1e-2
	cfg.Train.Epochs = 8
	cfg.Sift.Score = "loss"
	return dir, cfg
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestFromFileToFile imports, trains, exports, and measures the run and the exported
// file, which must agree with what training said.
func TestFromFileToFile(t *testing.T) {
	dir, cfg := writeFixture(t)
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	out := filepath.Join(dir, "run")
	verified := 0
	s, err := Finetune(context.Background(), cfg, RunOptions{Out: out, Device: dev, Version: "test",
		Verify: func(_ context.Context, model string, c *Trained, certificate string) error {
			verified++
			if _, err := os.Stat(filepath.Join(out, modelDir, modelName)); !os.IsNotExist(err) {
				t.Error("the model had its name before it was verified")
			}
			write(t, certificate, "{}")
			_, err := os.Stat(model)
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	if verified != 1 || s.Best == nil || s.Best.Accuracy <= s.Best.MajorityShare {
		t.Fatalf("verified %d times; best %+v", verified, s.Best)
	}
	for _, name := range []string{certificate, "model/model.onnx", "model/config.json", "model/vocab.txt", "model/tokenizer.json",
		"model/tokenizer_config.json", "model/special_tokens_map.json"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	opt := ReadOptions{Device: dev, Task: cfg.Task, BatchSize: 7}
	for _, path := range []string{out, filepath.Join(out, modelDir, modelName)} {
		c, err := Open(path, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(c.Labels, []string{"neg", "pos"}) {
			t.Errorf("%s: labels %v", path, c.Labels)
		}
		e, err := c.Evaluate(context.Background(), cfg.Data.Valid[0], opt)
		if err != nil {
			t.Fatal(err)
		}
		got, want := *e, *s.Best
		got.Seconds, want.Seconds = 0, 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", path, got, want)
		}
		checkPredictions(t, c, cfg.Data.Valid[0], opt, want)
	}
}

func checkPredictions(t *testing.T, c *Trained, file string, opt ReadOptions, want Evaluation) {
	t.Helper()
	var out bytes.Buffer
	n, err := c.Predict(context.Background(), file, &out, opt)
	if err != nil || n != want.N {
		t.Fatalf("%d predictions, %v", n, err)
	}
	data, err := text.ReadTSV(file, text.Columns{Text: "sentence", Label: "label"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	correct := 0
	var texts []string
	var lines []Prediction
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var p Prediction
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, x := range p.Probabilities {
			sum += x
		}
		x := data.Examples[i]
		if p.Index != i || p.Line != x.Line || p.Text != x.A || math.Abs(sum-1) > 1e-12 || p.Probability != p.Probabilities[p.Label] {
			t.Fatalf("line %d: %s", i, line)
		}
		if p.Label == data.Labels.Names[x.Label] {
			correct++
		}
		texts, lines = append(texts, x.A), append(lines, p)
	}
	if got := float64(correct) / float64(n); got != want.Accuracy {
		t.Errorf("accuracy of the predictions %v, want %v", got, want.Accuracy)
	}
	memory, err := c.PredictTexts(context.Background(), texts, nil, opt)
	if err != nil || len(memory) != n || memory[3].Label != lines[3].Label || memory[3].Probability != lines[3].Probability {
		t.Errorf("predictions of texts: %v, %v", memory, err)
	}
}

// TestBadInputs: each is one line that says where and why, and leaves nothing behind.
func TestBadInputs(t *testing.T) {
	cases := []struct {
		name string
		kind fault.Kind
		say  string
		set  func(dir string, c *config.Config)
	}{
		{"no model", fault.Missing, "absent.onnx", func(_ string, c *config.Config) { c.Model.Path = "absent.onnx" }},
		{"no tokenizer", fault.Missing, "absent.txt", func(_ string, c *config.Config) { c.Model.Tokenizer = "absent.txt" }},
		{"no training file", fault.Missing, "absent.tsv", func(_ string, c *config.Config) { c.Data.Train = config.Paths{"absent.tsv"} }},
		{"no validation file", fault.Missing, "absent.tsv", func(_ string, c *config.Config) { c.Data.Valid = config.Paths{"absent.tsv"} }},
		{"unknown label", fault.Data, "valid.tsv", func(dir string, c *config.Config) {
			write(t, c.Data.Valid[0], "sentence\tlabel\nwaa\tmaybe\n")
		}},
		{"one label", fault.Data, "1 label; at least 2", func(dir string, c *config.Config) {
			write(t, c.Data.Train[0], "sentence\tlabel\ngood\tpos\ngood wba\tpos\n")
		}},
		{"missing column", fault.Data, "train.tsv", func(_ string, c *config.Config) { c.Task.TextColumn = "review" }},
		{"too long", fault.Config, "task.max_length: 25: the model has positions for 24", func(_ string, c *config.Config) { c.Task.MaxLength = 25 }},
		{"exit above the model", fault.Config, "sift.exit_layer", func(_ string, c *config.Config) { c.Sift.ExitLayer = 3 }},
		{"freeze above the model", fault.Config, "train.freeze: 3", func(_ string, c *config.Config) { c.Train.Freeze = "3" }},
		{"vocabulary too large", fault.Data, "42 tokens, but the model has embeddings for 41", func(dir string, c *config.Config) {
			data, err := os.ReadFile(c.Model.Tokenizer)
			if err != nil {
				t.Fatal(err)
			}
			write(t, c.Model.Tokenizer, string(data)+"extra\n")
		}},
		{"keep rounds to 0", fault.Config, "sift.keep: 0.001: selects 0 of the 64", func(_ string, c *config.Config) { c.Sift.Keep = 0.001 }},
		{"no replay", fault.Missing, "absent.jsonl", func(_ string, c *config.Config) { c.Sift.Replay = "absent.jsonl" }},
		{"illegal value", fault.Config, "train.micro_batch: 0", func(_ string, c *config.Config) { c.Train.MicroBatch = 0 }},
	}
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			dir, cfg := writeFixture(t)
			k.set(dir, &cfg)
			out := filepath.Join(dir, "run")
			_, err := Finetune(context.Background(), cfg, RunOptions{Out: out, Device: dev})
			wantKind(t, err, k.kind, k.say)
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Error("a directory was left behind")
			}
		})
	}
}

// TestChangedDataOnResume: the training file changes between two sittings.
func TestChangedDataOnResume(t *testing.T) {
	dir, cfg := writeFixture(t)
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	out := filepath.Join(dir, "run")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := Finetune(ctx, cfg, RunOptions{Out: out, Device: dev, Progress: func(e Event) {
		if u, ok := e.(*Updated); ok && u.Update == 2 {
			cancel()
		}
	}})
	wantKind(t, err, fault.Interrupted, "interrupted at update 2")
	data, err := os.ReadFile(cfg.Data.Train[0])
	if err != nil {
		t.Fatal(err)
	}
	write(t, cfg.Data.Train[0], string(data)+"good\tpos\n")
	again, err := RunConfig(out)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Finetune(context.Background(), again, RunOptions{Out: out, Resume: true, Device: dev})
	wantKind(t, err, fault.Data, cfg.Data.Train[0], "data.train", "SHA-256")

	// The same bytes under another name are the same data.
	moved := filepath.Join(dir, "moved.tsv")
	write(t, moved, string(data))
	again.Data.Train = config.Paths{moved}
	if _, err = Finetune(context.Background(), again, RunOptions{Out: out, Resume: true, Device: dev}); err != nil {
		t.Fatal(err)
	}
	if got, err := RunConfig(out); err != nil || got.Data.Train.String() != moved {
		t.Errorf("config.yaml names %s, %v", got.Data.Train, err)
	}
}

// TestOlderRun: a run from before device.cublas goes on with the program's own products, as it began.
func TestOlderRun(t *testing.T) {
	dir, cfg := writeFixture(t)
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	out := filepath.Join(dir, "run")
	if _, err := Finetune(context.Background(), cfg, RunOptions{Out: out, Device: dev}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(out, configName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	older := strings.Replace(string(data), "    cublas: \"off\"\n", "", 1)
	if older == string(data) {
		t.Fatalf("no device.cublas in %s", data)
	}
	write(t, path, older)
	again, err := RunConfig(out)
	if err != nil || !reflect.DeepEqual(again.Device, cfg.Device) {
		t.Fatalf("%+v, want %+v; %v", again.Device, cfg.Device, err)
	}
	if _, err := Finetune(context.Background(), again, RunOptions{Out: out, Resume: true, Device: dev}); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open("absent", OpenOptions{})
	wantKind(t, err, fault.Missing, "absent")
	_, err = Open(t.TempDir(), OpenOptions{})
	wantKind(t, err, fault.Missing, "not a run directory")
	_, err = Open(filepath.Join(testdata, "onnx", fixture), OpenOptions{})
	wantKind(t, err, fault.Data, "no classifier")
	k := newToy(t, nil)
	k.mustRun(t)
	if err := os.WriteFile(filepath.Join(k.out, configName), []byte("train: {speed: 1}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Open(k.out, OpenOptions{})
	wantKind(t, err, fault.Data, configName, "speed")
}

// TestTokenizerFiles: the tokenizer that a run writes reads every text as the one it was
// given.
func TestTokenizerFiles(t *testing.T) {
	given, err := text.Load(filepath.Join(testdata, "vocab", "vocab.txt"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := tokenizerFiles(given, 512)
	if err != nil {
		t.Fatal(err)
	}
	var made []*text.Tokenizer
	for _, name := range []string{"vocab.txt", "tokenizer.json"} {
		dir := t.TempDir()
		for _, f := range files {
			if f.name == name || f.name == "tokenizer_config.json" {
				write(t, filepath.Join(dir, f.name), string(f.data))
			}
		}
		tok, err := text.Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, tok)
	}
	data, err := text.ReadTSV(filepath.Join(testdata, "labelled", "rt-polarity", "valid.tsv"), text.Columns{Text: "sentence"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	nasty := text.Example{A: "Ünïcödé [MASK] 北京 e\u0301\u0000 don't##stop [SEP]x", B: "<b>&amp;</b>"}
	for _, x := range append(data.Examples[:200], nasty) {
		want := given.EncodePair(x.A, x.B, 64)
		for i, tok := range made {
			if got := tok.EncodePair(x.A, x.B, 64); !reflect.DeepEqual(got, want) {
				t.Fatalf("tokenizer %d reads %q as %v, want %v", i, x.A, got, want)
			}
		}
	}
}
