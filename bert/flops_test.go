package bert_test

import (
	"math"
	"testing"

	"sift/bert"
)

// The figures are BERT-base's, with 15% of the tokens labelled: 69.8 GFLOP a sequence of 128 tokens and 301 of 512.
func TestStepFLOPsOfBertBase(t *testing.T) {
	c := bert.Config{Layers: 12, Hidden: 768, Heads: 12, Intermediate: 3072, Vocab: 30522, HasMLM: true, HasNSP: true, HasPooler: true}
	for _, x := range []struct {
		n      int
		gflops float64
	}{{128, 69.8}, {512, 301}} {
		b := &bert.Batch{Seqs: 100, Rows: 100 * x.n, Offsets: make([]int32, 101), MLMRows: make([]int32, 15*x.n), NSPLabels: make([]int32, 100)}
		for s := range b.Offsets {
			b.Offsets[s] = int32(s * x.n)
		}
		got := c.StepFLOPs(b) / 100 / 1e9
		if math.Abs(got-x.gflops) > 0.005*x.gflops {
			t.Errorf("length %d: %.1f GFLOP a sequence, want %.1f", x.n, got, x.gflops)
		}
	}
}
