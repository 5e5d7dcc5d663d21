package text

// Order is the order in which a data set's examples are drawn: epoch after epoch, each a
// permutation of its own. A position in that stream is the sample id of dropout.
type Order struct {
	n    int
	seed uint64
}

// NewOrder returns the order of n examples under a seed.
func NewOrder(n int, seed uint64) *Order { return &Order{n: n, seed: seed} }

// At returns the example at a position of the stream: Shuffle(n, seed, position/n)[position%n].
// It remembers one epoch, so it is not safe for concurrent use.
func (o *Order) At(position uint64) int { return 0 }

// Shuffle returns the permutation of 0..n-1 that epoch draws under seed.
func Shuffle(n int, seed, epoch uint64) []int32 { return nil }
