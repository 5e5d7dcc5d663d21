package train

import (
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"sift/config"
	"sift/fault"
)

func rule(t testing.TB, size int, set func(*config.Config)) counting {
	t.Helper()
	cfg := config.Default()
	cfg.Train.MicroBatch = 4
	set(&cfg)
	c, err := newCounting(cfg, size)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func one(int) int { return 1 }

// TestCountingTable walks small runs by hand.
func TestCountingTable(t *testing.T) {
	cases := []struct {
		name string
		size int
		set  func(*config.Config)
		want [][]draw
	}{
		{"no selection, short last batch", 10, func(c *config.Config) { c.Train.Epochs = 1 },
			[][]draw{{{0, 4, 4}}, {{4, 4, 4}}, {{8, 2, 2}}}},
		{"half kept, short last batch keeps round(1)", 10, func(c *config.Config) { c.Train.Epochs = 1; c.Sift.Score = "loss" },
			[][]draw{{{0, 8, 4}}, {{8, 2, 1}}}},
		{"short batch of one keeps one", 9, func(c *config.Config) { c.Train.Epochs = 1; c.Sift.Score, c.Sift.Keep = "loss", 0.25 },
			[][]draw{{{0, 9, 2}}}},
		{"keep that does not divide: 4/0.3 = 13", 27, func(c *config.Config) { c.Train.Epochs = 1; c.Sift.Score, c.Sift.Keep = "loss", 0.3 },
			[][]draw{{{0, 13, 4}}, {{13, 13, 4}}, {{26, 1, 1}}}},
		{"two updates before the start, none after the end", 30, func(c *config.Config) {
			c.Train.Epochs = 1
			c.Sift.Score, c.Sift.Start, c.Sift.End = "entropy", 2, 4
		}, [][]draw{{{0, 4, 4}}, {{4, 4, 4}}, {{8, 8, 4}}, {{16, 8, 4}}, {{24, 4, 4}}, {{28, 2, 2}}}},
		{"every third does not select", 40, func(c *config.Config) {
			c.Train.Epochs = 1
			c.Sift.Score, c.Sift.Interrupt = "loss", 3
		}, [][]draw{{{0, 8, 4}}, {{8, 8, 4}}, {{16, 4, 4}}, {{20, 8, 4}}, {{28, 8, 4}}, {{36, 4, 4}}}},
		{"accumulation ends with the epoch", 10, func(c *config.Config) { c.Train.Epochs, c.Train.Accumulate = 2, 2 },
			[][]draw{{{0, 4, 4}, {4, 4, 4}}, {{8, 2, 2}}, {{10, 4, 4}, {14, 4, 4}}, {{18, 2, 2}}}},
		{"half an epoch", 10, func(c *config.Config) { c.Train.Epochs = 1.5 },
			[][]draw{{{0, 4, 4}}, {{4, 4, 4}}, {{8, 2, 2}}, {{10, 4, 4}}, {{14, 1, 1}}}},
		{"updates", 10, func(c *config.Config) { c.Train.Epochs, c.Train.Updates = 0, 4 },
			[][]draw{{{0, 4, 4}}, {{4, 4, 4}}, {{8, 2, 2}}, {{10, 4, 4}}}},
	}
	for _, k := range cases {
		cfg := config.Default()
		cfg.Train.MicroBatch = 4
		k.set(&cfg)
		c := rule(t, k.size, k.set)
		p, err := c.newPlan(cfg, one, 1)
		if err != nil {
			t.Fatal(err)
		}
		var got [][]draw
		at, kept := 0, 0
		for u := 1; u <= p.updates; u++ {
			draws := c.update(nil, u, at)
			for _, d := range draws {
				at += d.n
				kept += d.keep
			}
			got = append(got, draws)
		}
		if !reflect.DeepEqual(got, k.want) {
			t.Errorf("%s:\n got %v\nwant %v", k.name, got, k.want)
		}
		if p.updates != len(k.want) || p.drawn != at || p.kept != kept {
			t.Errorf("%s: plan %+v, walked %d updates, %d drawn, %d kept", k.name, p, len(k.want), at, kept)
		}
	}
}

// TestCountingInvariants: every sample of the stream is drawn once, no micro-batch
// crosses an epoch, and what is kept follows the rule.
func TestCountingInvariants(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.IntRange(1, 60).Draw(r, "size")
		cfg := config.Default()
		cfg.Train.Epochs = rapid.Float64Range(0.5, 4).Draw(r, "epochs")
		cfg.Train.MicroBatch = rapid.IntRange(1, 9).Draw(r, "batch")
		cfg.Train.Accumulate = rapid.IntRange(1, 3).Draw(r, "accumulate")
		cfg.Sift.Score = rapid.SampledFrom([]string{"none", "loss", "random"}).Draw(r, "score")
		cfg.Sift.Keep = rapid.Float64Range(0.1, 1).Draw(r, "keep")
		cfg.Sift.Start = rapid.IntRange(0, 5).Draw(r, "start")
		cfg.Sift.Interrupt = rapid.SampledFrom([]int{0, 2, 3}).Draw(r, "interrupt")
		c, err := newCounting(cfg, size)
		if err != nil {
			if fault.KindOf(err) != fault.Config {
				r.Fatal(err)
			}
			return
		}
		p := c.simulate(0, one, 1)
		at := 0
		for u := 1; u <= p.updates; u++ {
			draws := c.update(nil, u, at)
			if len(draws) == 0 || len(draws) > cfg.Train.Accumulate {
				r.Fatalf("update %d has %d micro-batches", u, len(draws))
			}
			for _, d := range draws {
				if d.first != at || d.n < 1 || d.keep < 1 || d.keep > d.n || d.keep > cfg.Train.MicroBatch {
					r.Fatalf("update %d: %+v at %d", u, d, at)
				}
				if d.first/size != (d.first+d.n-1)/size {
					r.Fatalf("update %d: %+v crosses an epoch of %d", u, d, size)
				}
				if !c.sift.Selects(u-1) && d.keep != d.n {
					r.Fatalf("update %d drops without selecting: %+v", u, d)
				}
				at += d.n
			}
		}
		if want := int(math.Round(cfg.Train.Epochs * float64(size))); at != want || p.drawn != want {
			r.Fatalf("drew %d, planned %d, want %d", at, p.drawn, want)
		}
		if rest := c.update(nil, p.updates+1, at); len(rest) != 0 {
			r.Fatalf("the plan ends before the stream: %v", rest)
		}
	})
}

