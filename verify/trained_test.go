package verify_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/onnx"
	"sift/onnx/eval"
	"sift/sifting"
	"sift/verify"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func processor(t testing.TB) backend.Device {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{})
	check(t, err)
	t.Cleanup(func() { dev.Close() })
	return dev
}

// withClassifier adds a classifier to a configuration, a pooler if there is none, and to
// w their weights where they are missing: large enough for logits of the order of one,
// so that the tolerances mean something.
func withClassifier(t testing.TB, cfg bert.Config, w bert.Weights, classes int) (bert.Config, bert.Weights) {
	t.Helper()
	w = copied(w)
	if cfg.Classes != classes {
		delete(w, bert.RoleClassWeight)
		delete(w, bert.RoleClassBias)
	}
	cfg.HasPooler, cfg.Classes = true, classes
	fresh, err := bert.InitMissing(cfg, w, 11)
	check(t, err)
	r := rand.New(rand.NewPCG(12, 12))
	for _, role := range fresh {
		for i := range w[role] {
			w[role][i] = float32(r.NormFloat64()) * 0.4
		}
	}
	return cfg, w
}

func copied(w bert.Weights) bert.Weights {
	c := bert.Weights{}
	for role, v := range w {
		c[role] = slices.Clone(v)
	}
	return c
}

// trunkOf drops the roles of w that cfg does not have.
func trunkOf(t testing.TB, cfg bert.Config, w bert.Weights) bert.Weights {
	t.Helper()
	params, err := bert.Params(cfg)
	check(t, err)
	c := bert.Weights{}
	for _, p := range params {
		c[p.Role] = w[p.Role]
	}
	return c
}

// trainedOnce takes one sifted step, with dropout and selection by loss, and one AdamW
// update of all parameters that the objective trains. It returns the new weights.
func trainedOnce(t testing.TB, dev backend.Device, cfg bert.Config, w bert.Weights, b *bert.Batch, lr float64) bert.Weights {
	t.Helper()
	m, err := bert.NewModel(dev, cfg, b.Limits())
	check(t, err)
	defer func() { check(t, m.Free()) }()
	check(t, m.SetWeights(w))
	step, err := sifting.NewStepper(m, sifting.Options{Score: sifting.Loss, ExitLayer: 1, Keep: 0.5, Reuse: true,
		ScoringDropout: true, MicroBatch: (b.Seqs + 1) / 2, Dropout: 0.1, AttentionDropout: 0.1})
	check(t, err)
	defer step.Free()
	r, err := step.Step(b, sifting.StepArgs{Select: true, Seed: 3})
	check(t, err)
	if r.Kept == 0 || r.Kept >= r.Drawn || !(r.Loss > 0) {
		t.Fatalf("the step kept %d of %d at a loss of %g", r.Kept, r.Drawn, r.Loss)
	}
	adamW(t, dev, m, lr)
	got, err := m.Weights()
	check(t, err)
	return got
}

// adamW is the first update.
func adamW(t testing.TB, dev backend.Device, m *bert.Model, lr float64) {
	t.Helper()
	float, n := dev.Info().Float, m.Parameters().Len()
	moments, err := backend.Alloc(dev, float, 2, n)
	check(t, err)
	defer moments.Buf.Free()
	sum, err := backend.Alloc(dev, float, 1, 1)
	check(t, err)
	defer sum.Buf.Free()
	s := m.Stream()
	s.SumSquares(sum, m.Grads())
	for i, p := range m.Params() {
		if !m.Trainable(i) {
			continue
		}
		of := func(t backend.Tensor) backend.Tensor { return t.ColRange(p.Offset, p.Len()) }
		s.AdamW(backend.AdamWArgs{Param: of(m.Parameters()), Grad: of(m.Grads()), M: of(moments.RowRange(0, 1)), V: of(moments.RowRange(1, 1)),
			SumSq: sum, ClipNorm: 1, GradScale: 1, LR: lr, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Step: 1})
	}
	check(t, s.Sync())
}

// labelledBatch packs random sequences with holes in their masks and labels for every
// head of cfg.
func labelledBatch(t testing.TB, cfg bert.Config, seed uint64) *bert.Batch {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	p := bert.NewPacker(bert.Limits{})
	p.NextSentence, p.Classification = cfg.HasNSP && cfg.Classes == 0, cfg.Classes > 0
	for s := range 6 {
		q := bert.Sequence{SampleID: uint64(s), NSP: int32(r.IntN(2)), Label: int32(r.IntN(max(1, cfg.Classes)))}
		for i := range 3 + r.IntN(min(12, cfg.MaxTokens())-2) {
			q.IDs = append(q.IDs, int32(r.IntN(cfg.Vocab)))
			q.Types = append(q.Types, int32(r.IntN(max(1, cfg.TypeVocab))))
			valid, label := int32(1), int32(bert.NoLabel)
			if i > 0 && r.IntN(6) == 0 {
				valid = 0
			}
			if i == 0 || r.IntN(4) == 0 {
				label = int32(r.IntN(cfg.Vocab))
			}
			q.Mask = append(q.Mask, valid)
			if cfg.HasMLM && cfg.Classes == 0 {
				q.MLMLabels = append(q.MLMLabels, label)
			}
		}
		check(t, p.AddSequence(q))
	}
	return p.Batch()
}

// padded draws a batch for a graph: the first sequence is full; the others are padded at
// the end, the third and every fourth after it have holes in their masks as well, and the
// third is masked at its first position. Without a mask all are full.
func padded(m *onnx.Match, batch, length int, seed uint64) verify.Inputs {
	r := rand.New(rand.NewPCG(seed, uint64(batch*1000+length)))
	n := batch * length
	in := verify.Inputs{Source: "padded", Batch: batch, Length: length,
		IDs: make([]int64, n), Mask: make([]int64, n), Types: make([]int64, n)}
	for s := range batch {
		end := length
		if s > 0 && m.Inputs.Mask != "" {
			end = 1 + r.IntN(length)
		}
		for i := range length {
			at := s*length + i
			in.IDs[at] = int64(r.IntN(m.Config.Vocab))
			if m.Inputs.Types != "" {
				in.Types[at] = int64(r.IntN(m.Config.TypeVocab))
			}
			hole := s%4 == 2 && i < end-1 && (i == 0 && s == 2 || r.IntN(4) == 0) && m.Inputs.Mask != ""
			if i < end && !hole {
				in.Mask[at] = 1
			}
		}
	}
	return in
}

// feed gives a batch the graph's names and types.
func feed(t testing.TB, m *onnx.Match, in verify.Inputs) map[string]*eval.Tensor {
	t.Helper()
	named := map[string]*eval.Tensor{}
	for _, v := range m.File.Inputs {
		data := in.IDs
		switch v.Name {
		case m.Inputs.IDs:
		case m.Inputs.Mask:
			data = in.Mask
		case m.Inputs.Types:
			data = in.Types
		default:
			t.Fatalf("what is input %s?", v.Name)
		}
		x := &eval.Tensor{DType: v.DType, Dims: []int{in.Batch, in.Length}}
		if x.IsFloat() {
			for _, d := range data {
				x.F = append(x.F, float64(d))
			}
		} else {
			x.I = data
		}
		named[v.Name] = x
	}
	return named
}
