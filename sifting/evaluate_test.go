package sifting_test

import (
	"io"
	"math"
	"slices"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/bert/berttest"
	"sift/fault"
	"sift/sifting"
)

// After the first step nothing is allocated, selecting or not, reused or naive, logged
// or not, evaluation included.
func TestStepsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, dev := range berttest.Devices(t) {
		for _, cfg := range []bert.Config{pretraining(), classifier()} {
			b := randomBatch(t, cfg, 5, lengths...)
			for _, o := range []sifting.Options{{}, {Score: sifting.Random}, {Score: sifting.Loss, Reuse: true}, {Score: sifting.Entropy},
				{Score: sifting.Entropy, Reuse: true, Record: sifting.NewRecorder(io.Discard)}} {
				o.ExitLayer, o.Keep, o.MicroBatch, o.ScoringDropout, o.Dropout, o.AttentionDropout = 1, 0.5, 8, true, 0.1, 0.1
				m := newModel(t, dev, cfg, b.Limits())
				s := newStepper(t, m, o)
				before := m.MemoryBytes()
				step := func() {
					if _, err := s.Step(b, sifting.StepArgs{Select: true, Seed: 3}); err != nil {
						t.Fatal(err)
					}
					if _, err := s.Evaluate(b); err != nil {
						t.Fatal(err)
					}
				}
				step()
				n := testing.AllocsPerRun(5, step)
				for range 3 { // the runtime may start a thread during a long call into C; steps repeat themselves
					n = min(n, testing.AllocsPerRun(5, step))
				}
				if n != 0 {
					t.Errorf("%s, %d classes, %s, reuse %v: %v allocations a step", dev.Name, cfg.Classes, o.Score, o.Reuse, n)
				}
				if before <= 0 || m.MemoryBytes() != before {
					t.Errorf("memory %d, was %d", m.MemoryBytes(), before)
				}
				check(t, s.Free())
				check(t, m.Free())
			}
		}
	}
}

// Evaluation is a step's loss without dropout and gradients, of everything.
func TestEvaluate(t *testing.T) {
	for _, cfg := range []bert.Config{pretraining(), classifier()} {
		b := randomBatch(t, cfg, 5, lengths...)
		m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
		plain := newStepper(t, m, sifting.Options{})
		r, err := plain.Step(b, sifting.StepArgs{})
		check(t, err)
		m.ZeroGrads()
		s := newStepper(t, m, sifting.Options{Score: sifting.Loss, ExitLayer: 1, Keep: 0.5, Dropout: 0.5, AttentionDropout: 0.5, ScoringDropout: true})
		e, err := s.Evaluate(b)
		check(t, err)
		if e.Loss != r.Loss || e.MLMLoss != r.MLMLoss || e.NSPLoss != r.NSPLoss || e.ClassLoss != r.ClassLoss ||
			e.Correct != r.Correct || e.Count != r.Count || e.NSPCorrect != r.NSPCorrect || e.NSPCount != r.NSPCount {
			t.Errorf("evaluation %+v, step %+v", e, r)
		}
		for _, g := range grads(t, m) {
			if g != 0 {
				t.Fatal("evaluation left gradients")
			}
		}
		if cfg.Classes == 0 {
			if e.Count != len(b.MLMRows) || e.NSPCount != b.Seqs {
				t.Errorf("counted %d, %d", e.Count, e.NSPCount)
			}
			continue
		}
		// By hand from the logits, with one sequence unlabelled.
		b.Labels[2] = bert.NoLabel
		e, err = s.Evaluate(b)
		check(t, err)
		logits, err := m.Classify(b, nil)
		check(t, err)
		if !slices.Equal(logits, e.Logits) {
			t.Error("logits differ from Classify's")
		}
		loss, correct := 0.0, 0
		for i, label := range b.Labels {
			if label == bert.NoLabel {
				continue
			}
			row := logits[i*cfg.Classes : (i+1)*cfg.Classes]
			sum := 0.0
			for _, v := range row {
				sum += math.Exp(float64(v))
			}
			loss += math.Log(sum) - float64(row[label])
			if slices.Index(row, slices.Max(row)) == int(label) {
				correct++
			}
		}
		if math.Abs(e.Loss-loss/7) > 1e-6 || e.Correct != correct || e.Count != 7 {
			t.Errorf("evaluation %+v, by hand loss %g, %d correct", e, loss/7, correct)
		}
		b.Labels = nil
		if _, err := s.Evaluate(b); fault.KindOf(err) != fault.Data || err == nil {
			t.Errorf("no labels: %v", err)
		}
	}
}

