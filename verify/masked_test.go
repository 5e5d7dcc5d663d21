package verify_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/bert/berttest"
	"sift/onnx"
	"sift/onnx/eval"
	"sift/sifting"
	"sift/verify"
)

// maskedBatch draws a padded batch with zeros anywhere in its masks, the first position
// and whole tails included, and masked-LM labels on a third of the positions, masked or
// not. Every sequence keeps a valid key. It returns the batch padded and packed.
func maskedBatch(t testing.TB, m *onnx.Match, batch, length int, seed uint64) (verify.Inputs, [][]int32, []int32, *bert.Batch) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 6))
	c := m.Config
	in := verify.Inputs{Batch: batch, Length: length}
	var ids, mask, types, labels [][]int32
	var nsp []int32
	rows := func(p *[][]int32) []int32 { *p = append(*p, make([]int32, length)); return (*p)[len(*p)-1] }
	hidden := 0 // labels on masked positions
	for range batch {
		id, valid, kind, label := rows(&ids), rows(&mask), rows(&types), rows(&labels)
		share := r.Float64()
		keep := r.IntN(length)
		for i := range length {
			id[i], kind[i], label[i] = int32(r.IntN(c.Vocab)), int32(r.IntN(c.TypeVocab)), bert.NoLabel
			if r.Float64() > share || i == keep {
				valid[i] = 1
			}
			if r.IntN(3) == 0 {
				label[i] = int32(r.IntN(c.Vocab))
				hidden += 1 - int(valid[i])
			}
			in.IDs, in.Mask, in.Types = append(in.IDs, int64(id[i])), append(in.Mask, int64(valid[i])), append(in.Types, int64(kind[i]))
		}
		nsp = append(nsp, int32(r.IntN(2)))
	}
	if hidden == 0 {
		t.Errorf("seed %d: no label on a masked position", seed)
	}
	if !c.HasNSP {
		nsp = nil
	}
	b, err := bert.PackPadded(ids, mask, types, labels, nsp, nil, nil)
	check(t, err)
	return in, labels, nsp, b
}

// paddedLoss computes the masked-LM loss plus the next-sentence loss from the outputs of
// the padded graph, in float64: the formulation with which the packed one must agree.
func paddedLoss(t testing.TB, m *onnx.Match, in verify.Inputs, labels [][]int32, nsp []int32) (loss float64, logits []float64) {
	t.Helper()
	g, err := eval.New(m.File)
	check(t, err)
	got, err := g.Run(feed(t, m, in))
	check(t, err)
	for _, o := range m.Outputs {
		y := got[o.Name]
		width := y.Dims[len(y.Dims)-1]
		sum, n := 0.0, 0
		each := func(row int, label int32) {
			if label != bert.NoLabel {
				x := y.F[row*width:][:width]
				sum, n = sum+crossEntropy(x, int(label)), n+1
				if o.Kind == "mlm" {
					logits = append(logits, x...)
				}
			}
		}
		switch o.Kind {
		case "mlm":
			for s := range labels {
				for i, label := range labels[s] {
					each(s*in.Length+i, label)
				}
			}
		case "nsp":
			for s, label := range nsp {
				each(s, label)
			}
		default:
			t.Fatalf("output %v", o)
		}
		loss += sum / float64(n)
	}
	return loss, logits
}

func crossEntropy(logits []float64, label int) float64 {
	highest, sum := math.Inf(-1), 0.0
	for _, v := range logits {
		highest = max(highest, v)
	}
	for _, v := range logits {
		sum += math.Exp(v - highest)
	}
	return highest + math.Log(sum) - logits[label]
}

// TestMasksAndLabelsAnywhere holds the engine on packed rows against the imported graph on
// padded ones, where masks have zeros anywhere and labels stand on masked positions too:
// the logits at every label, the loss, and the gradient. The gradient is compared along
// random directions with the difference of the losses of two stored files whose weights
// lie on both sides; their rounding to float32 is accounted for.
func TestMasksAndLabelsAnywhere(t *testing.T) {
	ran := 0
	for _, x := range berttest.Fixtures(t) {
		if !strings.HasPrefix(x.File, "pretraining") && !strings.HasPrefix(x.File, "masked_lm") || strings.Contains(x.File, "static") {
			continue
		}
		ran++
		t.Run(x.File, func(t *testing.T) {
			_, m := recognise(t, filepath.Join(fixtures, x.File))
			w, err := onnx.Load(m)
			check(t, err)
			for seed := range uint64(4) {
				in, labels, nsp, b := maskedBatch(t, m, 5, 11, seed)
				want, wantLogits := paddedLoss(t, m, in, labels, nsp)
				for _, dev := range []backend.Device{cpu.NewReference(backend.F32), processor(t)} {
					loss, logits, gradients := packedLoss(t, dev, m, w, b)
					if !(math.Abs(loss-want) <= 1e-5*want) {
						t.Errorf("seed %d: loss %.9g, padded %.9g", seed, loss, want)
					}
					if len(logits) != len(wantLogits) || len(logits) == 0 {
						t.Fatalf("%d logits, padded %d", len(logits), len(wantLogits))
					}
					for i, v := range logits {
						if !(math.Abs(float64(v)-wantLogits[i]) <= 1e-5+1e-5*math.Abs(wantLogits[i])) {
							t.Fatalf("seed %d: logit %d is %g, padded %g", seed, i, v, wantLogits[i])
						}
					}
					along(t, m, w, gradients, in, labels, nsp, seed)
				}
			}
		})
	}
	if ran < 5 {
		t.Errorf("only %d fixtures", ran)
	}
}

