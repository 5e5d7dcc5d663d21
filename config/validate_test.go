package config

import (
	"math"
	"strings"
	"testing"

	"sift/fault"
)

func legal() Config {
	c := Default()
	c.Model.Path, c.Data.Train = "m.onnx", Paths{"train.tsv"}
	return c
}

func TestDefaultIsLegal(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	c := legal()
	if err := c.ValidateFinetune(); err != nil {
		t.Fatal(err)
	}
}

func TestIllegalValues(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	cases := []struct {
		want string // how the message begins
		set  func(*Config)
	}{
		{"task.name: \"regression\": must be one of classification, mlm", func(c *Config) { c.Task.Name = "regression" }},
		{"task.text_column: not set", func(c *Config) { c.Task.TextColumn = "" }},
		{"task.label_column: not set", func(c *Config) { c.Task.LabelColumn = "" }},
		{"task.metric: \"auc\": must be one of accuracy, f1, mcc", func(c *Config) { c.Task.Metric = "auc" }},
		{"task.max_length: 2: must be at least 3", func(c *Config) { c.Task.MaxLength = 2 }},
		{"data.format: \"csv\"", func(c *Config) { c.Data.Format = "csv" }},
		{"train.updates: -1", func(c *Config) { c.Train.Updates = -1 }},
		{"train.epochs: NaN", func(c *Config) { c.Train.Epochs = nan }},
		{"train.epochs: +Inf", func(c *Config) { c.Train.Epochs = inf }},
		{"train.updates: 0: one of", func(c *Config) { c.Train.Epochs = 0 }},
		{"train.updates: 5: train.epochs is 3", func(c *Config) { c.Train.Updates = 5 }},
		{"train.micro_batch: 0: must be at least 1", func(c *Config) { c.Train.MicroBatch = 0 }},
		{"train.micro_batch: 70000", func(c *Config) { c.Train.MicroBatch = 70000 }},
		{"train.accumulate: 0", func(c *Config) { c.Train.Accumulate = 0 }},
		{"train.precision: \"f8\"", func(c *Config) { c.Train.Precision = "f8" }},
		{"train.precision: bf16: needs cuda; device.name is vulkan:1", func(c *Config) { c.Train.Precision, c.Device.Name = "bf16", "vulkan:1" }},
		{"train.precision: f16: needs vulkan; device.name is cpu", func(c *Config) { c.Train.Precision, c.Device.Name = "f16", "cpu" }},
		{"train.precision: f16: needs vulkan; device.name is reference", func(c *Config) { c.Train.Precision, c.Device.Name = "f16", "reference" }},
		{"sift.score_precision: f32: must be train.precision, which is f16", func(c *Config) { c.Train.Precision, c.Sift.Score = "f16", "loss" }},
		{"train.dropout: 1: must be at least 0 and below 1", func(c *Config) { c.Train.Dropout = 1 }},
		{"train.dropout: NaN", func(c *Config) { c.Train.Dropout = nan }},
		{"train.attention_dropout: -0.1", func(c *Config) { c.Train.AttentionDropout = -0.1 }},
		{"train.clip_norm: -1", func(c *Config) { c.Train.ClipNorm = -1 }},
		{"train.clip_norm: NaN", func(c *Config) { c.Train.ClipNorm = nan }},
		{"train.freeze: top", func(c *Config) { c.Train.Freeze = "top" }},
		{"train.freeze: -1", func(c *Config) { c.Train.Freeze = "-1" }},
		{"train.save_every: -1", func(c *Config) { c.Train.SaveEvery = -1 }},
		{"train.evaluate_every: -1", func(c *Config) { c.Train.EvaluateEvery = -1 }},
		{"train.keep_checkpoints: 1: must be at least 2", func(c *Config) { c.Train.KeepCheckpoints = 1 }},
		{"train.early_stopping: -1", func(c *Config) { c.Train.EarlyStopping = -1 }},
		{"optimizer.name: \"sgd\"", func(c *Config) { c.Optimizer.Name = "sgd" }},
		{"optimizer.lr: 0: must be a finite number above 0", func(c *Config) { c.Optimizer.LR = 0 }},
		{"optimizer.lr: -0.1", func(c *Config) { c.Optimizer.LR = -0.1 }},
		{"optimizer.lr: NaN", func(c *Config) { c.Optimizer.LR = nan }},
		{"optimizer.lr: +Inf", func(c *Config) { c.Optimizer.LR = inf }},
		{"optimizer.beta1: 1:", func(c *Config) { c.Optimizer.Beta1 = 1 }},
		{"optimizer.beta2: NaN", func(c *Config) { c.Optimizer.Beta2 = nan }},
		{"optimizer.eps: 0", func(c *Config) { c.Optimizer.Eps = 0 }},
		{"optimizer.weight_decay: -0.01", func(c *Config) { c.Optimizer.WeightDecay = -0.01 }},
		{"optimizer.decay_exclude: \"gamma\": must be one of bias, norm, embeddings", func(c *Config) { c.Optimizer.DecayExclude = []string{"bias", "gamma"} }},
		{"optimizer.schedule: \"step\"", func(c *Config) { c.Optimizer.Schedule = "step" }},
		{"optimizer.warmup: NaN", func(c *Config) { c.Optimizer.Warmup = nan }},
		{"optimizer.warmup: 1.5", func(c *Config) { c.Optimizer.Warmup = 1.5 }},
		{"optimizer.warmup: 9: must be at most train.updates, which is 8", func(c *Config) { c.Train.Updates, c.Train.Epochs, c.Optimizer.Warmup = 8, 0, 9 }},
		{"sift.score: \"margin\"", func(c *Config) { c.Sift.Score = "margin" }},
		{"sift.exit_layer: -1: must be at least 0", func(c *Config) { c.Sift.ExitLayer = -1 }},
		{"sift.exit_layer: 0: a pooled task", func(c *Config) { c.Sift.Score, c.Sift.ExitLayer = "loss", 0 }},
		{"sift.keep: 0: must be above 0 and at most 1", func(c *Config) { c.Sift.Keep = 0 }},
		{"sift.keep: 1.5: must be above 0 and at most 1", func(c *Config) { c.Sift.Keep = 1.5 }},
		{"sift.keep: 1.0001:", func(c *Config) { c.Sift.Keep = 1.0001 }},
		{"sift.keep: -0.5:", func(c *Config) { c.Sift.Keep = -0.5 }},
		{"sift.keep: NaN:", func(c *Config) { c.Sift.Keep = nan }},
		{"sift.keep: 1e-09: would draw 3.2e+10", func(c *Config) { c.Sift.Score, c.Sift.Keep = "loss", 1e-9 }},
		{"sift.start: -1", func(c *Config) { c.Sift.Start = -1 }},
		{"sift.end: 5: must be 0 (never) or above sift.start, which is 5", func(c *Config) { c.Sift.Start, c.Sift.End = 5, 5 }},
		{"sift.interrupt: 1: would never select", func(c *Config) { c.Sift.Interrupt = 1 }},
		{"sift.aggregate: \"max\"", func(c *Config) { c.Sift.Aggregate = "max" }},
		{"sift.score_precision: \"int8\"", func(c *Config) { c.Sift.ScorePrecision = "int8" }},
		{"sift.head: \"own\"", func(c *Config) { c.Sift.Head = "own" }},
		{"sift.replay: r.jsonl: sift.score is none", func(c *Config) { c.Sift.Replay = "r.jsonl" }},
		{"device.name: \"tpu\"", func(c *Config) { c.Device.Name = "tpu" }},
		{"device.name: \"vulkan:\"", func(c *Config) { c.Device.Name = "vulkan:" }},
		{"device.name: \"vulkan:-1\"", func(c *Config) { c.Device.Name = "vulkan:-1" }},
		{"device.name: \"vulkan:01\": must be one of auto, cpu, reference, cuda, vulkan, vulkan:cpu, or cuda:N or vulkan:N", func(c *Config) { c.Device.Name = "vulkan:01" }},
		{"device.threads: -1", func(c *Config) { c.Device.Threads = -1 }},
		{"device.isa: \"sse\"", func(c *Config) { c.Device.ISA = "sse" }},
		{"device.cublas: \"yes\": must be one of off, on, tf32", func(c *Config) { c.Device.CuBLAS = "yes" }},
		{"device.cublas: tf32: needs cuda; device.name is vulkan:1", func(c *Config) { c.Device.CuBLAS, c.Device.Name = "tf32", "vulkan:1" }},
		{"model.path: not set", func(c *Config) { c.Model.Path = "" }},
		{"data.train: not set", func(c *Config) { c.Data.Train = nil }},
		{"data.valid: train.tsv", func(c *Config) { c.Data.Valid = Paths{"train.tsv"} }},
		{"train.early_stopping: 2: needs data.valid", func(c *Config) { c.Train.EarlyStopping = 2 }},
	}
	for _, k := range cases {
		c := legal()
		k.set(&c)
		err := c.ValidateFinetune()
		if err == nil {
			t.Errorf("%s...: accepted", k.want)
			continue
		}
		if fault.KindOf(err) != fault.Config || !strings.HasPrefix(err.Error(), k.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("want %q..., got kind %d %q", k.want, fault.KindOf(err), err)
		}
	}
}

