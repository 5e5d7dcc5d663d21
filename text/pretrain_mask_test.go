package text

import (
	"math"
	"slices"
	"testing"
)

func TestMasking(t *testing.T) {
	tok, c := sampleCorpus(t)
	for _, o := range []PretrainingOptions{
		bertOptions,
		{MaxLength: 128, MaskShare: 0.4, Replace: [3]float64{0.5, 0.3, 0.2}, Seed: 3},
	} {
		p := pretraining(t, tok, c, o)
		var x PretrainingExample
		tokens, labels, masked, kept, early, earlyTokens := 0, 0, 0, 0, 0, 0
		replaced := make(map[int32]int)
		for epoch := uint64(0); tokens < 200000; epoch++ {
			for i := range p.Len() {
				p.Fill(&x, epoch, i)
				n, k := 0, 0
				for j, id := range x.IDs {
					label := x.MLMLabels[j]
					first := j < len(x.IDs)/2
					if label == NoLabel {
						if !p.isSpecial(id) {
							n++
							if first {
								earlyTokens++
							}
						}
						continue
					}
					n++
					k++
					if first {
						early++
						earlyTokens++
					}
					switch {
					case p.isSpecial(label):
						t.Fatal("a special token is masked")
					case id == tok.MASK:
						masked++
					case id == label:
						kept++
					default:
						replaced[id]++
					}
				}
				if want := max(1, int(math.Round(o.MaskShare*float64(n)))); k != want {
					t.Fatalf("%d of %d tokens masked", k, n)
				}
				tokens += n
				labels += k
			}
		}
		random := labels - masked - kept
		if !within(masked, labels, o.Replace[0]) || !within(random, labels, o.Replace[1]) || !within(kept, labels, o.Replace[2]) {
			t.Errorf("of %d labels %d are masked, %d random, %d kept", labels, masked, random, kept)
		}
		// Rounding moves the share of all tokens by little; where masks fall does not matter.
		if share := float64(labels) / float64(tokens); math.Abs(share-o.MaskShare) > 0.003 {
			t.Errorf("%.4f of the tokens are masked", share)
		}
		if !within(early, labels, float64(earlyTokens)/float64(tokens)) {
			t.Errorf("%d of %d labels in the first halves, which have %d of %d tokens", early, labels, earlyTokens, tokens)
		}
		// Random tokens are uniform: the lower half of the ids has half of them, and few
		// come often.
		low, most := 0, 0
		for id, k := range replaced {
			if id < 30522/2 {
				low += k
			}
			most = max(most, k)
		}
		if !within(low, random, 0.5) || most > 12 || len(replaced) < random/2 {
			t.Errorf("%d of %d random tokens in the lower half, one %d times, %d different", low, random, most, len(replaced))
		}
	}
}

// TestMaskingIsUniform counts how often each position of one example is masked, over
// epochs: its tokens are the same in each.
func TestMaskingIsUniform(t *testing.T) {
	tok := counting(t, 100)
	c := countingCorpus(t, tok, [][]int{{20}})
	p := pretraining(t, tok, c, PretrainingOptions{MaxLength: 32, MaskShare: 0.15, Replace: [3]float64{1, 0, 0}, Seed: 1})
	const epochs = 20000
	var counts [22]int
	pairs := 0
	var x PretrainingExample
	for epoch := range uint64(epochs) {
		p.Fill(&x, epoch, 0)
		for i, label := range x.MLMLabels {
			if label != NoLabel {
				counts[i]++
			}
		}
		if x.MLMLabels[4] != NoLabel && x.MLMLabels[9] != NoLabel {
			pairs++
		}
	}
	for i, n := range counts {
		if i == 0 || i == 21 {
			if n > 0 {
				t.Error("a special token is masked")
			}
		} else if !within(n, epochs, 3.0/20) {
			t.Errorf("position %d is masked %d times of %d", i, n, epochs)
		}
	}
	if !within(pairs, epochs, 3.0/20*2/19) {
		t.Errorf("two positions are masked together %d times", pairs)
	}
}

func TestMaskingSpecial(t *testing.T) {
	tok := load(t)
	c, err := tok.ReadCorpus(t.Context(), write(t, "x.txt", "A [MASK] here. [SEP] and [CLS] there. \u2603\u2603 is unknown. Also [PAD] too.\n\n= T =\n\n\u2603 \u2603. \n"))
	if err != nil {
		t.Fatal(err)
	}
	o := PretrainingOptions{MaxLength: 64, MaskShare: 1, Replace: [3]float64{1, 0, 0}}
	p := pretraining(t, tok, c, o)
	var x PretrainingExample
	labels := make(map[int32]int)
	for i := range p.Len() {
		p.Fill(&x, 0, i)
		for _, label := range x.MLMLabels {
			labels[label]++
		}
	}
	for _, word := range []string{"a", "here", "and", "there", "is", "also", "too", "t"} {
		if id, _ := tok.ID(word); labels[int32(id)] != 1 {
			t.Errorf("%q is masked %d times", word, labels[int32(id)])
		}
	}
	for _, id := range p.special {
		if labels[id] > 0 {
			t.Errorf("%s is masked", tok.Token(int(id)))
		}
	}
	// Nothing but special tokens: no labels and no trouble.
	m := &shardsInMemory{}
	a := newAssembly(m)
	if err := a.sentence([]int32{tok.UNK, tok.MASK, tok.UNK}); err != nil {
		t.Fatal(err)
	}
	if err := a.endDocument(); err != nil {
		t.Fatal(err)
	}
	m.endShard()
	snow := newCorpus(newStore(m.shards), nil)
	pretraining(t, tok, snow, o).Fill(&x, 0, 0)
	if !slices.Equal(x.MLMLabels, []int32{NoLabel, NoLabel, NoLabel, NoLabel, NoLabel}) || !slices.Equal(x.IDs, []int32{tok.CLS, tok.UNK, tok.MASK, tok.UNK, tok.SEP}) {
		t.Errorf("%+v", x)
	}
}
