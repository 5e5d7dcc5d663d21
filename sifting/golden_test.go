package sifting_test

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/bert"
	"sift/bert/berttest"
	"sift/sifting"
)

// golden is the common part of the golden files.
type golden struct {
	Model, Batch, Head, Tensors, Weights string
	Loss                                 float64 `json:"loss"`
	MLMLoss                              float64 `json:"mlm_loss"`
	NSPLoss                              float64 `json:"nsp_loss"`
	ClassLoss                            float64 `json:"classification_loss"`
	Norm                                 float64 `json:"gradient_norm"`
}

// model loads the golden's model, with the head that torch added to it if any.
func (g golden) model(t *testing.T, dev backend.Device, l bert.Limits) *bert.Model {
	t.Helper()
	f := berttest.Find(t, g.Model)
	cfg := f.Config()
	var head bert.Weights
	if g.Head != "" {
		head = berttest.Tensors(t, "golden", g.Head)
		cfg.HasPooler, cfg.Classes = true, len(head[bert.RoleClassBias])
	}
	m, err := bert.NewModel(dev, cfg, l)
	check(t, err)
	check(t, m.SetWeights(f.Roles(t, cfg, head)))
	return m
}

func names(t *testing.T, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(berttest.Path(t, "golden", pattern))
	check(t, err)
	var n []string
	for _, p := range all {
		if !strings.HasSuffix(p, ".batch.json") {
			n = append(n, filepath.Base(p))
		}
	}
	if len(n) < 2 {
		t.Fatalf("%s: goldens %v", pattern, n)
	}
	return n
}

// near compares a loss: 1e-5 relative, as float32 allows.
func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-5*math.Abs(want)) {
		t.Errorf("%s: %.9g, torch has %.9g", what, got, want)
	}
}

// Losses, outputs and every gradient of PyTorch, on every device.
func TestGradientGoldens(t *testing.T) {
	for _, dev := range berttest.Devices(t) {
		for _, name := range names(t, "grads-*.json") {
			t.Run(dev.Name+"/"+name, func(t *testing.T) {
				var g golden
				berttest.JSON(t, &g, "golden", name)
				var p berttest.Padded
				berttest.JSON(t, &p, "golden", g.Batch)
				b := p.Pack(t)
				m := g.model(t, dev, b.Limits())
				defer m.Free()
				r, grads, err := sifting.Gradients(m, b)
				check(t, err)
				near(t, "loss", r.Loss, g.Loss)
				near(t, "masked-LM loss", r.MLMLoss, g.MLMLoss)
				near(t, "next-sentence loss", r.NSPLoss, g.NSPLoss)
				near(t, "classification loss", r.ClassLoss, g.ClassLoss)
				want := berttest.Tensors(t, "golden", g.Tensors)
				compared := 0
				for role, w := range want {
					if strings.HasPrefix(role, "output.") {
						compareOutput(t, m, b, p, role, w)
						continue
					}
					got, ok := grads[role]
					if !ok || len(got) != len(w) {
						t.Errorf("%s: %d elements, torch has %d", role, len(got), len(w))
						continue
					}
					if d, norm := berttest.Distance(got, w); !(d <= 1e-4*norm+1e-6*g.Norm) {
						t.Errorf("%s: error %g of norm %g", role, d, norm)
					}
					compared++
				}
				if compared != len(grads) || compared < 20 {
					t.Errorf("compared %d gradients of %d", compared, len(grads))
				}
			})
		}
	}
}

// compareOutput holds the inference methods against torch's logits [S,L,V] or [S,C].
func compareOutput(t *testing.T, m *bert.Model, b *bert.Batch, p berttest.Padded, role string, want []float32) {
	t.Helper()
	var got []float32
	var err error
	switch role {
	case "output.mlm":
		v, width := m.Config().Vocab, len(p.IDs[0])
		rows := make([]int32, b.Rows)
		var picked []float32
		for s := range b.Seqs {
			for r := b.Offsets[s]; r < b.Offsets[s+1]; r++ {
				rows[r] = r
				at := (s*width + int(b.Positions[r])) * v
				picked = append(picked, want[at:at+v]...)
			}
		}
		want = picked
		got, err = m.MLMLogits(b, rows, nil)
	case "output.nsp":
		got, err = m.NSPLogits(b, nil)
	case "output.classifier":
		got, err = m.Classify(b, nil)
	default:
		t.Fatalf("unknown %s", role)
	}
	check(t, err)
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, torch has %d", role, len(got), len(want))
	}
	for i, w := range want {
		if math.Abs(float64(got[i]-w)) > 1e-5+1e-5*math.Abs(float64(w)) {
			t.Fatalf("%s[%d]: %g, torch has %g", role, i, got[i], w)
		}
	}
}

