package train

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
)

// TestIntervals holds the formulas against published values.
func TestIntervals(t *testing.T) {
	// Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20.
	for _, k := range []struct {
		correct, n int
		lo, hi     float64
	}{{81, 263, 0.2553, 0.3662}, {0, 20, 0, 0.1611}} {
		lo, hi := Wilson(k.correct, k.n)
		if math.Abs(lo-k.lo) > 5e-5 || math.Abs(hi-k.hi) > 5e-5 {
			t.Errorf("%d of %d: %.4f to %.4f, want %.4f to %.4f", k.correct, k.n, lo, hi, k.lo, k.hi)
		}
	}
	// Sums of binomial coefficients, by hand: 10 against 2, (1+12+66)/2^12 twice; 1 against 1.
	for _, k := range []struct {
		b, c int
		p    float64
	}{{10, 2, 2 * 79.0 / 4096}, {2, 10, 2 * 79.0 / 4096}, {1, 1, 1}, {0, 0, 1}, {6, 0, 2.0 / 64}} {
		if p := mcNemar(k.b, k.c); math.Abs(p-k.p) > 1e-12 {
			t.Errorf("%d against %d: %v, want %v", k.b, k.c, p, k.p)
		}
	}
}

// TestPairedInterval counts how often the interval holds the truth, over random pairs.
func TestPairedInterval(t *testing.T) {
	a, b := make([]bool, 400), make([]bool, 400)
	held, state := 0, uint64(7)
	uniform := func() float64 {
		state = state*6364136223846793005 + 1442695040888963407
		return float64(state>>11) / (1 << 53)
	}
	const rounds = 2000
	for range rounds {
		for i := range a { // both right 60%, only a 15%, only b 10%
			u := uniform()
			a[i], b[i] = u < 0.75, u < 0.6 || u >= 0.75 && u < 0.85
		}
		if c := compare(a, b); c.Low <= 0.05 && 0.05 <= c.High {
			held++
		}
	}
	if share := float64(held) / rounds; share < 0.93 || share > 0.97 {
		t.Errorf("the 95%% interval held the truth in %.1f%% of %d rounds", 100*share, rounds)
	}
}

func TestCompare(t *testing.T) {
	dir, cfg := writeFixture(t)
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	var models []*Trained
	for _, freeze := range []string{"none", "encoder"} {
		cfg.Train.Freeze = freeze
		out := filepath.Join(dir, freeze)
		if _, err := Finetune(context.Background(), cfg, RunOptions{Out: out, Device: dev, Version: "test"}); err != nil {
			t.Fatal(err)
		}
		c, err := OpenRun(out)
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, c)
	}
	opt := ReadOptions{Device: dev, Task: cfg.Task, BatchSize: 5}
	c, err := Compare(context.Background(), models[0], models[1], cfg.Data.Valid[0], opt)
	if err != nil {
		t.Fatal(err)
	}
	for i, accuracy := range []float64{c.A, c.B} {
		e, err := models[i].Evaluate(context.Background(), cfg.Data.Valid[0], opt)
		if err != nil {
			t.Fatal(err)
		}
		if e.N != c.N || e.Accuracy != accuracy {
			t.Errorf("accuracy %v of %d, evaluated alone %v of %d", accuracy, c.N, e.Accuracy, e.N)
		}
	}
	if c.A <= c.B || !(c.Low < c.Difference && c.Difference < c.High) || c.OnlyA <= c.OnlyB {
		t.Errorf("trained against frozen: %+v", c)
	}
	same, err := Compare(context.Background(), models[0], models[0], cfg.Data.Valid[0], opt)
	if err != nil || same.Difference != 0 || same.OnlyA+same.OnlyB != 0 || same.Probability != 1 || same.Low >= 0 {
		t.Errorf("a model against itself: %+v, %v", same, err)
	}
	_, err = Compare(context.Background(), models[0], models[1], "absent.tsv", opt)
	wantKind(t, err, fault.Missing, "absent.tsv")
}
