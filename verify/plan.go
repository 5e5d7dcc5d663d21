package verify

import (
	"slices"
)

// What is tried by default: one sequence, an odd few and a full batch; one
// token, an odd length, a common one and (added by plan) the longest possible.
var (
	defaultBatches = []int{1, 3, 8}
	defaultLengths = []int{1, 17, 128}
)

// shapes lists the batch sizes times lengths to try, cheapest first, cut to what the
// graph prescribes and to the longest sequence it can take.
func shapes(fixed Shape, longest int, batches, lengths []int) []Shape {
	if batches == nil {
		batches = defaultBatches
	}
	if lengths == nil {
		lengths = append(slices.Clone(defaultLengths), longest)
	}
	if fixed.Batch > 0 {
		batches = []int{fixed.Batch}
	}
	if fixed.Length > 0 {
		lengths, longest = []int{fixed.Length}, fixed.Length
	}
	list := []Shape{}
	for _, b := range batches {
		for _, l := range lengths {
			s := Shape{b, min(l, longest)}
			if b > 0 && s.Length > 0 && !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Shape) int { return a.Batch*a.Length - b.Batch*b.Length })
	return list
}

// softmaxCost is the same for an element of the attention scores, with its exponential.
const softmaxCost = 64

// outputCost is what an element of the logits costs beside its product, in multiply-adds:
// each is written, read and compared several times over, which for a small model and a
// large vocabulary is most of the work.
const outputCost = 256

// cost estimates the multiply-adds of a batch in one graph: every weight of a matrix
// once a token, tables that are only looked up excepted, and attention.
func (s *signature) cost(b Shape) float64 {
	tokens, length := float64(b.Batch*b.Length), float64(b.Length)
	if s.match == nil {
		weights := 0.0
		for _, t := range s.file.Initializers {
			if len(t.Dims) >= 2 {
				weights += float64(t.Len)
			}
		}
		return tokens * weights
	}
	c := s.match.Config
	h := float64(c.Hidden)
	perToken := float64(c.Layers) * (h*(4*h+2*float64(c.Intermediate)) + 2*length*h + softmaxCost*length*float64(c.Heads))
	if c.HasMLM {
		perToken += h*(h+float64(c.Vocab)) + outputCost*float64(c.Vocab)
	}
	return tokens * perToken
}

// afford splits shapes into those within the budget of multiply-adds and within the most
// elements of masked-LM logits (0: any number), the first one always, and the rest.
func (s *signature) afford(list []Shape, budget float64, elements int) (tried, not []Shape) {
	spent := 0.0
	for i, b := range list {
		large := elements > 0 && s.match != nil && s.match.Config.HasMLM && b.Batch*b.Length > elements/s.match.Config.Vocab
		if spent += s.cost(b); i > 0 && (spent > budget || large) {
			return list[:i], list[i:]
		}
	}
	return list, nil
}