// Scores, kept sequences and the kept sequences' update at every exit layer, reused and
// naive, by loss and by entropy.
func TestSiftGoldens(t *testing.T) {
	type update struct {
		golden
	}
	var g struct {
		golden
		Aggregate string
		Exits     []struct {
			Layer         int
			Loss, Entropy []*float64
			Kept          []struct {
				Keep            float64
				ByLoss          []int  `json:"by_loss"`
				ByEntropy       []int  `json:"by_entropy"`
				UpdateByLoss    update `json:"update_by_loss"`
				UpdateByEntropy update `json:"update_by_entropy"`
			}
		}
	}
	for _, dev := range berttest.Devices(t) {
		for _, name := range names(t, "sift-*.json") {
			g.Exits = nil
			berttest.JSON(t, &g, "golden", name)
			var p berttest.Padded
			berttest.JSON(t, &p, "golden", g.Batch)
			b := p.Pack(t)
			exits := 0
			for _, e := range g.Exits {
				for _, k := range e.Kept {
					for _, score := range []sifting.Score{sifting.Loss, sifting.Entropy} {
						kept, u := k.ByLoss, k.UpdateByLoss
						if score == sifting.Entropy {
							kept, u = k.ByEntropy, k.UpdateByEntropy
						}
						t.Run(fmt.Sprintf("%s/%s/exit %d/keep %g/%s", dev.Name, name, e.Layer, k.Keep, score), func(t *testing.T) {
							m := g.model(t, dev, b.Limits())
							defer m.Free()
							s := newStepper(t, m, sifting.Options{Score: score, ExitLayer: e.Layer, Keep: k.Keep,
								Sum: g.Aggregate == "sum", Reuse: k.Keep != 0.3, ScoringDropout: true})
							scores, err := s.ScoresAt(b, e.Layer)
							check(t, err)
							for i, q := range scores {
								compareScore(t, "loss", i, q.Loss, e.Loss[i], q.Labelled)
								compareScore(t, "entropy", i, q.Entropy, e.Entropy[i], q.Labelled)
							}
							chosen, err := s.Select(scores, b.SampleID)
							check(t, err)
							if !slices.Equal(chosen, kept) {
								t.Fatalf("would keep %v, torch %v", chosen, kept)
							}
							r, err := s.Step(b, sifting.StepArgs{Select: true})
							check(t, err)
							if !slices.Equal(r.KeptIndex, kept) {
								t.Fatalf("kept %v, torch %v", r.KeptIndex, kept)
							}
							near(t, "loss", r.Loss, u.Loss)
							near(t, "masked-LM loss", r.MLMLoss, u.MLMLoss)
							near(t, "next-sentence loss", r.NSPLoss, u.NSPLoss)
							near(t, "classification loss", r.ClassLoss, u.ClassLoss)
							squares := 0.0
							for _, v := range grads(t, m) {
								squares += v * v
							}
							if n := math.Sqrt(squares); math.Abs(n-u.Norm) > 1e-4*u.Norm {
								t.Errorf("gradient norm %g, torch has %g", n, u.Norm)
							}
						})
						exits++
					}
				}
			}
			if exits < 12 {
				t.Errorf("%s: only %d cases", name, exits)
			}
		}
	}
}

func compareScore(t *testing.T, what string, i int, got float64, want *float64, labelled int) {
	t.Helper()
	if (want == nil) != (labelled == 0) {
		t.Fatalf("sequence %d has %d labels, torch's %s is %v", i, labelled, what, want)
	}
	if want == nil {
		if got != 0 {
			t.Errorf("sequence %d: %s %g without labels", i, what, got)
		}
		return
	}
	near(t, fmt.Sprintf("%s of sequence %d", what, i), got, *want)
}

