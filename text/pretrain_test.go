package text

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sift/fault"
)

// bertOptions are BERT's, at length 64.
var bertOptions = PretrainingOptions{MaxLength: 64, NextSentence: true, ShortShare: 0.1, MaskShare: 0.15, Replace: [3]float64{0.8, 0.1, 0.1}, Seed: 7}

func pretraining(t testing.TB, tok *Tokenizer, c *Corpus, o PretrainingOptions) *Pretraining {
	t.Helper()
	p, err := NewPretraining(tok, c, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sampleCorpus(t testing.TB) (*Tokenizer, *Corpus) {
	t.Helper()
	tok := load(t)
	c, err := tok.ReadCorpus(t.Context(), sample)
	if err != nil {
		t.Fatal(err)
	}
	return tok, c
}

// counting returns a tokenizer of n words after the five special tokens.
func counting(t testing.TB, n int) *Tokenizer {
	t.Helper()
	var b strings.Builder
	b.WriteString(special)
	for i := range n {
		b.WriteString("w" + strconv.Itoa(i) + "\n")
	}
	tok, err := Load(write(t, "vocab.txt", b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// countingCorpus has documents of sentences of the given lengths, in small shards. Its ids
// count up from 5 without repeating, so an id says where it stands.
func countingCorpus(t interface{ Fatal(...any) }, tok *Tokenizer, documents [][]int) *Corpus {
	m := &shardsInMemory{limit: 60}
	a := newAssembly(m)
	next := int32(5)
	for _, sentences := range documents {
		for _, n := range sentences {
			ids := make([]int32, n)
			for i := range ids {
				ids[i] = next
				next++
			}
			if err := a.sentence(ids); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.endDocument(); err != nil {
			t.Fatal(err)
		}
	}
	if int(next) > tok.VocabSize() {
		t.Fatal("the vocabulary is too small")
	}
	m.endShard()
	return newCorpus(newStore(m.shards), nil)
}

// spread returns documents of random shape, under a seed.
func spread(documents, sentences, longest int) [][]int {
	r := rand.New(rand.NewPCG(1, 2))
	d := make([][]int, documents)
	for i := range d {
		d[i] = make([]int, 1+r.IntN(sentences))
		for j := range d[i] {
			d[i][j] = 1 + r.IntN(longest)
		}
	}
	return d
}

// original returns an example's tokens before masking, without special ones, by segment.
func original(x *PretrainingExample) (a, b []int32) {
	for i, id := range x.IDs {
		if x.MLMLabels[i] != NoLabel {
			id = x.MLMLabels[i]
		} else if id < 5 {
			continue
		}
		if x.Types[i] == 0 {
			a = append(a, id)
		} else {
			b = append(b, id)
		}
	}
	return a, b
}

func clone(x *PretrainingExample) PretrainingExample {
	return PretrainingExample{IDs: slices.Clone(x.IDs), Types: slices.Clone(x.Types), MLMLabels: slices.Clone(x.MLMLabels), NSP: x.NSP}
}

func same(x, y *PretrainingExample) bool {
	return slices.Equal(x.IDs, y.IDs) && slices.Equal(x.Types, y.Types) && slices.Equal(x.MLMLabels, y.MLMLabels) && x.NSP == y.NSP
}

// problem checks what must hold of every example of a counting corpus; "" if it does.
func problem(c *Corpus, o PretrainingOptions, x *PretrainingExample) string {
	n := len(x.IDs)
	if n > o.MaxLength || len(x.Types) != n || len(x.MLMLabels) != n {
		return "lengths"
	}
	ends := 0
	labels := 0
	for i, id := range x.IDs {
		label := x.MLMLabels[i]
		if (id == 2) != (i == 0) && label == NoLabel || x.Types[i] != int32(ends) {
			return "[CLS] or types"
		}
		switch {
		case label != NoLabel && label < 5:
			return "a special token is masked"
		case label != NoLabel:
			labels++
		case id == 3:
			if ends++; !o.NextSentence && i < n-1 {
				return "a [SEP] within"
			}
		case id < 5 && i > 0:
			return "a special token"
		}
	}
	if want := map[bool]int{true: 2, false: 1}[o.NextSentence]; ends != want || x.IDs[n-1] != 3 {
		return "[SEP]"
	}
	a, b := original(x)
	if want := max(1, int(math.Round(o.MaskShare*float64(len(a)+len(b))))); labels != want {
		return "number of labels"
	}
	for _, s := range [][]int32{a, b} {
		for i, id := range s {
			if id != s[0]+int32(i) {
				return "a segment is not a run of the text"
			}
		}
	}
	if len(a) == 0 || (len(b) == 0) == o.NextSentence {
		return "an empty segment"
	}
	if documentOf(c, a[0]) != documentOf(c, a[len(a)-1]) {
		return "a segment spans documents"
	}
	if !o.NextSentence {
		if x.NSP != NoLabel {
			return "label without pairs"
		}
		return ""
	}
	if documentOf(c, b[0]) != documentOf(c, b[len(b)-1]) {
		return "a segment spans documents"
	}
	follows := documentOf(c, a[0]) == documentOf(c, b[0]) && b[0] > a[len(a)-1]
	full := n == o.MaxLength // may have lost tokens where they met
	switch x.NSP {
	case 0:
		if !follows || !full && b[0] != a[len(a)-1]+1 {
			return "b does not follow a"
		}
		if !startsSentence(c, b[0]) && !full {
			return "b is cut"
		}
	case 1:
		if c.Documents() > 1 && documentOf(c, a[0]) == documentOf(c, b[0]) {
			return "a random b is of the same document"
		}
		if follows && !full && b[0] == a[len(a)-1]+1 {
			return "a random b follows a"
		}
	default:
		return "next-sentence label"
	}
	return ""
}

// documentOf returns the document of a counting corpus that holds an id.
func documentOf(c *Corpus, id int32) int {
	return sort.Search(c.Documents(), func(i int) bool {
		end := c.passage(i).span()
		return end.s.appendTo(nil, end.hi-1, end.hi)[0] >= id
	})
}

// sentencesOfCounting returns the first id of each sentence of a counting corpus, and one
// beyond the last.
func sentencesOfCounting(c *Corpus) []int32 {
	starts := []int32{5}
	for _, s := range c.store.shards {
		for i := 1; i < len(s.starts); i++ {
			starts = append(starts, starts[len(starts)-1]+int32(s.starts[i]-s.starts[i-1]))
		}
	}
	return starts
}

func startsSentence(c *Corpus, id int32) bool {
	s := c.passage(documentOf(c, id)).s
	_, ok := slices.BinarySearch(s.starts, uint32(id-s.appendTo(nil, 0, 1)[0]))
	return ok
}

func TestPretrainingExamples(t *testing.T) {
	tok := counting(t, 30000)
	c := countingCorpus(t, tok, spread(40, 60, 30))
	for _, next := range []bool{true, false} {
		o := bertOptions
		o.NextSentence = next
		p := pretraining(t, tok, c, o)
		var x PretrainingExample
		random, total := 0, 0
		for epoch := range uint64(20) {
			for i := range p.Len() {
				p.Fill(&x, epoch, i)
				if s := problem(c, o, &x); s != "" {
					t.Fatalf("pairs %v, epoch %d, example %d: %s: %+v", next, epoch, i, s, x)
				}
				total++
				if x.NSP == 1 {
					random++
				}
			}
		}
		if sigma := math.Sqrt(float64(total)) / 2; next && math.Abs(float64(random)-float64(total)/2) > 4*sigma {
			t.Errorf("%d of %d pairs are random", random, total)
		}
		if total < 5000 {
			t.Errorf("%d examples are too few to tell", total)
		}
	}
}

// TestPretrainingShapes draws corpora and options, very short and very long sentences and
// a single document among them.
func TestPretrainingShapes(t *testing.T) {
	tok := counting(t, 30000)
	rapid.Check(t, func(r *rapid.T) {
		documents := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(1, 40), 1, 12), 1, 8).Draw(r, "documents")
		c := countingCorpus(r, tok, documents)
		o := PretrainingOptions{
			MaxLength:    rapid.IntRange(8, 80).Draw(r, "length"),
			NextSentence: rapid.Bool().Draw(r, "pairs") && c.Sentences() > 1,
			ShortShare:   rapid.SampledFrom([]float64{0, 0.1, 1}).Draw(r, "short"),
			MaskShare:    rapid.SampledFrom([]float64{1e-9, 0.15, 1}).Draw(r, "mask"),
			Replace:      rapid.SampledFrom([][3]float64{{0.8, 0.1, 0.1}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}}).Draw(r, "replace"),
			Seed:         rapid.Uint64().Draw(r, "seed"),
			Fixed:        rapid.Bool().Draw(r, "fixed"),
		}
		p, err := NewPretraining(tok, c, o)
		if err != nil {
			r.Fatal(err)
		}
		var x PretrainingExample
		seen := make(map[int32]int)
		for i := range p.Len() {
			p.Fill(&x, 0, i)
			if s := problem(c, o, &x); s != "" {
				r.Fatalf("example %d: %s: %+v", i, s, x)
			}
			a, _ := original(&x)
			for _, id := range a {
				seen[id]++
			}
			for i, id := range x.IDs {
				switch label := x.MLMLabels[i]; {
				case label == NoLabel:
				case o.Replace[0] == 1 && id != tok.MASK, o.Replace[2] == 1 && id != label:
					r.Fatalf("label %d became %d", label, id)
				}
			}
		}
		if o.NextSentence {
			return
		}
		// The first epoch has every token once, unless its sentence is too long.
		starts := sentencesOfCounting(c)
		if len(starts) != c.Sentences()+1 {
			r.Fatal("sentences")
		}
		for s := range c.Sentences() {
			lo, hi := starts[s], starts[s+1]
			whole := int(hi-lo) <= o.MaxLength-2
			have := 0
			for id := lo; id < hi; id++ {
				have += seen[id]
			}
			if whole && have != int(hi-lo) || !whole && have != o.MaxLength-2 {
				r.Fatalf("sentence %d: %d of %d tokens", s, have, hi-lo)
			}
		}
	})
}

// TestPairsCoverTheText: in a few epochs of pairs nearly all tokens are seen.
func TestPairsCoverTheText(t *testing.T) {
	tok := counting(t, 30000)
	c := countingCorpus(t, tok, spread(40, 60, 30))
	p := pretraining(t, tok, c, bertOptions)
	var x PretrainingExample
	seen := make(map[int32]bool)
	for epoch := range uint64(4) {
		for i := range p.Len() {
			p.Fill(&x, epoch, i)
			a, b := original(&x)
			for _, id := range append(a, b...) {
				seen[id] = true
			}
		}
		if share := float64(len(seen)) / float64(c.Tokens()); epoch == 0 && share < 0.8 || epoch == 3 && share < 0.99 {
			t.Errorf("after epoch %d %.3f of the tokens were seen", epoch, share)
		}
	}
}

// within reports whether k of n is within 4.5 standard deviations of probability p.
func within(k, n int, p float64) bool {
	return math.Abs(float64(k)-float64(n)*p) <= 4.5*math.Sqrt(float64(n)*p*(1-p))
}

func TestFewSentences(t *testing.T) {
	tok := counting(t, 200)
	o := bertOptions
	one := countingCorpus(t, tok, [][]int{{9}})
	if _, err := NewPretraining(tok, one, o); fault.KindOf(err) != fault.Data {
		t.Errorf("pairs of one sentence: %v", err)
	}
	// Two documents of a sentence each: only random pairs are possible.
	two := countingCorpus(t, tok, [][]int{{9}, {4}})
	p := pretraining(t, tok, two, o)
	var x PretrainingExample
	for epoch := range uint64(50) {
		for i := range p.Len() {
			if p.Fill(&x, epoch, i); x.NSP != 1 || len(x.IDs) != 16 {
				t.Fatalf("%+v", x)
			}
		}
	}
	// One document: a random b is any sentence but the one that follows.
	three := countingCorpus(t, tok, [][]int{{2, 2, 2}})
	o.MaxLength, o.ShortShare = 8, 0
	seen := make(map[[3]int32]bool)
	for o.Seed = range uint64(200) {
		p = pretraining(t, tok, three, o)
		for i := range p.Len() {
			epoch := uint64(0)
			p.Fill(&x, epoch, i)
			a, b := original(&x)
			seen[[3]int32{a[0] - 5, b[0] - 5, x.NSP}] = true
			if x.NSP == 1 && b[0] == a[len(a)-1]+1 {
				t.Fatal("a random b follows a")
			}
		}
	}
	for _, want := range [][3]int32{{0, 2, 0}, {0, 0, 1}, {0, 4, 1}, {2, 4, 0}, {2, 0, 1}} {
		if !seen[want] {
			t.Errorf("%v never came", want)
		}
	}
}

func TestPretrainingAllocates(t *testing.T) {
	tok, c := sampleCorpus(t)
	for _, next := range []bool{true, false} {
		o := bertOptions
		o.NextSentence = next
		p := pretraining(t, tok, c, o)
		var x PretrainingExample
		for i := range p.Len() {
			p.Fill(&x, 1, i)
		}
		i := 0
		if n := testing.AllocsPerRun(p.Len(), func() { p.Fill(&x, 1, i%p.Len()); i++ }); n > 0 {
			t.Errorf("pairs %v: %v allocations an example", next, n)
		}
	}
}

func TestPretrainingErrors(t *testing.T) {
	tok, c := sampleCorpus(t)
	for name, change := range map[string]func(*PretrainingOptions){
		"maximum length 7 ":                 func(o *PretrainingOptions) { o.MaxLength = 7 },
		"share of short sequences -0.1 ":    func(o *PretrainingOptions) { o.ShortShare = -0.1 },
		"share of short sequences NaN ":     func(o *PretrainingOptions) { o.ShortShare = math.NaN() },
		"mask probability 0 ":               func(o *PretrainingOptions) { o.MaskShare = 0 },
		"mask probability 1.5 ":             func(o *PretrainingOptions) { o.MaskShare = 1.5 },
		"mask probability NaN ":             func(o *PretrainingOptions) { o.MaskShare = math.NaN() },
		"mask replacement share -0.1 ":      func(o *PretrainingOptions) { o.Replace = [3]float64{0.9, 0.2, -0.1} },
		"mask replacement share NaN ":       func(o *PretrainingOptions) { o.Replace[1] = math.NaN() },
		"mask replacement shares [0.8 0 0]": func(o *PretrainingOptions) { o.Replace = [3]float64{0.8, 0, 0} },
	} {
		o := bertOptions
		change(&o)
		if _, err := NewPretraining(tok, c, o); fault.KindOf(err) != fault.Config || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	none, err := Load(write(t, "vocab.txt", strings.ReplaceAll(special, "[MASK]", "a")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPretraining(none, c, bertOptions); fault.KindOf(err) != fault.Data {
		t.Errorf("no [MASK]: %v", err)
	}
}

func BenchmarkPretrainingFill(b *testing.B) {
	tok, c := sampleCorpus(b)
	o := bertOptions
	o.MaxLength = 128
	p, err := NewPretraining(tok, c, o)
	if err != nil {
		b.Fatal(err)
	}
	var x PretrainingExample
	i := 0
	for b.Loop() {
		p.Fill(&x, 1, i%p.Len())
		i++
	}
}
