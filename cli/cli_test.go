package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"sift/safetensors"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

const fixtures = "../testdata/onnx/"

// run runs one command line.
func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(args, &out, &errs)
	return code, out.String(), errs.String()
}

// object runs a command that must succeed with one JSON object on stdout.
func object(t *testing.T, into any, args ...string) {
	t.Helper()
	code, stdout, stderr := run(append(args, "--json")...)
	if code != 0 {
		t.Fatalf("sift %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		t.Fatalf("sift %s: stdout is not one JSON object: %v\n%s", strings.Join(args, " "), err, stdout)
	}
}

type fixture struct {
	File         string   `json:"file"`
	Layers       int      `json:"layers"`
	Hidden       int      `json:"hidden"`
	Heads        int      `json:"heads"`
	Intermediate int      `json:"intermediate"`
	Vocab        int      `json:"vocab"`
	Positions    int      `json:"positions"`
	TypeVocab    int      `json:"type_vocab"`
	Activation   string   `json:"activation"`
	HeadsFound   []string `json:"heads_found"`
	Tied         bool     `json:"tied_decoder"`
	Parameters   int      `json:"parameters"`
}

func manifest(t *testing.T) (models []fixture) {
	t.Helper()
	data, err := os.ReadFile(fixtures + "manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Models []fixture }
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Models) < 20 {
		t.Fatalf("only %d fixtures", len(m.Models))
	}
	return m.Models
}

func TestInspectEveryFixture(t *testing.T) {
	for _, want := range manifest(t) {
		t.Run(want.File, func(t *testing.T) {
			var got description
			object(t, &got, "inspect", fixtures+want.File)
			activation := map[string]string{"gelu_erf": "gelu", "gelu_tanh": "gelu_tanh"}[want.Activation]
			if got.Layers != want.Layers || got.Hidden != want.Hidden || got.Heads != want.Heads || got.Intermediate != want.Intermediate ||
				got.Vocab != want.Vocab || got.Positions != want.Positions || got.TypeVocab != want.TypeVocab || got.Activation != activation ||
				got.TiedDecoder != want.Tied || got.Parameters != want.Parameters {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			heads := map[string]bool{}
			for _, h := range got.HeadsFound {
				heads[h] = true
			}
			for _, h := range want.HeadsFound {
				if !heads[h] {
					t.Errorf("heads %v, want %v", got.HeadsFound, want.HeadsFound)
				}
			}
			if len(heads) != len(want.HeadsFound) {
				t.Errorf("heads %v, want %v", got.HeadsFound, want.HeadsFound)
			}
			if len(got.Coverage) == 0 || len(got.Unrecognised) != 0 || len(got.Unused) != 0 {
				t.Errorf("coverage of %d roles, not recognised %v, not used %v", len(got.Coverage), got.Unrecognised, got.Unused)
			}
			if code, stdout, _ := run("inspect", fixtures+want.File, "--all"); code != 0 || !strings.Contains(stdout, "every node of the graph was recognised") {
				t.Errorf("exit %d: %s", code, stdout)
			}
		})
	}
}

// words are the toy vocabulary: a sentence is positive if it holds "good".
var words = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "a", "film", "the", "plot", "is", "long", "actor", "scene", "word", "music"}

// toyTask writes a vocabulary for a model of vocab tokens, and labelled files.
func toyTask(t *testing.T, vocab int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var b strings.Builder
	for i := range vocab {
		if i < len(words) {
			b.WriteString(words[i] + "\n")
		} else {
			fmt.Fprintf(&b, "unused%d\n", i)
		}
	}
	write(t, filepath.Join(dir, "vocab.txt"), b.String())
	for name, n := range map[string]int{"train.tsv": 96, "valid.tsv": 32} {
		b.Reset()
		b.WriteString("text\tlabel\n")
		for i := range n {
			sentence := []string{words[6+i%10], words[6+(i/3)%10], words[6+(i/7)%10]}
			label := "bad"
			if i%2 == 0 {
				sentence[i%3], label = "good", "fine"
			}
			fmt.Fprintf(&b, "%s\t%s\n", strings.Join(sentence, " "), label)
		}
		write(t, filepath.Join(dir, name), b.String())
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// From a file without a head to a verified file with one, and everything a user does with it.
func TestFinetuneEvaluatePredictExportVerify(t *testing.T) {
	model := fixtures + "encoder-op14-fold-dynamic.onnx"
	var d description
	object(t, &d, "inspect", model)
	dir := toyTask(t, d.Vocab)
	in := func(name string) string { return filepath.Join(dir, name) }
	task := []string{"--model", model, "--tokenizer", in("vocab.txt"), "--train", in("train.tsv"), "--valid", in("valid.tsv"),
		"--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12",
		"--train.micro_batch", "8", "--optimizer.lr", "1e-2", "--train.dropout", "0", "--train.attention_dropout", "0", "--quiet"}

	var summary struct {
		Updates int
		Drawn   int `json:"samples_drawn"`
		Kept    int `json:"samples_backpropagated"`
		Best    struct{ Accuracy float64 }
		Model   string
	}
	object(t, &summary, append([]string{"finetune", "--out", in("run"), "--sift.score", "loss", "--sift.start", "240", "--train.epochs", "30"}, task...)...)
	if summary.Drawn != 30*96 || summary.Kept != 240*8+60*8 || summary.Best.Accuracy < 0.9 {
		t.Errorf("summary %+v: want 2880 samples drawn, 2400 kept, accuracy above 0.9", summary)
	}

	var e struct {
		N        int
		Accuracy float64
	}
	object(t, &e, "eval", in("run"), in("valid.tsv"))
	if e.N != 32 || e.Accuracy != summary.Best.Accuracy {
		t.Errorf("eval %+v, the run said %g", e, summary.Best.Accuracy)
	}

	var exported struct {
		Verdict    string
		NewOutputs []string `json:"new_outputs"`
	}
	object(t, &exported, "export", in("run"), "--out", in("m.onnx"))
	if exported.Verdict != "agree" || len(exported.NewOutputs) == 0 {
		t.Errorf("export said %+v", exported)
	}
	if code, _, stderr := run("export", in("run"), "--out", in("m.onnx")); code != 73 || !strings.Contains(stderr, "--force") {
		t.Errorf("a second export: exit %d, %s", code, stderr)
	}
	object(t, &e, "eval", in("m.onnx"), in("valid.tsv"), "--tokenizer", in("vocab.txt"), "--labels", "bad,fine", "--text", "text", "--label", "label")
	if e.Accuracy != summary.Best.Accuracy {
		t.Errorf("the exported file has accuracy %g, the run %g", e.Accuracy, summary.Best.Accuracy)
	}
	var predicted struct {
		Predictions []struct {
			Label       string
			Probability float64
		}
	}
	object(t, &predicted, "predict", in("m.onnx"), "--tokenizer", in("vocab.txt"), "--labels", "bad,fine", "--say", "the good film", "--say", "the long plot")
	if len(predicted.Predictions) != 2 || predicted.Predictions[0].Label != "fine" || predicted.Predictions[1].Label != "bad" {
		t.Errorf("predicted %+v", predicted)
	}
	code, stdout, _ := run("predict", in("run"), in("valid.tsv"), "--quiet")
	if lines := strings.Count(stdout, "\n"); code != 0 || lines != 32 {
		t.Errorf("predict: exit %d, %d lines", code, lines)
	}

	var cert struct{ Verdict string }
	object(t, &cert, "verify", in("m.onnx"), "--run", in("run"))
	if cert.Verdict != "agree" {
		t.Errorf("verify said %+v", cert)
	}
	if _, err := os.Stat(in("certificate.json")); err != nil {
		t.Error(err)
	}
	// The imported file gives the same kind of outputs from other weights: the answer is no.
	if code, _, stderr := run("verify", in("m.onnx"), model, "--certificate", in("c.json")); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("verify against the imported file: exit %d, %s", code, stderr)
	}
	if code, _, stderr := run("export", in("run"), "--force", "--out", filepath.Join(in("run"), "config.yaml")); code != 64 {
		t.Errorf("export over the run's own file: exit %d, %s", code, stderr)
	}
	if code, _, stderr := run("finetune", "--resume", "--out", in("run"), "--train.seed", "9"); code != 78 || !strings.Contains(stderr, "train.seed") {
		t.Errorf("resume with another seed: exit %d, %s", code, stderr)
	}
	if code, _, stderr := run(append([]string{"finetune", "--out", in("run")}, task...)...); code != 73 {
		t.Errorf("a run on a run: exit %d, %s", code, stderr)
	}
}

func TestDebugGradsAgainstPyTorch(t *testing.T) {
	golden := "../testdata/golden/grads-pretraining"
	out := filepath.Join(t.TempDir(), "g.safetensors")
	var want, got struct {
		Loss    float64 `json:"loss"`
		MLMLoss float64 `json:"mlm_loss"`
		NSPLoss float64 `json:"nsp_loss"`
		Model   string  `json:"model"`
	}
	data, err := os.ReadFile(golden + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	object(t, &got, "debug", "grads", "--model", fixtures+want.Model, "--batch", golden+".batch.json", "--out", out)
	for _, p := range [][2]float64{{got.Loss, want.Loss}, {got.MLMLoss, want.MLMLoss}, {got.NSPLoss, want.NSPLoss}} {
		if math.Abs(p[0]-p[1]) > 1e-5*p[1] {
			t.Errorf("losses %+v, PyTorch has %+v", got, want)
		}
	}
	g, err := safetensors.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := safetensors.Read(golden + ".safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var d description
	object(t, &d, "inspect", fixtures+want.Model)
	compared := 0
	for _, c := range d.Coverage {
		r, ok := reference.Tensors[c.Role]
		if !ok || c.Copy {
			continue
		}
		x, ok := g.Tensors[c.Initializer]
		if !ok || g.Metadata[c.Initializer] != c.Role {
			t.Errorf("%s: no gradient under %q, whose metadata is %q", c.Role, c.Initializer, g.Metadata[c.Initializer])
			continue
		}
		compared++
		rows, cols := c.Shape[0], 1
		if len(c.Shape) == 2 {
			cols = c.Shape[1]
		}
		var difference, norm float64
		for i := range rows {
			for j := range cols {
				at := i*cols + j
				if c.Transposed {
					at = j*rows + i
				}
				w := at0(r, i*cols+j)
				difference += math.Pow(float64(x.F32[at])-w, 2)
				norm += w * w
			}
		}
		if math.Sqrt(difference) > 1e-4*math.Sqrt(norm)+1e-5 {
			t.Errorf("%s: off by %g of %g", c.Role, math.Sqrt(difference), math.Sqrt(norm))
		}
	}
	if compared < 30 {
		t.Errorf("only %d gradients compared", compared)
	}
}

func at0(t safetensors.Tensor, i int) float64 {
	if t.F64 != nil {
		return t.F64[i]
	}
	return float64(t.F32[i])
}

func TestDebugScoresKeepsWhomPyTorchKeeps(t *testing.T) {
	golden := "../testdata/golden/sift-pretraining"
	data, err := os.ReadFile(golden + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Model string
		Exits []struct {
			Layer   int
			Loss    []*float64
			Entropy []*float64
			Kept    []struct {
				Keep      float64
				ByLoss    []int `json:"by_loss"`
				ByEntropy []int `json:"by_entropy"`
			}
		}
	}
	if err := json.Unmarshal(data, &want); err != nil || len(want.Exits) < 3 {
		t.Fatalf("%v, %d exits", err, len(want.Exits))
	}
	for _, e := range want.Exits {
		for _, k := range e.Kept {
			for score, kept := range map[string][]int{"loss": k.ByLoss, "entropy": k.ByEntropy} {
				var got struct {
					Kept      []int
					Sequences []struct{ Loss, Entropy float64 }
				}
				object(t, &got, "debug", "scores", "--model", fixtures+want.Model, "--batch", golden+".batch.json",
					"--layer", fmt.Sprint(e.Layer), "--keep", fmt.Sprint(k.Keep), "--score", score)
				if fmt.Sprint(got.Kept) != fmt.Sprint(kept) {
					t.Errorf("layer %d, keep %g by %s: kept %v, PyTorch %v", e.Layer, k.Keep, score, got.Kept, kept)
				}
				for s, x := range got.Sequences {
					if e.Loss[s] != nil && math.Abs(x.Loss-*e.Loss[s]) > 1e-5*math.Abs(*e.Loss[s])+1e-6 {
						t.Errorf("layer %d, sequence %d: loss %g, PyTorch %g", e.Layer, s, x.Loss, *e.Loss[s])
					}
				}
			}
		}
	}
}

func TestBenchJSON(t *testing.T) {
	var gemm struct {
		Peak    float64 `json:"peak_gflops"`
		Results []struct {
			Name    string
			M, N, K int
			DType   string
			Seconds float64 `json:"median_seconds"`
			GFLOPS  float64
			Share   float64 `json:"share_of_peak"`
		}
	}
	object(t, &gemm, "bench", "gemm", "--size", "33x17x65", "--runs", "1")
	if len(gemm.Results) != 4 || gemm.Results[0].M != 33 || !(gemm.Results[0].GFLOPS > 0) || gemm.Results[0].DType != "float32" {
		t.Errorf("bench gemm: %+v", gemm)
	}
	var step struct {
		Tokens float64 `json:"tokens_per_second"`
		Step   float64 `json:"step_seconds"`
		Memory int64   `json:"peak_memory_bytes"`
		Drawn  int
		Kept   int
	}
	object(t, &step, "bench", "step", "--layers", "2", "--hidden", "32", "--heads", "2", "--vocab", "100", "--batch", "4", "--length", "16",
		"--score", "loss", "--runs", "1")
	if !(step.Tokens > 0) || !(step.Step > 0) || step.Memory == 0 || step.Drawn != 8 || step.Kept != 4 {
		t.Errorf("bench step: %+v", step)
	}
}

// Every line: the exit code, and one line on stderr that holds the text.
func TestBadCommandLines(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "short.onnx"), "\x08\x07\x12")
	write(t, filepath.Join(dir, "batch.json"), `{"input_ids": [[1, 99999]], "labels": [0]}`)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	model := fixtures + "encoder-op14-fold-dynamic.onnx"
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"frobnicate", 64, "unknown command"},
		{"inspect", 64, "needs one ONNX file"},
		{"inspect --frob x", 64, "unknown flag"},
		{"inspect DIR/absent.onnx", 66, "absent.onnx"},
		{"inspect DIR/short.onnx", 65, "short.onnx"},
		{"inspect DIR", 66, "DIR"},
		{"inspect " + fixtures + "quantised.onnx", 65, "quantised"},
		{"finetune", 64, "--out"},
		{"finetune --out DIR/r", 78, "model.path"},
		{"finetune --out DIR/r --train.micro_batch 0", 78, "train.micro_batch"},
		{"finetune --out DIR/r --sift.keep 1.5", 78, "sift.keep"},
		{"finetune --resume --out DIR/none", 66, "none"},
		{"config --train.seed x", 78, "train.seed"},
		{"config --config DIR/absent.yaml", 66, "absent.yaml"},
		{"eval DIR/run", 64, "needs a run or ONNX file"},
		{"predict " + model, 64, "either a file or --say"},
		{"export " + model, 64, "--out"},
		{"verify", 64, "one ONNX file or two"},
		{"verify " + model + " --certificate DIR/batch.json", 73, "no certificate"},
		{"verify " + model + " --certificate " + model, 64, "--certificate"},
		{"verify " + model + " --rtol Inf", 64, "--rtol"},
		{"config --config /dev/zero", 66, "not a regular file"},
		{"config --optimizer.lr NaN", 78, "optimizer.lr"},
		{"debug grads --model " + model + " --batch /dev/zero --out DIR/g", 66, "not a regular file"},
		{"bench step --keep 0 --score loss", 64, "--keep"},
		{"verify " + model + " --atol -1", 64, "--atol"},
		{"bench frob", 64, "gemm, attention, step, suite and peak"},
		{"bench gemm --size 3x4", 64, "MxNxK"},
		{"bench step --layers 0", 64, "--layers"},
		{"bench step --hidden 30 --heads 4", 64, "heads"},
		{"bench step --precision int8", 64, "int8"},
		{"bench step --precision bf16", 69, "needs a GPU of cuda"},
		{"debug frob", 64, "grads and scores"},
		{"debug grads --model " + model + " --batch DIR/batch.json --out DIR/g", 65, "batch.json"},
		{"debug grads --model " + model + " --batch DIR/absent.json --out DIR/g", 66, "absent.json"},
		{"devices --json extra", 64, "takes no argument"},
		{"bench peak --device.isa mmx", 78, "device.isa"},
		{"bench peak --device tpu", 78, "device.name"},
		{"bench step --device cuda", 69, "this build has no CUDA"},
		{"bench step --device vulkan:x", 78, "vulkan:N with N from 0"},
		{"bench step --precision f16 --device reference", 78, "f16 needs vulkan"},
		{"bench gemm --precision bf16 --device cpu", 78, "bf16 needs cuda"},
		{"bench step --preset bert-tiny --batch 1 --length 4 --vocab 40 --runs 1 --profile --device cpu", 64, "device cpu does not time its kernels"},
		{"bench gemm --precision half", 64, "must be f32, f16 or bf16"},
		{"bench suite --quick --out DIR", 73, "DIR: is a directory"},
		{"bench suite --quick --out=", 64, "--out: is empty"},
		{"bench suite --quick --out DIR/pipe", 73, "no regular file"},
		{"bench suite --quick --out DIR/pipe --force", 73, "no regular file"},
		{"bench suite --quick --device cpu --out DIR/absent/suite.json", 73, "absent/suite.json: cannot create"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := run(strings.Fields(strings.ReplaceAll(c.args, "DIR", dir))...)
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if code != c.code || !strings.HasPrefix(stderr, "error: ") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) || stdout != "" && !strings.HasPrefix(c.args, "config ") {
				t.Errorf("exit %d, want %d with %q\nstderr: %s\nstdout: %s", code, c.code, want, stderr, stdout)
			}
		})
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("something was left behind: %v, %v", entries, err)
	}
}

func TestHelpOfEveryCommandHasExamples(t *testing.T) {
	for _, c := range []string{"inspect", "finetune", "eval", "predict", "export", "verify", "devices", "bench", "bench gemm", "bench step",
		"bench peak", "debug", "debug grads", "debug scores", "config"} {
		code, stdout, stderr := run(append(strings.Fields(c), "--help")...)
		if code != 0 || stderr != "" || strings.Count(stdout[strings.Index(stdout, "Examples:")+1:], "sift "+strings.Fields(c)[0]) < 2 {
			t.Errorf("sift %s --help: exit %d\n%s%s", c, code, stdout, stderr)
		}
	}
}

// TestStoppedText: only what can be resumed is said to be.
func TestStoppedText(t *testing.T) {
	for args, want := range map[string]bool{"finetune --out r": true, "--json -q pretrain": true, "bench suite": false, "eval pretrain x": false, "": false} {
		if got := strings.Contains(stoppedText(strings.Fields(args)), "--resume"); got != want {
			t.Errorf("%q: %v", args, got)
		}
	}
}