// packedLoss is paddedLoss by the engine, with the gradient of every parameter.
func packedLoss(t testing.TB, dev backend.Device, m *onnx.Match, w bert.Weights, b *bert.Batch) (float64, []float32, bert.Weights) {
	t.Helper()
	model, err := bert.NewModel(dev, m.Config, b.Limits())
	check(t, err)
	defer model.Free()
	check(t, model.SetWeights(w))
	logits, err := model.MLMLogits(b, b.MLMRows, nil)
	check(t, err)
	r, gradients, err := sifting.Gradients(model, b)
	check(t, err)
	return r.Loss, logits, gradients
}

// along compares gradients with the padded loss at two points near w.
func along(t *testing.T, m *onnx.Match, w, gradients bert.Weights, in verify.Inputs, labels [][]int32, nsp []int32, seed uint64) {
	t.Helper()
	const step = 1e-4
	params, err := bert.Params(m.Config)
	check(t, err)
	sides := [2]bert.Weights{{}, {}}
	slope, norm := 0.0, 0.0
	r := rand.New(rand.NewPCG(seed, 8))
	for _, p := range params {
		up, down := make([]float32, p.Len()), make([]float32, p.Len())
		for i, v := range w[p.Role] {
			d := float32(step * r.NormFloat64())
			up[i], down[i] = v+d, v-d
			apart, g := float64(up[i])-float64(down[i]), float64(gradients[p.Role][i])
			slope, norm = slope+g*apart, norm+g*g
		}
		sides[0][p.Role], sides[1][p.Role] = up, down
	}
	var losses [2]float64
	for i, v := range sides {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.onnx", i))
		_, err := onnx.Store(m, v, path)
		check(t, err)
		_, at := recognise(t, path)
		losses[i], _ = paddedLoss(t, at, in, labels, nsp)
	}
	// 2 step |gradient| is how much the loss typically changes along a random direction.
	limit := 1e-4 * 2 * step * math.Sqrt(norm)
	if got := losses[0] - losses[1]; !(math.Abs(got-slope) <= limit) || slope == 0 {
		t.Errorf("seed %d: the padded loss changes by %g, the packed gradient says %g (limit %g)", seed, got, slope, limit)
	}
}

// TestGoldensMask: what PyTorch's goldens are there for is in them: a hole in a mask, a
// masked first position, a label on a masked position, a sequence with a single valid key,
// and one without labels.
func TestGoldensMask(t *testing.T) {
	list, err := filepath.Glob(berttest.Path(t, "golden", "grads-*.batch.json"))
	check(t, err)
	found := map[string]int{}
	for _, path := range list {
		var p berttest.Padded
		berttest.JSON(t, &p, "golden", filepath.Base(path))
		for s, mask := range p.Mask {
			valid, labelled, first := 0, 0, -1
			for i, v := range mask {
				valid += int(v)
				if v == 1 && first >= 0 && i > first+1 && mask[i-1] == 0 {
					found["a hole"]++
				}
				if v == 1 && first < 0 {
					first = i
				}
				if p.MLM != nil && p.MLM[s][i] != bert.NoLabel {
					labelled++
					if v == 0 {
						found["a label on a masked position"]++
					}
				}
			}
			if mask[0] == 0 {
				found["a masked first position"]++
			}
			if valid == 1 {
				found["a single valid key"]++
			}
			if p.MLM != nil && labelled == 0 {
				found["no labels"]++
			}
		}
	}
	for _, what := range []string{"a hole", "a masked first position", "a label on a masked position", "a single valid key", "no labels"} {
		if found[what] < 2 {
			t.Errorf("%s: in %d sequences of %d goldens", what, found[what], len(list))
		}
	}
}
