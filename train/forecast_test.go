package train

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

// meter is a device that adds up what is allocated on it.
type meter struct {
	backend.Device
	bytes int64
}

func (m *meter) Alloc(bytes int64) (backend.Buffer, error) {
	m.bytes += bytes
	return m.Device.Alloc(bytes)
}

// within reports whether got is want or off by at most the share.
func within(got, want, share float64) bool { return math.Abs(got-want) <= share*math.Abs(want) }

// smallPretraining is a model of three layers on the corpora in the repository.
func smallPretraining() config.Config {
	cfg := config.DefaultPretrain()
	cfg.Model.Tokenizer = filepath.Join(testdata, "vocab", "vocab.txt")
	cfg.Model.Layers, cfg.Model.Hidden, cfg.Model.Heads, cfg.Model.Positions = 3, 16, 2, 64
	cfg.Task.MaxLength = 64
	cfg.Data.Train, cfg.Data.ValidShare = config.Paths{filepath.Join(testdata, "corpora")}, 0.05
	cfg.Train.Updates, cfg.Train.Epochs, cfg.Train.MicroBatch, cfg.Train.SaveEvery, cfg.Train.EvaluateEvery = 20, 0, 6, 0, 15
	return cfg
}

// TestForecastOfPretraining holds a forecast against the run it is of.
func TestForecastOfPretraining(t *testing.T) {
	for name, set := range map[string]func(*config.Config){
		"no selection":        func(*config.Config) {},
		"loss at 1":           func(c *config.Config) { c.Sift.Score = "loss" },
		"loss at 1, naive":    func(c *config.Config) { c.Sift.Score, c.Sift.Reuse = "loss", false },
		"entropy at 0":        func(c *config.Config) { c.Sift.Score, c.Sift.ExitLayer = "entropy", 0 },
		"entropy at the last": func(c *config.Config) { c.Sift.Score, c.Sift.ExitLayer = "entropy", 3 },
		"loss, last, naive":   func(c *config.Config) { c.Sift.Score, c.Sift.ExitLayer, c.Sift.Reuse = "loss", 3, false },
		"random":              func(c *config.Config) { c.Sift.Score = "random" },
		"sum of entropies":    func(c *config.Config) { c.Sift.Score, c.Sift.Aggregate = "entropy", "sum" },
		"accumulated, later": func(c *config.Config) {
			c.Sift.Score, c.Train.Accumulate, c.Sift.Start, c.Sift.Interrupt, c.Train.Seed = "loss", 2, 6, 5, 7
		},
		"a third, one segment": func(c *config.Config) {
			c.Sift.Score, c.Sift.Keep, c.Data.NextSentence = "loss", 1.0/3, false
		},
		"a quarter, all short": func(c *config.Config) {
			c.Sift.Score, c.Sift.Keep, c.Data.ShortShare = "loss", 0.25, 1
		},
		"frozen": func(c *config.Config) { c.Train.Freeze = "2" },
		"two epochs, nothing held out": func(c *config.Config) {
			c.Train.Updates, c.Train.Epochs, c.Train.MicroBatch, c.Train.Accumulate = 0, 0.3, 16, 2
			c.Data.ValidShare, c.Sift.Score = 0, "entropy"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := smallPretraining()
			set(&cfg)
			checkForecast(t, cfg, Pretrain)
		})
	}
}

// TestForecastOfFinetuning does the same with labelled texts of one to sixty tokens.
func TestForecastOfFinetuning(t *testing.T) {
	for name, set := range map[string]func(*config.Config){
		"no selection": func(*config.Config) {},
		"loss":         func(c *config.Config) { c.Sift.Score = "loss" },
		"random":       func(c *config.Config) { c.Sift.Score, c.Sift.Keep = "random", 0.25 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := writeFixture(t)
			set(&cfg)
			checkForecast(t, cfg, Finetune)
		})
	}
}

