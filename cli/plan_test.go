package cli

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// A plan of a fine-tuning run, and the run.
func TestPlanOfFinetuning(t *testing.T) {
	dir := toyTask(t, 41)
	in := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"--model", fixtures + "encoder-op14-fold-dynamic.onnx", "--tokenizer", in("vocab.txt"), "--train", in("train.tsv"),
		"--valid", in("valid.tsv"), "--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12",
		"--train.micro_batch", "8", "--train.epochs", "2", "--sift.score", "entropy"}
	var p struct {
		Lengths     string
		Parameters  int
		Updates     int
		Drawn       int     `json:"samples_drawn"`
		Backprop    int     `json:"samples_backpropagated"`
		FLOPs       float64 `json:"flops"`
		Score       float64 `json:"score_flops"`
		Evaluations int
		Memory      struct{ Total int64 }
		Seconds     *float64 `json:"train_seconds"`
	}
	object(t, &p, append([]string{"plan", "--gflops", "0.5"}, args...)...)
	var s struct {
		Updates  int
		Drawn    int     `json:"samples_drawn"`
		Backprop int     `json:"samples_backpropagated"`
		FLOPs    float64 `json:"flops"`
		Score    float64 `json:"score_flops"`
	}
	object(t, &s, append([]string{"finetune", "--quiet", "--out", in("run")}, args...)...)
	if p.Lengths != "data" || p.Updates != s.Updates || p.Drawn != s.Drawn || p.Backprop != s.Backprop || p.Evaluations != 2 || p.Memory.Total < 1000 {
		t.Errorf("plan %+v, run %+v", p, s)
	}
	for _, x := range [][2]float64{{p.FLOPs, s.FLOPs}, {p.Score, s.Score}, {*p.Seconds, (s.FLOPs + s.Score) / 0.5e9}} {
		if x[0] < 0.95*x[1] || x[0] > 1.05*x[1] || x[1] == 0 {
			t.Errorf("plan %g, run %g", x[0], x[1])
		}
	}
}

// A measured plan trains a few micro-batches of random tokens, of either task.
func TestPlanMeasures(t *testing.T) {
	for _, args := range []string{
		"--tokenizer ../testdata/vocab/vocab.txt --train ../testdata/corpora --model.layers 2 --model.hidden 16 --model.heads 2 --task.max_length 16 --train.micro_batch 4 --train.accumulate 2 --sift.score entropy",
		"--tokenizer ../testdata/vocab/vocab.txt --model.layers 1 --model.hidden 16 --model.heads 2 --task.max_length 16 --train.micro_batch 4 --train.updates 5 --train.freeze 1",
		"--model " + fixtures + "sequence_classification-op14-fold-dynamic.onnx --task.max_length 16 --sift.score loss --sift.reuse=false --train.updates 7",
	} {
		var p struct {
			Measured *struct {
				Plain     float64 `json:"update_seconds"`
				Selecting float64 `json:"selecting_update_seconds"`
				GFLOPS    float64
			}
			FLOPs, GFLOPS float64
			Score         float64 `json:"score_flops"`
			Seconds       float64 `json:"train_seconds"`
		}
		object(t, &p, append([]string{"plan", "--measure"}, strings.Fields(args)...)...)
		if m := p.Measured; m == nil || !(m.Plain > 0) || m.Selecting > 0 != strings.Contains(args, "score") || !(m.GFLOPS > 0) || p.GFLOPS != m.GFLOPS {
			t.Fatalf("sift plan --measure %s: %+v", args, p)
		}
		if want := (p.FLOPs + p.Score) / p.GFLOPS / 1e9; math.Abs(p.Seconds-want) > 1e-9*want || want == 0 {
			t.Errorf("sift plan --measure %s: %g s, want %g", args, p.Seconds, want)
		}
	}
}