func TestSettle(t *testing.T) {
	for _, k := range []struct {
		given  string
		epochs float64
	}{{"", 3}, {"train.updates", 0}, {"train.updates train.epochs", 3}} {
		c := legal()
		c.Train.Updates = 7
		c.Settle(func(key string) bool { return strings.Contains(k.given, key) })
		if c.Train.Epochs != k.epochs {
			t.Errorf("given %q: epochs %v, want %v", k.given, c.Train.Epochs, k.epochs)
		}
	}
}

// TestDeviceNames: what can be named, and float16 where a device may have it.
func TestDeviceNames(t *testing.T) {
	for _, name := range append(DeviceNames(), "vulkan:0", "vulkan:12") {
		c := legal()
		c.Device.Name = name
		if err := c.ValidateFinetune(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"auto", "vulkan", "vulkan:cpu", "vulkan:3"} {
		c := legal()
		c.Device.Name, c.Train.Precision, c.Sift.Score = name, "f16", "loss"
		c.Settle(func(key string) bool { return key == "train.precision" })
		if err := c.ValidateFinetune(); err != nil {
			t.Error(err)
		}
	}
}

func TestFrozenLayers(t *testing.T) {
	for text, want := range map[string]int{"none": -1, "embeddings": 0, "encoder": 6, "0": 0, "4": 4, "6": 6} {
		got, err := Train{Freeze: text}.FrozenLayers(6)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	if _, err := (Train{Freeze: "7"}).FrozenLayers(6); err == nil {
		t.Error("7 of 6 layers accepted")
	}
}

func TestResumeConflicts(t *testing.T) {
	a, b := legal(), legal()
	b.Train.SaveEvery, b.Train.KeepCheckpoints, b.Device.Threads, b.Data.Train = 7, 5, 3, Paths{"moved.tsv"}
	if got := ResumeConflicts(a, b); len(got) != 0 {
		t.Errorf("harmless changes refused: %v", got)
	}
	b.Optimizer.LR, b.Sift.Keep, b.Train.EvaluateEvery = 1, 0.25, 3
	got := ResumeConflicts(a, b)
	if len(got) != 3 || got[0].Key != "train.evaluate_every" || got[1] != (Change{"optimizer.lr", "5e-05", "1"}) || got[2].Key != "sift.keep" {
		t.Errorf("got %v", got)
	}
}