// Ten AdamW updates with clipping and a schedule: loss, gradient norm and final weights.
func TestAdamWGoldens(t *testing.T) {
	var g struct {
		golden
		Beta1, Beta2, Eps float64
		Decay             float64   `json:"weight_decay"`
		Exclude           []string  `json:"decay_exclude"`
		Clip              float64   `json:"clip_norm"`
		LR                []float64 `json:"learning_rates"`
		Updates           []golden
		Batches           []berttest.Padded
	}
	for _, dev := range berttest.Devices(t) {
		for _, name := range names(t, "adamw-*.json") {
			t.Run(dev.Name+"/"+name, func(t *testing.T) {
				g.Head, g.Batches, g.Updates = "", nil, nil
				berttest.JSON(t, &g, "golden", name)
				l := bert.Limits{}
				var batches []*bert.Batch
				for _, p := range g.Batches {
					b := p.Pack(t)
					batches = append(batches, b)
					q := b.Limits()
					l = bert.Limits{Rows: max(l.Rows, q.Rows), Seqs: max(l.Seqs, q.Seqs), MaxLen: max(l.MaxLen, q.MaxLen), Labelled: max(l.Labelled, q.Labelled)}
				}
				m := g.model(t, dev, l)
				defer m.Free()
				st, n, float := m.Stream(), m.Parameters().Len(), dev.Info().Float
				moments, err := backend.Alloc(dev, float, 2, n)
				check(t, err)
				sum, err := backend.Alloc(dev, float, 1, 1)
				check(t, err)
				s := newStepper(t, m, sifting.Options{})
				for i, lr := range g.LR {
					u := g.Updates[i]
					r, err := s.Step(batches[i], sifting.StepArgs{Update: i})
					check(t, err)
					if math.Abs(r.Loss-u.Loss) > 1e-4*u.Loss {
						t.Errorf("update %d: loss %.9g, torch has %.9g", i, r.Loss, u.Loss)
					}
					st.SumSquares(sum, m.Grads())
					norm := make([]float64, 1)
					check(t, st.DownloadF64(norm, sum))
					if got := math.Sqrt(norm[0]); math.Abs(got-u.Norm) > 1e-3*u.Norm {
						t.Errorf("update %d: gradient norm %g, torch has %g", i, got, u.Norm)
					}
					for k, p := range m.Params() {
						if !m.Trainable(k) {
							continue
						}
						decay := g.Decay
						if p.Kind == bert.Bias || p.Kind == bert.Gamma || p.Kind == bert.Beta {
							decay = 0
						}
						of := func(t backend.Tensor) backend.Tensor { return t.ColRange(p.Offset, p.Len()) }
						st.AdamW(backend.AdamWArgs{Param: of(m.Parameters()), Grad: of(m.Grads()), M: of(moments.RowRange(0, 1)),
							V: of(moments.RowRange(1, 1)), SumSq: sum, ClipNorm: g.Clip, GradScale: 1, LR: lr, Beta1: g.Beta1,
							Beta2: g.Beta2, Eps: g.Eps, Decay: decay, Step: i + 1})
					}
				}
				got, err := m.Weights()
				check(t, err)
				lrs := 0.0
				for _, lr := range g.LR {
					lrs += lr
				}
				want := berttest.Tensors(t, "golden", g.Weights)
				compared := 0
				for k, p := range m.Params() {
					if !m.Trainable(k) {
						continue
					}
					limit := 1e-4 // of a largest change of about 1e-2
					if strings.HasSuffix(p.Role, "attention.key.bias") {
						limit = 2 * lrs // the softmax is blind to it: rounding errors, which Adam magnifies
					}
					for j, v := range want[p.Role] {
						if math.Abs(float64(got[p.Role][j]-v)) > limit {
							t.Fatalf("%s[%d]: %g, torch has %g", p.Role, j, got[p.Role][j], v)
						}
						compared++
					}
				}
				if compared < 1000 {
					t.Errorf("compared %d weights", compared)
				}
			})
		}
	}
}
