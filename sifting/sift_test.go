package sifting_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/bert/berttest"
	"sift/sifting"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 9)) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pretraining and classifier are models small enough for the reference device.
func pretraining() bert.Config {
	return bert.Config{Layers: 3, Hidden: 16, Heads: 4, Intermediate: 24, Vocab: 37, Positions: 12, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, HasMLM: true, HasNSP: true, TiedDecoder: true}
}

func classifier() bert.Config {
	c := pretraining()
	c.HasMLM, c.HasNSP, c.TiedDecoder, c.Classes = false, false, false, 3
	return c
}

// randomBatch packs sequences of the given lengths with holes in their masks and, in a
// pre-training model, labels on every third token but none in sequence 1.
func randomBatch(t testing.TB, cfg bert.Config, seed uint64, lens ...int) *bert.Batch {
	t.Helper()
	r := rng(seed)
	p := bert.NewPacker(bert.Limits{})
	p.NextSentence, p.Classification = cfg.HasNSP, cfg.Classes > 0
	for s, n := range lens {
		q := bert.Sequence{SampleID: uint64(1000 - 3*s), NSP: int32(r.IntN(2)), Label: int32(r.IntN(max(cfg.Classes, 1)))}
		for i := range n {
			q.IDs = append(q.IDs, int32(r.IntN(cfg.Vocab)))
			q.Types = append(q.Types, int32(r.IntN(2)))
			valid, label := int32(1), int32(bert.NoLabel)
			if i > 0 && r.IntN(8) == 0 {
				valid = 0
			}
			if s != 1 && r.IntN(3) == 0 {
				label = int32(r.IntN(cfg.Vocab))
			}
			q.Mask = append(q.Mask, valid)
			if cfg.HasMLM {
				q.MLMLabels = append(q.MLMLabels, label)
			}
		}
		check(t, p.AddSequence(q))
	}
	return p.Batch()
}

// newModel returns a model whose parameters all matter.
func newModel(t testing.TB, dev backend.Device, cfg bert.Config, l bert.Limits) *bert.Model {
	t.Helper()
	m, err := bert.NewModel(dev, cfg, l)
	check(t, err)
	g := rng(1)
	flat := make([]float64, m.Parameters().Len())
	for _, p := range m.Params() {
		for i := range p.Len() {
			flat[p.Offset+i] = 0.3 * g.NormFloat64()
			if p.Kind == bert.Gamma {
				flat[p.Offset+i]++
			}
		}
	}
	check(t, m.Stream().UploadF64(m.Parameters(), flat))
	return m
}

func newStepper(t testing.TB, m *bert.Model, o sifting.Options) *sifting.Stepper {
	t.Helper()
	s, err := sifting.NewStepper(m, o)
	check(t, err)
	return s
}

func grads(t testing.TB, m *bert.Model) []float64 {
	t.Helper()
	g := make([]float64, m.Grads().Len())
	check(t, m.Stream().DownloadF64(g, m.Grads()))
	return g
}

var lengths = []int{5, 12, 1, 9, 7, 12, 3, 10}

// The sifted step that goes on from the scored prefix equals, bit for bit, the one that
// runs the kept sequences from the start: with dropout, at every exit layer.
func TestReuseEqualsNaive(t *testing.T) {
	for _, dev := range berttest.Devices(t) {
		name := dev.Name
		for _, cfg := range []bert.Config{pretraining(), classifier()} {
			for _, score := range []sifting.Score{sifting.Loss, sifting.Entropy} {
				for _, freeze := range []int{-1, 1, 3} {
					for exit := 0; exit <= cfg.Layers; exit++ {
						if exit == 0 && cfg.Classes > 0 {
							continue
						}
						t.Run(fmt.Sprintf("%s/classes %d/%s/freeze %d/exit %d", name, cfg.Classes, score, freeze, exit), func(t *testing.T) {
							reuseEqualsNaive(t, dev, cfg, sifting.Options{Score: score, ExitLayer: exit, Keep: 0.5,
								ScoringDropout: true, MicroBatch: 4, Dropout: 0.1, AttentionDropout: 0.2}, freeze, lengths)
						})
					}
				}
			}
		}
	}
}