// What a plan prints for people, by the lines that matter.
func TestPlanText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.yaml")
	write(t, file, "model: {tokenizer: ../testdata/vocab/vocab.txt, layers: 2, hidden: 32, heads: 2, positions: 64}\n"+
		"task: {max_length: 64}\ndata: {train: [absent]}\ntrain: {updates: 1000, micro_batch: 4}\nsift: {score: loss, start: 100}\n")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"--gflops 2", []string{
			"mlm, from scratch", "2 layers, hidden 32", "expected: ", "absent is not there", "1000, 10 of them warm-up, 900 selecting", "7600 drawn, 4000 back-propagated",
			"not selecting", "scoring, reused", "(this run)", "device memory, for micro-batches of up to 8 sequences and 512 tokens", "reused prefix", "at 2 GFLOP/s"}},
		{"", []string{"give --gflops for the time"}},
		{"--train.precision f16", []string{"precision       f16: operands", "device memory"}},
		{"--sift.score none", []string{"0 selecting", "an update\n"}},
		{"--train.updates 0 --train.epochs 3", []string{"unknown without data"}},
		{"--train ../testdata/corpora --data.valid_share 0.2", []string{"of the data: ", "epochs of", "validation", "evaluation"}},
		{"--task classification --model " + fixtures + "sequence_classification-op14-fold-dynamic.onnx --task.max_length 16", []string{"classification, from ", "the longest allowed"}},
	} {
		code, stdout, stderr := run(append([]string{"plan", file}, strings.Fields(c.args)...)...)
		if code != 0 || stderr != "" {
			t.Errorf("sift plan %s: exit %d: %s", c.args, code, stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("sift plan %s: no %q in\n%s", c.args, want, stdout)
			}
		}
	}
}

// Which defaults a plan starts from: those of the command the configuration is for.
func TestPlanDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.yaml")
	write(t, file, "model: {tokenizer: ../testdata/vocab/vocab.txt}\ntrain: {updates: 1000}\n")
	model := fixtures + "pretraining-op14-fold-dynamic-fresh.onnx"
	for args, want := range map[string]struct {
		task   string
		warmup int // 1% of the updates where one pre-trains, 10% where one fine-tunes
	}{
		"":                 {"mlm", 10},
		"--task mlm":       {"mlm", 10},
		"--model " + model: {"classification", 100},
		"--task mlm --model " + model + " --task.max_length 16":               {"mlm", 10},
		"--task classification --task.max_length 16 --model " + model:         {"classification", 100},
		"--train.updates 500 --optimizer.warmup 7 --model.vocab 40 --train x": {"mlm", 7},
	} {
		if strings.Contains(args, "--model ") && !strings.Contains(args, "max_length") {
			args += " --task.max_length 16"
		}
		var p struct {
			Task   string
			Warmup int `json:"warmup_updates"`
		}
		object(t, &p, append([]string{"plan", file}, strings.Fields(args)...)...)
		if p.Task != want.task || p.Warmup != want.warmup {
			t.Errorf("sift plan %s: %+v, want %+v", args, p, want)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.yaml")
	write(t, file, "model: {tokenizer: ../testdata/vocab/vocab.txt}\ntrain: {updates: 1000}\n")
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"--gflops 0", "--gflops: 0", 64},
		{"--gflops -1", "--gflops: -1", 64},
		{"--gflops 3 --measure", "--measure", 64},
		{"--gflops NaN", "--gflops: NaN", 64},
		{"more", "at most one", 64},
		{"--config " + file, "--config names", 64},
		{"--model absent.onnx", "absent.onnx", 66},
		{"--tokenizer absent.txt", "absent.txt", 66},
		{"--task classification", "model.path", 78},
		{"--task.max_length 600", "task.max_length: 600", 78},
		{"--train.no_such 1", "no_such", 64},
		{"--model.heads 5", "model.heads", 78},
		{"--sift.score loss --sift.exit_layer 13", "sift.exit_layer", 78},
	} {
		code, stdout, stderr := run(append([]string{"plan", file}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("sift plan %s: exit %d, want %d and %q: %s", c.args, code, c.code, c.want, stderr)
		}
	}
}

func TestQuantities(t *testing.T) {
	for n, want := range map[float64]string{0: "0.0 FLOP", 999: "999.0 FLOP", 999.99: "1.0 kFLOP", 1.25e12: "1.2 TFLOP", 6e19: "60.0 EFLOP", 1e26: "100000.0 ZFLOP"} {
		if got := operations(n); got != want {
			t.Errorf("operations(%g) = %s, want %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0.000 seconds", 12.34: "12.3 seconds", 119: "119.0 seconds", 120: "2.0 minutes", 7200: "2.0 hours", 172800: "2.0 days", 1e9: "31.7 years"} {
		if got := duration(s); got != want {
			t.Errorf("duration(%g) = %s, want %s", s, got, want)
		}
	}
}
