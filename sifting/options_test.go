package sifting_test

import (
	"math"
	"strings"
	"testing"

	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/sifting"
)

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		o    sifting.Options
		want string // of updates 0 to 9, x where it selects
	}{
		{sifting.Options{Score: sifting.None}, ".........."},
		{sifting.Options{Score: sifting.Loss}, "xxxxxxxxxx"},
		{sifting.Options{Score: sifting.Loss, Start: 3}, "...xxxxxxx"},
		{sifting.Options{Score: sifting.Random, Start: 3, End: 6}, "...xxx...."},
		{sifting.Options{Score: sifting.Entropy, Interrupt: 3}, "xx.xx.xx.x"},
		{sifting.Options{Score: sifting.Entropy, Start: 1, End: 9, Interrupt: 4}, ".xx.xxx.x."},
	} {
		c.o.MicroBatch, c.o.Keep = 4, 0.5
		got := ""
		for u := range 10 {
			mark, draw := ".", 4
			if c.o.Selects(u) {
				mark, draw = "x", 8
			}
			if c.o.Draw(u) != draw {
				t.Errorf("update %d draws %d", u, c.o.Draw(u))
			}
			got += mark
		}
		if got != c.want {
			t.Errorf("%+v selects %s, want %s", c.o, got, c.want)
		}
	}
}

// A full draw keeps exactly N, whatever the share.
func TestDrawKeepsMicroBatch(t *testing.T) {
	for n := 1; n <= 130; n++ {
		for keep := 0.01; keep <= 1; keep += 0.007 {
			o := sifting.Options{Score: sifting.Loss, Keep: keep, MicroBatch: n}
			if k := o.KeepOf(o.MaxDraw()); k != n {
				t.Fatalf("N %d, keep %g: drew %d, kept %d", n, keep, o.MaxDraw(), k)
			}
		}
	}
	for _, c := range []struct {
		keep    float64
		n, want int
	}{{0.5, 1, 1}, {0.5, 3, 2}, {0.5, 64, 32}, {0.01, 5, 1}, {1, 7, 7}, {0.3, 10, 3}, {0.25, 0, 0}} {
		if k := (sifting.Options{Keep: c.keep}).KeepOf(c.n); k != c.want {
			t.Errorf("%g of %d: %d, want %d", c.keep, c.n, k, c.want)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	mlm, class := bert.Objective{MLM: true, NSP: true}, bert.Objective{Classification: true}
	good := sifting.Options{Score: sifting.Loss, ExitLayer: 1, Keep: 0.5, Reuse: true, ScoringDropout: true, Dropout: 0.1, AttentionDropout: 0.1, MicroBatch: 32}
	for _, obj := range []bert.Objective{mlm, class} {
		if err := good.Validate(pretraining(), obj); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		says string
		obj  bert.Objective
		f    func(o *sifting.Options)
	}{
		{"sift.exit_layer: 0: before the first layer every [CLS] is the same", class, func(o *sifting.Options) { o.ExitLayer = 0 }},
		{"sift.exit_layer: 4", mlm, func(o *sifting.Options) { o.ExitLayer = 4 }},
		{"sift.exit_layer: -1", mlm, func(o *sifting.Options) { o.ExitLayer = -1 }},
		{"sift.keep", mlm, func(o *sifting.Options) { o.Keep = 0 }},
		{"sift.keep", mlm, func(o *sifting.Options) { o.Keep = 1.0001 }},
		{"sift.keep", mlm, func(o *sifting.Options) { o.Keep = math.NaN() }},
		{"sift.end", mlm, func(o *sifting.Options) { o.Start, o.End = 5, 5 }},
		{"sift.start", mlm, func(o *sifting.Options) { o.Interrupt = -1 }},
		{"sift.reuse", mlm, func(o *sifting.Options) { o.ScoringDropout = false }},
		{"sift.score", bert.Objective{NSP: true}, func(o *sifting.Options) {}},
		{"sift.score", mlm, func(o *sifting.Options) { o.Score = 9 }},
		{"train.dropout", mlm, func(o *sifting.Options) { o.Dropout = 1 }},
		{"train.attention_dropout", mlm, func(o *sifting.Options) { o.AttentionDropout = -0.1 }},
		{"train.micro_batch", mlm, func(o *sifting.Options) { o.MicroBatch = -1 }},
	} {
		o := good
		c.f(&o)
		if err := o.Validate(pretraining(), c.obj); fault.KindOf(err) != fault.Config || err == nil || !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("want %q, error %v", c.says, err)
		}
	}
	for name, f := range map[string]func(o *sifting.Options){
		"exit 0 of a masked LM":            func(o *sifting.Options) { o.ExitLayer = 0 },
		"naive without scoring dropout":    func(o *sifting.Options) { o.Reuse, o.ScoringDropout = false, false },
		"reuse without any dropout at all": func(o *sifting.Options) { o.ScoringDropout, o.Dropout, o.AttentionDropout = false, 0, 0 },
		"random needs no exit layer":       func(o *sifting.Options) { o.Score, o.ExitLayer = sifting.Random, 99 },
		"none needs nothing":               func(o *sifting.Options) { *o = sifting.Options{} },
	} {
		o := good
		f(&o)
		if err := o.Validate(pretraining(), mlm); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFromConfig(t *testing.T) {
	c := config.Default()
	c.Sift.Score, c.Sift.Aggregate, c.Sift.ExitLayer, c.Sift.Interrupt = "entropy", "sum", 3, 4
	o, err := sifting.FromConfig(c)
	check(t, err)
	if o.Score != sifting.Entropy || !o.Sum || o.ExitLayer != 3 || o.Interrupt != 4 || o.Keep != 0.5 || !o.Reuse ||
		!o.ScoringDropout || o.MicroBatch != 32 || o.Dropout != 0.1 || o.AttentionDropout != 0.1 {
		t.Errorf("%+v", o)
	}
	for _, f := range []func(c *config.Config){func(c *config.Config) { c.Sift.Score = "los" }, func(c *config.Config) { c.Sift.Aggregate = "max" }} {
		d := c
		f(&d)
		if _, err := sifting.FromConfig(d); fault.KindOf(err) != fault.Config || err == nil {
			t.Errorf("%v", err)
		}
	}
}
