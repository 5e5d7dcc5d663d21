package text

import "sift/backend/philox"

// Order is the order in which a data set's examples are drawn: epoch after epoch, each a
// permutation of its own. A position in that stream is the sample id of dropout.
type Order struct {
	n     int
	seed  uint64
	epoch uint64  // the one held
	perm  []int32 // nil at first
}

// NewOrder returns the order of n examples under a seed; n must be at least 1.
func NewOrder(n int, seed uint64) *Order {
	if n < 1 {
		panic("text: an order needs at least one example")
	}
	return &Order{n: n, seed: seed}
}

// At returns the example at a position of the stream: position = epoch*n + i holds
// Shuffle(n, seed, epoch)[i]. It keeps one epoch in memory, so it is not safe for
// concurrent use.
func (o *Order) At(position uint64) int {
	epoch, i := position/uint64(o.n), position%uint64(o.n)
	if o.perm == nil || o.epoch != epoch {
		o.perm, o.epoch = Shuffle(o.n, o.seed, epoch), epoch
	}
	return int(o.perm[i])
}

// orderSite stands where dropout has its site in the generator's counter, so that the
// order of the data shares no random bits with any mask.
const orderSite = 0xFFFF

// Shuffle returns the permutation of 0..n-1 that epoch draws under seed: Fisher and
// Yates from the top, each index by Lemire's unbiased reduction (ACM TOMACS 29, 2019) of
// 32-bit Philox words with
//
//	key = seed, counter = (word/4, orderSite, epoch mod 2^32, epoch>>32), word mod 4
//
// It is the same on every machine. n must be below 2^31.
func Shuffle(n int, seed, epoch uint64) []int32 {
	perm := make([]int32, n)
	for i := range perm {
		perm[i] = int32(i)
	}
	key := philox.Key(seed)
	var block [4]uint32
	used := uint32(0)
	word := func() uint32 {
		if used%4 == 0 {
			block = philox.Block(key, [4]uint32{used / 4, orderSite, uint32(epoch), uint32(epoch >> 32)})
		}
		used++
		return block[(used-1)%4]
	}
	for i := n - 1; i > 0; i-- {
		bound := uint32(i) + 1
		m := uint64(word()) * uint64(bound)
		if uint32(m) < bound {
			for reject := -bound % bound; uint32(m) < reject; {
				m = uint64(word()) * uint64(bound)
			}
		}
		j := m >> 32
		perm[i], perm[j] = perm[j], perm[i]
	}
	return perm
}