func TestPlanRefuses(t *testing.T) {
	for name, set := range map[string]func(*config.Config){
		"optimizer.warmup: 9: the run has 3 updates":             func(c *config.Config) { c.Train.Epochs, c.Optimizer.Warmup = 1, 9 },
		"train.epochs: 0.01: draws 0 samples of 10":              func(c *config.Config) { c.Train.Epochs = 0.01 },
		"sift.keep: 0.01: selects 0 of the 10 examples of f.tsv": func(c *config.Config) { c.Sift.Score, c.Sift.Keep = "loss", 0.01 },
	} {
		cfg := config.Default()
		cfg.Train.MicroBatch, cfg.Data.Train = 4, config.Paths{"f.tsv"}
		set(&cfg)
		c, err := newCounting(cfg, 10)
		if err == nil {
			_, err = c.newPlan(cfg, one, 1)
		}
		if err == nil || fault.KindOf(err) != fault.Config || len(err.Error()) < len(name) || err.Error()[:len(name)] != name {
			t.Errorf("want %q, got %v", name, err)
		}
	}
}

func TestSchedule(t *testing.T) {
	const c = 0.8535533905932737 // (1 + cos(pi/4)) / 2
	for _, k := range []struct {
		shape  string
		warmup float64
		total  int
		want   []float64
	}{
		{"linear", 0, 4, []float64{1, 0.75, 0.5, 0.25}},
		{"linear", 2, 6, []float64{0.5, 1, 1, 0.75, 0.5, 0.25}},
		{"linear", 0.5, 4, []float64{0.5, 1, 1, 0.5}},
		{"linear", 0.1, 4, []float64{1, 0.75, 0.5, 0.25}},
		{"linear", 4, 4, []float64{0.25, 0.5, 0.75, 1}},
		{"cosine", 0, 4, []float64{1, c, 0.5, 1 - c}},
		{"cosine", 1, 5, []float64{1, 1, c, 0.5, 1 - c}},
		{"constant", 2, 4, []float64{0.5, 1, 1, 1}},
		{"constant", 0, 2, []float64{1, 1}},
	} {
		s := newSchedule(config.Optimizer{Schedule: k.shape, Warmup: k.warmup}, k.total)
		for i, want := range k.want {
			if got := s.at(i + 1); math.Abs(got-want) > 1e-15 {
				t.Errorf("%s, warm-up %v of %d: update %d has %v, want %v", k.shape, k.warmup, k.total, i+1, got, want)
			}
		}
	}
}
