package sifting_test

import (
	"math"
	"slices"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/fault"
	"sift/sifting"
)

// By hand: order, ties, sequences without labels, counts.
func TestSelect(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name     string
		loss     []float64
		unlabel  []int
		ids      []uint64
		keep     float64
		want     []int
		diverged bool
	}{
		{name: "largest, in batch order", loss: []float64{3, 1, 2, 5}, keep: 0.5, want: []int{0, 3}},
		{name: "ties to the lower id", loss: []float64{2, 2, 2, 2}, ids: []uint64{9, 4, 7, 5}, keep: 0.5, want: []int{1, 3}},
		{name: "NaN never", loss: []float64{nan, 1, nan, 0}, keep: 0.75, want: []int{1, 3}},
		{name: "infinity first", loss: []float64{7, inf, 8}, keep: 0.34, want: []int{1}},
		{name: "all NaN", loss: []float64{nan, nan}, keep: 1, diverged: true},
		{name: "no labels last", loss: []float64{0, 0.5, 0}, unlabel: []int{0}, keep: 0.67, want: []int{1, 2}},
		{name: "no labels if nothing else", loss: []float64{0, 0.5, 0}, unlabel: []int{0, 2}, ids: []uint64{8, 2, 3}, keep: 0.67, want: []int{1, 2}},
		{name: "no labels yield to negative scores", loss: []float64{0, -1}, unlabel: []int{0}, keep: 0.5, want: []int{1}},
		{name: "at least one", loss: []float64{4, 5}, keep: 0.01, want: []int{1}},
		{name: "round half up", loss: []float64{1, 2, 3, 4, 5}, keep: 0.5, want: []int{2, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := pretraining()
			m := newModel(t, cpu.NewReference(backend.F32), cfg, bert.Limits{Rows: 8, Seqs: 8, MaxLen: 1, Labelled: 8})
			s := newStepper(t, m, sifting.Options{Score: sifting.Loss, Keep: c.keep})
			scores := make([]sifting.Scores, len(c.loss))
			for i, v := range c.loss {
				scores[i] = sifting.Scores{Loss: v, Labelled: 1}
			}
			for _, i := range c.unlabel {
				scores[i].Labelled = 0
			}
			if c.ids == nil {
				for i := range c.loss {
					c.ids = append(c.ids, uint64(i))
				}
			}
			got, err := s.Select(scores, c.ids)
			if c.diverged {
				if fault.KindOf(err) != fault.Diverged {
					t.Fatalf("error %v", err)
				}
				return
			}
			check(t, err)
			if !slices.Equal(got, c.want) {
				t.Fatalf("kept %v, want %v", got, c.want)
			}
		})
	}
}

// A model whose weights are not finite diverges with an error, not with a NaN.
func TestDiverged(t *testing.T) {
	cfg := pretraining()
	b := randomBatch(t, cfg, 5, lengths...)
	for _, score := range []sifting.Score{sifting.None, sifting.Loss, sifting.Random} {
		m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
		poison := make([]float32, cfg.Hidden)
		poison[3] = float32(math.NaN())
		for _, p := range m.Params() {
			if p.Role == bert.RoleEmbeddingsBeta {
				check(t, m.Stream().UploadF32(m.Parameters().ColRange(p.Offset, p.Len()), poison))
			}
		}
		s := newStepper(t, m, sifting.Options{Score: score, ExitLayer: 1, Keep: 0.5, Reuse: true, ScoringDropout: true})
		if _, err := s.Step(b, sifting.StepArgs{Update: 4, Select: true}); fault.KindOf(err) != fault.Diverged {
			t.Errorf("%s: error %v", score, err)
		}
	}
}

// Sequences without labels are kept only if nothing else is left; a batch without any
// has loss 0 and no gradient.
func TestUnlabelled(t *testing.T) {
	cfg := pretraining()
	cfg.HasNSP = false
	b := randomBatch(t, cfg, 5, lengths...)
	m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
	s := newStepper(t, m, sifting.Options{Score: sifting.Loss, ExitLayer: 2, Keep: 0.75, Reuse: true, ScoringDropout: true})
	r, err := s.Step(b, sifting.StepArgs{Select: true})
	check(t, err)
	if slices.Contains(r.KeptIndex, 1) || r.Scores[1] != 0 {
		t.Fatalf("kept %v, scores %v; sequence 1 has no labels", r.KeptIndex, r.Scores)
	}
	b.MLMRows, b.MLMLabels = nil, nil
	m.ZeroGrads()
	r, err = s.Step(b, sifting.StepArgs{Select: true})
	check(t, err)
	if r.Loss != 0 || r.ScoredLoss != 0 || r.Count != 0 || r.Kept != 6 {
		t.Fatalf("%+v", r)
	}
	for i, g := range grads(t, m) {
		if g != 0 {
			t.Fatalf("gradient %d is %g", i, g)
		}
	}
}