// Loss and entropy by hand at every exit: the mean or the sum over a sequence's labels of
// the head's logits there.
func TestScoresByHand(t *testing.T) {
	cfg := pretraining()
	cfg.Layers = 1
	b := randomBatch(t, cfg, 5, lengths...)
	m := newModel(t, cpu.NewReference(backend.F64), cfg, b.Limits())
	logits, err := m.MLMLogits(b, b.MLMRows, nil)
	check(t, err)
	for _, sum := range []bool{false, true} {
		s := newStepper(t, m, sifting.Options{Sum: sum})
		got, err := s.ScoresAt(b, 1)
		check(t, err)
		want := make([]sifting.Scores, b.Seqs)
		for i, row := range b.MLMRows {
			q := 0
			for b.Offsets[q+1] <= row {
				q++
			}
			z := 0.0
			for _, v := range logits[i*cfg.Vocab : (i+1)*cfg.Vocab] {
				z += math.Exp(float64(v))
			}
			want[q].Loss += math.Log(z) - float64(logits[i*cfg.Vocab+int(b.MLMLabels[i])])
			for _, v := range logits[i*cfg.Vocab : (i+1)*cfg.Vocab] {
				p := math.Exp(float64(v)) / z
				want[q].Entropy -= p * math.Log(p)
			}
			want[q].Labelled++
		}
		for i, w := range want {
			if !sum && w.Labelled > 0 {
				w.Loss /= float64(w.Labelled)
				w.Entropy /= float64(w.Labelled)
			}
			if math.Abs(got[i].Loss-w.Loss) > 1e-5 || math.Abs(got[i].Entropy-w.Entropy) > 1e-5 || got[i].Labelled != w.Labelled {
				t.Errorf("sequence %d: %+v, by hand %+v", i, got[i], w)
			}
		}
	}
	s := newStepper(t, m, sifting.Options{})
	if _, err := s.ScoresAt(b, 2); fault.KindOf(err) != fault.Config || err == nil {
		t.Errorf("exit past the last layer: %v", err)
	}
}

// scoring_dropout decides whether scores see the update's masks; the update always does.
func TestScoringDropout(t *testing.T) {
	cfg := pretraining()
	b := randomBatch(t, cfg, 5, lengths...)
	m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
	score := func(dropout, scoring bool, seed uint64) ([]float64, sifting.Result) {
		o := sifting.Options{Score: sifting.Loss, ExitLayer: 1, Keep: 1, ScoringDropout: scoring}
		if dropout {
			o.Dropout, o.AttentionDropout = 0.2, 0.2
		}
		r, err := newStepper(t, m, o).Step(b, sifting.StepArgs{Select: true, Seed: seed})
		check(t, err)
		return r.Scores, r
	}
	clean, plain := score(false, true, 1)
	without, a := score(true, false, 1)
	with, c := score(true, true, 1)
	other, _ := score(true, true, 2)
	if !slices.Equal(clean, without) || slices.Equal(clean, with) || slices.Equal(with, other) {
		t.Errorf("scores %v, without %v, with %v, another seed %v", clean, without, with, other)
	}
	if a.Loss != c.Loss || a.Loss == plain.Loss {
		t.Errorf("losses %g, %g, without dropout %g", a.Loss, c.Loss, plain.Loss)
	}
}

// The scored loss is that of all drawn labels at the exit, and no next-sentence loss.
func TestScoredLoss(t *testing.T) {
	for _, cfg := range []bert.Config{pretraining(), classifier()} {
		b := randomBatch(t, cfg, 5, lengths...)
		m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
		s := newStepper(t, m, sifting.Options{Score: sifting.Entropy, ExitLayer: 1, Keep: 0.5, ScoringDropout: true})
		scores, err := s.ScoresAt(b, 1)
		check(t, err)
		sum, labels := 0.0, 0
		for _, q := range scores {
			sum += q.Loss * float64(q.Labelled)
			labels += q.Labelled
		}
		r, err := s.Step(b, sifting.StepArgs{Select: true})
		check(t, err)
		if !r.Scored || math.Abs(r.ScoredLoss-sum/float64(labels)) > 1e-12 {
			t.Errorf("scored loss %g, by sequence %g", r.ScoredLoss, sum/float64(labels))
		}
	}
}
