package train

import (
	"math"
	"testing"

	"sift/backend"
	"sift/backend/vulkan"
	"sift/bert"
	"sift/sifting"
)

// baseGradients is the loss and all gradients of one masked-LM and next-sentence update of
// BERT base, 2 sequences of 128 tokens with dropout, from weights of one seed.
func baseGradients(t *testing.T, dev backend.Device) (loss float64, grads []float32, params []bert.Param) {
	t.Helper()
	o := BenchOptions{Device: dev, Seqs: 2, Length: 128, Seed: 1, Model: bert.Config{Layers: 12, Hidden: 768, Heads: 12,
		Intermediate: 3072, Vocab: 30522, Positions: 512, TypeVocab: 2, Activation: backend.GeluErf, Eps: 1e-12,
		HasPooler: true, HasMLM: true, HasNSP: true, TiedDecoder: true}}
	const labelled = 19
	limits := bert.Limits{Rows: o.Seqs * o.Length, Seqs: o.Seqs, MaxLen: o.Length, Labelled: o.Seqs * labelled}
	model, err := bert.NewModel(dev, o.Model, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Free()
	if err := model.SetObjective(bert.Objective{MLM: true, NSP: true}); err != nil {
		t.Fatal(err)
	}
	if err := model.Init(o.Seed); err != nil {
		t.Fatal(err)
	}
	stepper, err := sifting.NewStepper(model, sifting.Options{Keep: 1, MicroBatch: o.Seqs, Dropout: 0.1, AttentionDropout: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	packer := bert.NewPacker(limits)
	packer.NextSentence = true
	randomBatch(packer, o, o.Seqs, labelled, 0)
	r, err := stepper.Step(packer.Batch(), sifting.StepArgs{Seed: o.Seed})
	if err != nil {
		t.Fatal(err)
	}
	grads = make([]float32, model.Grads().Len())
	if err := model.Stream().DownloadF32(grads, model.Grads()); err != nil {
		t.Fatal(err)
	}
	return r.Loss, grads, model.Params()
}

// TestVulkanBaseGradients: every gradient of an update of BERT base on Vulkan lies within a
// thousandth of its norm, and a millionth of the norm of all, of the processor's.
func TestVulkanBaseGradients(t *testing.T) {
	if testing.Short() {
		t.Skip("a step of BERT base takes a minute on a software driver")
	}
	gradientsAsTheProcessor(t, vulkanDevice(t, vulkan.Options{}))
}

func gradientsAsTheProcessor(t *testing.T, dev backend.Device) {
	t.Helper()
	wantLoss, want, params := baseGradients(t, processor(t))
	loss, got, _ := baseGradients(t, dev)
	norm := func(x []float32) float64 {
		var sum float64
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		return math.Sqrt(sum)
	}
	global := norm(want)
	var worst float64
	for _, p := range params {
		g, w := got[p.Offset:p.Offset+p.Len()], want[p.Offset:p.Offset+p.Len()]
		apart := make([]float32, len(w))
		for i := range w {
			apart[i] = g[i] - w[i]
		}
		allowed := 1e-3*norm(w) + 1e-6*global
		if d := norm(apart); !(d <= allowed) {
			t.Errorf("%s: gradient is %.3g from the processor's of norm %.3g", p.Role, d, norm(w))
		} else {
			worst = max(worst, d/allowed)
		}
	}
	if math.Abs(loss-wantLoss) > 1e-4*wantLoss {
		t.Errorf("the loss is %g, on the processor %g", loss, wantLoss)
	}
	t.Logf("loss %.6f and %.6f, %d gradients of norm %.4g, the worst at %.2f%% of what is allowed", loss, wantLoss, len(params), global, 100*worst)
}