// The same where matrices exceed the kernels' tiles and the threads share the work.
func TestReuseEqualsNaiveLarger(t *testing.T) {
	cfg := pretraining()
	cfg.Hidden, cfg.Intermediate, cfg.Vocab, cfg.Positions = 72, 150, 1000, 60
	var lens []int
	for i := range 24 {
		lens = append(lens, 3+(i*37)%57)
	}
	devices := berttest.Devices(t)[1:] // too slow for the reference
	if len(devices) == 0 {
		t.Skip("no C kernels in this build")
	}
	for _, dev := range devices {
		t.Run(dev.Name, func(t *testing.T) {
			o := sifting.Options{Score: sifting.Loss, ExitLayer: 2, Keep: 0.5, ScoringDropout: true, MicroBatch: 12, Dropout: 0.1, AttentionDropout: 0.1}
			reuseEqualsNaive(t, dev, cfg, o, -1, lens)
		})
	}
}

func reuseEqualsNaive(t *testing.T, dev backend.Device, cfg bert.Config, o sifting.Options, freeze int, lens []int) {
	b := randomBatch(t, cfg, 5, lens...)
	type outcome struct {
		r      sifting.Result
		kept   []int
		scores []float64
		grads  []float64
	}
	run := func(reuse bool) outcome {
		m := newModel(t, dev, cfg, b.Limits())
		defer m.Free()
		check(t, m.FreezeLayers(freeze))
		o.Reuse = reuse
		s := newStepper(t, m, o)
		defer s.Free()
		// Twice, so that nothing left over from a step may matter, and gradients add up.
		var out outcome
		for micro := range 2 {
			r, err := s.Step(b, sifting.StepArgs{Update: 7, Micro: micro, Select: true, Seed: 3, GradScale: 0.5})
			check(t, err)
			out = outcome{r, slices.Clone(r.KeptIndex), slices.Clone(r.Scores), nil}
		}
		out.grads = grads(t, m)
		return out
	}
	a, n := run(true), run(false)
	if !slices.Equal(a.kept, n.kept) || len(a.kept) != o.MicroBatch {
		t.Fatalf("reuse kept %v, naive %v", a.kept, n.kept)
	}
	if !slices.Equal(a.scores, n.scores) || a.r.Loss != n.r.Loss || a.r.ScoredLoss != n.r.ScoredLoss ||
		a.r.MLMLoss != n.r.MLMLoss || a.r.NSPLoss != n.r.NSPLoss || a.r.ClassLoss != n.r.ClassLoss {
		t.Fatalf("reuse %+v, naive %+v", a.r, n.r)
	}
	sum := 0.0
	for i := range a.grads {
		if math.Float64bits(a.grads[i]) != math.Float64bits(n.grads[i]) {
			t.Fatalf("gradient %d: reuse %g, naive %g", i, a.grads[i], n.grads[i])
		}
		sum += math.Abs(a.grads[i])
	}
	if sum == 0 || math.IsNaN(sum) {
		t.Fatalf("gradients sum to %g", sum)
	}
	// The score is of the exit layer, not of the last one, and dropout was on.
	if o.ExitLayer < cfg.Layers && a.r.ScoredLoss == a.r.Loss {
		t.Error("the scored loss is the final loss")
	}
}

// Kept is what a plain step on only these sequences would have given.
func TestSelectionIsAStepOnTheKept(t *testing.T) {
	cfg := pretraining()
	b := randomBatch(t, cfg, 5, lengths...)
	m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
	s := newStepper(t, m, sifting.Options{Score: sifting.Entropy, ExitLayer: 1, Keep: 0.4, Reuse: true, ScoringDropout: true, Dropout: 0.1})
	a := sifting.StepArgs{Update: 2, Select: true, Seed: 8}
	r, err := s.Step(b, a)
	check(t, err)
	if r.Kept != 3 || r.Drawn != 8 || r.DrawnRows != b.Rows || len(r.Scores) != 8 {
		t.Fatalf("%+v", r)
	}
	want := grads(t, m)
	m.ZeroGrads()
	var only bert.Batch
	b.Select(&only, r.KeptIndex, nil)
	if only.Rows != r.KeptRows {
		t.Fatalf("%d rows, want %d", only.Rows, r.KeptRows)
	}
	a.Select = false
	p, err := s.Step(&only, a)
	check(t, err)
	if p.Loss != r.Loss || p.Kept != 3 || p.Scores != nil || p.Scored {
		t.Fatalf("%+v, want the loss of %+v", p, r)
	}
	if !slices.Equal(grads(t, m), want) {
		t.Fatal("gradients differ")
	}
}
