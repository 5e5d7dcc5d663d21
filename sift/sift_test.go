package sift_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/bert/berttest"
	"sift/fault"
	"sift/sift"
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

func newStepper(t testing.TB, m *bert.Model, o sift.Options) *sift.Stepper {
	t.Helper()
	s, err := sift.NewStepper(m, o)
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
			for _, score := range []sift.Score{sift.Loss, sift.Entropy} {
				for _, freeze := range []int{-1, 1, 3} {
					for exit := 0; exit <= cfg.Layers; exit++ {
						if exit == 0 && cfg.Classes > 0 {
							continue
						}
						t.Run(fmt.Sprintf("%s/classes %d/%s/freeze %d/exit %d", name, cfg.Classes, score, freeze, exit), func(t *testing.T) {
							reuseEqualsNaive(t, dev, cfg, sift.Options{Score: score, ExitLayer: exit, Keep: 0.5,
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
			o := sift.Options{Score: sift.Loss, ExitLayer: 2, Keep: 0.5, ScoringDropout: true, MicroBatch: 12, Dropout: 0.1, AttentionDropout: 0.1}
			reuseEqualsNaive(t, dev, cfg, o, -1, lens)
		})
	}
}

func reuseEqualsNaive(t *testing.T, dev backend.Device, cfg bert.Config, o sift.Options, freeze int, lens []int) {
	b := randomBatch(t, cfg, 5, lens...)
	type outcome struct {
		r      sift.Result
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
			r, err := s.Step(b, sift.StepArgs{Update: 7, Micro: micro, Select: true, Seed: 3, GradScale: 0.5})
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
	s := newStepper(t, m, sift.Options{Score: sift.Entropy, ExitLayer: 1, Keep: 0.4, Reuse: true, ScoringDropout: true, Dropout: 0.1})
	a := sift.StepArgs{Update: 2, Select: true, Seed: 8}
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
			s := newStepper(t, m, sift.Options{Score: sift.Loss, Keep: c.keep})
			scores := make([]sift.Scores, len(c.loss))
			for i, v := range c.loss {
				scores[i] = sift.Scores{Loss: v, Labelled: 1}
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
	for _, score := range []sift.Score{sift.None, sift.Loss, sift.Random} {
		m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
		poison := make([]float32, cfg.Hidden)
		poison[3] = float32(math.NaN())
		for _, p := range m.Params() {
			if p.Role == bert.RoleEmbeddingsBeta {
				check(t, m.Stream().UploadF32(m.Parameters().ColRange(p.Offset, p.Len()), poison))
			}
		}
		s := newStepper(t, m, sift.Options{Score: score, ExitLayer: 1, Keep: 0.5, Reuse: true, ScoringDropout: true})
		if _, err := s.Step(b, sift.StepArgs{Update: 4, Select: true}); fault.KindOf(err) != fault.Diverged {
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
	s := newStepper(t, m, sift.Options{Score: sift.Loss, ExitLayer: 2, Keep: 0.75, Reuse: true, ScoringDropout: true})
	r, err := s.Step(b, sift.StepArgs{Select: true})
	check(t, err)
	if slices.Contains(r.KeptIndex, 1) || r.Scores[1] != 0 {
		t.Fatalf("kept %v, scores %v; sequence 1 has no labels", r.KeptIndex, r.Scores)
	}
	b.MLMRows, b.MLMLabels = nil, nil
	m.ZeroGrads()
	r, err = s.Step(b, sift.StepArgs{Select: true})
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

func TestRecordAndReplay(t *testing.T) {
	cfg := classifier()
	b := randomBatch(t, cfg, 5, lengths...)
	var record bytes.Buffer
	run := func(o sift.Options) ([][]int, []float64, error) {
		m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
		o.ExitLayer, o.Keep = 1, 0.5
		s := newStepper(t, m, o)
		var kept [][]int
		for update := range 3 {
			for micro := range 2 {
				r, err := s.Step(b, sift.StepArgs{Update: update, Micro: micro, Select: true, Seed: uint64(micro)})
				if err != nil {
					return nil, nil, err
				}
				kept = append(kept, slices.Clone(r.KeptIndex))
			}
		}
		return kept, grads(t, m), nil
	}
	kept, g, err := run(sift.Options{Score: sift.Random, Record: sift.NewRecorder(&record)})
	check(t, err)
	if n := strings.Count(record.String(), "\n"); n != 6 {
		t.Fatalf("%d lines", n)
	}
	if slices.Equal(kept[0], kept[1]) && slices.Equal(kept[0], kept[2]) && slices.Equal(kept[0], kept[3]) {
		t.Fatalf("random selection is always %v", kept[0])
	}
	replay, err := sift.ReadReplay(bytes.NewReader(record.Bytes()), "selection.jsonl")
	check(t, err)
	again, h, err := run(sift.Options{Score: sift.Loss, Replay: replay})
	check(t, err)
	if !slices.EqualFunc(kept, again, slices.Equal) || !slices.Equal(g, h) {
		t.Fatalf("replayed %v, recorded %v", again, kept)
	}
	b.SampleID[3]++
	_, _, err = run(sift.Options{Score: sift.Loss, Replay: replay})
	if fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "selection.jsonl: update 0") {
		t.Fatalf("other sequences: %v", err)
	}
	b.SampleID[3]--
	short, err := sift.ReadReplay(strings.NewReader(strings.SplitAfter(record.String(), "\n")[0]), "one.jsonl")
	check(t, err)
	if _, _, err := run(sift.Options{Score: sift.Loss, Replay: short}); err == nil || !strings.Contains(err.Error(), "update 0, micro-batch 1: not recorded") {
		t.Fatalf("short record: %v", err)
	}
}

func TestReadReplayRefuses(t *testing.T) {
	good := `{"update":0,"micro":0,"sample_ids":[4,5],"scores":[null,1],"kept":[1]}` + "\n"
	other := `{"update":0,"micro":0,"sample_ids":[4,5],"scores":[3,1],"kept":[0]}` + "\n"
	for _, text := range []string{"", "\n\n", "{", "[]", "null", `{"update":0}`, good + other, good + good[:30],
		`{"update":0,"micro":0,"sample_ids":[4,5],"scores":[],"kept":[2]}`,
		`{"update":0,"micro":0,"sample_ids":[4,5],"scores":[],"kept":[1,0]}`,
		`{"update":0,"micro":0,"sample_ids":[4,5],"scores":[],"kept":[-1]}`,
		`{"update":0,"micro":0,"sample_ids":[4,5],"kept":[1],"more":1}`,
		`{"update":-1,"micro":0,"sample_ids":[4,5],"kept":[1]}`,
		`{"update":0,"micro":0,"sample_ids":[-4,5],"kept":[1]}`} {
		if _, err := sift.ReadReplay(strings.NewReader(text), "f"); fault.KindOf(err) != fault.Data {
			t.Errorf("%q: error %v", text, err)
		}
	}
	if _, err := sift.ReadReplay(strings.NewReader(good+good), "f"); err != nil {
		t.Errorf("a line repeated: %v", err)
	}
}

func FuzzReadReplay(f *testing.F) {
	f.Add(`{"update":0,"micro":0,"sample_ids":[4,5],"scores":[null,1],"kept":[1]}`)
	f.Add("{")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := sift.ReadReplay(strings.NewReader(text), "f"); err != nil && fault.KindOf(err) != fault.Data {
			t.Fatalf("%v", err)
		}
	})
}

// After the first step nothing is allocated, selecting or not, reused or naive, logged
// or not, evaluation included.
func TestStepsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, dev := range berttest.Devices(t) {
		for _, cfg := range []bert.Config{pretraining(), classifier()} {
			b := randomBatch(t, cfg, 5, lengths...)
			for _, o := range []sift.Options{{}, {Score: sift.Random}, {Score: sift.Loss, Reuse: true}, {Score: sift.Entropy},
				{Score: sift.Entropy, Reuse: true, Record: sift.NewRecorder(io.Discard)}} {
				o.ExitLayer, o.Keep, o.MicroBatch, o.ScoringDropout, o.Dropout, o.AttentionDropout = 1, 0.5, 8, true, 0.1, 0.1
				m := newModel(t, dev, cfg, b.Limits())
				s := newStepper(t, m, o)
				before := m.MemoryBytes()
				step := func() {
					if _, err := s.Step(b, sift.StepArgs{Select: true, Seed: 3}); err != nil {
						t.Fatal(err)
					}
					if _, err := s.Evaluate(b); err != nil {
						t.Fatal(err)
					}
				}
				step()
				if n := testing.AllocsPerRun(5, step); n != 0 {
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
		plain := newStepper(t, m, sift.Options{})
		r, err := plain.Step(b, sift.StepArgs{})
		check(t, err)
		m.ZeroGrads()
		s := newStepper(t, m, sift.Options{Score: sift.Loss, ExitLayer: 1, Keep: 0.5, Dropout: 0.5, AttentionDropout: 0.5, ScoringDropout: true})
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
		s := newStepper(t, m, sift.Options{Sum: sum})
		got, err := s.ScoresAt(b, 1)
		check(t, err)
		want := make([]sift.Scores, b.Seqs)
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
	s := newStepper(t, m, sift.Options{})
	if _, err := s.ScoresAt(b, 2); fault.KindOf(err) != fault.Config || err == nil {
		t.Errorf("exit past the last layer: %v", err)
	}
}

// scoring_dropout decides whether scores see the update's masks; the update always does.
func TestScoringDropout(t *testing.T) {
	cfg := pretraining()
	b := randomBatch(t, cfg, 5, lengths...)
	m := newModel(t, cpu.NewReference(backend.F32), cfg, b.Limits())
	score := func(dropout, scoring bool, seed uint64) ([]float64, sift.Result) {
		o := sift.Options{Score: sift.Loss, ExitLayer: 1, Keep: 1, ScoringDropout: scoring}
		if dropout {
			o.Dropout, o.AttentionDropout = 0.2, 0.2
		}
		r, err := newStepper(t, m, o).Step(b, sift.StepArgs{Select: true, Seed: seed})
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