func checkForecast(t *testing.T, cfg config.Config, train func(context.Context, config.Config, RunOptions) (*Summary, error)) {
	f, err := NewForecast(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := cpu.Open(cpu.Options{ISA: "auto", Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	dev := &meter{Device: inner}
	var planned Planned
	evaluations, parameters := 0, 0
	out := filepath.Join(t.TempDir(), "run")
	s, err := train(context.Background(), cfg, RunOptions{Out: out, Device: dev, Version: "test", Progress: func(e Event) {
		switch e := e.(type) {
		case *Planned:
			planned = *e
		case *Evaluated:
			evaluations++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range weightsOf(t, filepath.Join(out, s.Checkpoint)) {
		parameters += len(w)
	}
	for _, x := range []struct {
		name      string
		got, want int
	}{
		{"parameters", f.Parameters, parameters}, {"updates", f.Updates, s.Updates}, {"samples drawn", f.SamplesDrawn, s.SamplesDrawn},
		{"samples back-propagated", f.SamplesBackprop, s.SamplesBackprop}, {"examples", f.Examples, planned.Examples},
		{"validation examples", f.Validated, planned.Validated}, {"evaluations", f.Evaluations, evaluations},
		{"tokens drawn", int(math.Round(f.TokensDrawn)), s.TokensDrawn},
	} {
		if x.got != x.want {
			t.Errorf("%s: forecast %d, the run had %d", x.name, x.got, x.want)
		}
	}
	// The sum of squares and the like are not in the run's own count.
	if !within(float64(f.Memory.Total), float64(planned.MemoryBytes), 0.01) || !within(float64(f.Memory.Total), float64(dev.bytes), 0.01) {
		t.Errorf("memory: forecast %d bytes, the run said %d and allocated %d", f.Memory.Total, planned.MemoryBytes, dev.bytes)
	}
	share := 0.05
	if f.Selecting == nil {
		share = 1e-12 // what is trained on is known exactly
	}
	if !within(f.FLOPs, s.FLOPs, share) || !within(f.ScoreFLOPs, s.ScoreFLOPs, share) || !within(f.TokensBackprop, float64(s.TokensBackprop), share) {
		t.Errorf("forecast %g + %g FLOPs and %g tokens, the run had %g + %g and %d",
			f.FLOPs, f.ScoreFLOPs, f.TokensBackprop, s.FLOPs, s.ScoreFLOPs, s.TokensBackprop)
	}
	rate := (s.FLOPs + s.ScoreFLOPs) / s.TrainSeconds / 1e9
	if seconds, _ := f.Seconds(rate); !within(seconds, s.TrainSeconds, 0.05) {
		t.Errorf("%g s at the %g GFLOP/s of the run, which took %g s", seconds, rate, s.TrainSeconds)
	}
	checkUpdates(t, f, metricsOf(t, out))
}

// checkUpdates compares whole updates with the mean of those measured.
func checkUpdates(t *testing.T, f *Forecast, lines []map[string]any) {
	var flops, score, n [2]float64
	for _, line := range lines {
		if line["kind"] != "update" {
			continue
		}
		i := 0
		if line["selecting"] == true {
			i = 1
		}
		flops[i] += number(t, line, "flops")
		score[i] += number(t, line, "score_flops")
		n[i]++
	}
	if int(n[1]) != f.SelectingUpdates || int(n[0]+n[1]) != f.Updates {
		t.Errorf("%g of %g updates selected, forecast %d of %d", n[1], n[0]+n[1], f.SelectingUpdates, f.Updates)
	}
	for i, u := range []*UpdateForecast{&f.Plain, f.Selecting} {
		if n[i] < 10 { // too few for a mean
			continue
		}
		if !within(u.FLOPs, flops[i]/n[i], 0.05) || !within(u.ScoreFLOPs, score[i]/n[i], 0.05) {
			t.Errorf("an update: forecast %g + %g FLOPs, on average the run had %g + %g", u.FLOPs, u.ScoreFLOPs, flops[i]/n[i], score[i]/n[i])
		}
	}
}

// TestForecastWithoutData compares expected lengths with those of the corpora in the
// repository, whose documents are of a few thousand tokens.
func TestForecastWithoutData(t *testing.T) {
	for _, next := range []bool{true, false} {
		for _, length := range []int{32, 64, 128} {
			cfg := smallPretraining()
			cfg.Data.NextSentence, cfg.Task.MaxLength, cfg.Model.Positions = next, length, length
			cfg.Data.ValidShare, cfg.Train.Updates = 0, 100000
			real, err := NewForecast(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Data.Train = config.Paths{"absent"}
			f, err := NewForecast(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if f.Lengths != fromExpected || real.Lengths != fromData || !strings.Contains(f.Why, "absent is not there") || f.Epochs != 0 || f.Examples != 0 {
				t.Errorf("%+v", f)
			}
			if !within(f.MeanTokens, real.MeanTokens, 0.05) || !within(f.Plain.FLOPs, real.Plain.FLOPs, 0.05) || f.Memory != real.Memory {
				t.Errorf("pairs %v, length %d: %.1f tokens expected, %.1f in the corpora; %g and %g FLOPs", next, length,
					f.MeanTokens, real.MeanTokens, f.Plain.FLOPs, real.Plain.FLOPs)
			}
		}
	}
}

// TestForecastOfPart compares a part of a text with the whole.
func TestForecastOfPart(t *testing.T) {
	var files []string
	var sizes []int64
	dir, total := t.TempDir(), int64(0)
	for i, n := range []int64{3 << 20, 40 << 20, 10, 5 << 20, 200 << 10, 0} {
		files = append(files, filepath.Join(dir, string(rune('a'+i))+".txt"))
		if f, err := os.Create(files[i]); err != nil {
			t.Fatal(err)
		} else if err := f.Truncate(n); err != nil {
			t.Fatal(err)
		} else {
			f.Close()
		}
		sizes = append(sizes, n)
		total += n
	}
	part, read, err := partOf(files, sizes, total, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, file := range part {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum != read || read > partOfText || read < partOfText*9/10 || len(part) < 3 {
		t.Errorf("%d files of %d bytes, said to be %d", len(part), sum, read)
	}
}

// TestForecastIsLight plans a BERT-large with 32 sequences of 512 tokens: tens of
// gigabytes, of which not one in a thousand is allocated.
func TestForecastIsLight(t *testing.T) {
	cfg := config.DefaultPretrain()
	cfg.Model.Layers, cfg.Model.Hidden, cfg.Model.Heads, cfg.Model.Vocab = 24, 1024, 16, 30522
	cfg.Task.MaxLength, cfg.Train.Updates, cfg.Train.Epochs, cfg.Sift.Score = 512, 1000, 0, "loss"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := NewForecast(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if f.Parameters < 330e6 || f.Parameters > 340e6 || f.Memory.Total < 20e9 {
		t.Errorf("%d parameters, %d bytes", f.Parameters, f.Memory.Total)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 40e6 {
		t.Errorf("%d bytes allocated", n)
	}
}

// smallDevice has little memory.
type smallDevice struct{ backend.Device }

func (smallDevice) Info() backend.Info {
	return backend.Info{Name: "small", Float: backend.F32, MemoryBytes: 1 << 20}
}

func TestMeasureNeedsMemory(t *testing.T) {
	cfg := smallPretraining()
	f, err := NewForecast(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Measure(context.Background(), cfg, smallDevice{cpu.NewReference(backend.F32)})
	wantKind(t, err, fault.Device, "the run needs", "small has 0.0 GB")
}

// Epochs of data that are not there cannot be counted; everything else can be said.
func TestForecastOfUnknownEpochs(t *testing.T) {
	cfg := smallPretraining()
	cfg.Data.Train, cfg.Train.Updates, cfg.Train.Epochs, cfg.Sift.Score = nil, 0, 3, "loss"
	f, err := NewForecast(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if f.Updates != 0 || f.FLOPs != 0 || f.Plain.FLOPs == 0 || f.Selecting.ScoreReuse == 0 || f.Memory.Prefix == 0 || f.Plain.Kept != 6 || f.Selecting.Drawn != 12 {
		t.Errorf("%+v", f)
	}
}

func TestForecastRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		kind fault.Kind
		text string
		set  func(*config.Config)
	}{
		"no model":      {fault.Missing, "absent.onnx", func(c *config.Config) { c.Model.Path = "absent.onnx" }},
		"no tokenizer":  {fault.Missing, "absent.txt", func(c *config.Config) { c.Model.Tokenizer = "absent.txt" }},
		"too long":      {fault.Config, "task.max_length: 65", func(c *config.Config) { c.Task.MaxLength = 65 }},
		"exit too deep": {fault.Config, "sift.exit_layer", func(c *config.Config) { c.Sift.Score, c.Sift.ExitLayer = "loss", 4 }},
		"warm-up":       {fault.Config, "optimizer.warmup", func(c *config.Config) { c.Optimizer.Warmup = 30 }},
		"classification from scratch": {fault.Config, "model.path", func(c *config.Config) {
			c.Task.Name = "classification"
		}},
	} {
		cfg := smallPretraining()
		c.set(&cfg)
		_, err := NewForecast(context.Background(), cfg)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantKind(t, err, c.kind, c.text)
	}
}
