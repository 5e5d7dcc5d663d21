package text

import "sift/backend/philox"

// Sites of data in the counters of the generator, from the top of the range of 16 bits
// that dropout numbers from below: the two share no random bits. Together with
//
//	orderSite = 0xFFFF	the order of examples, see Shuffle
//
// these are all that package text draws from.
const (
	documentSite = 0xFFFE // the order in which an epoch walks the documents
	segmentSite  = 0xFFFD // lengths, segments, next-sentence labels, truncation
	maskSite     = 0xFFFC // which tokens are masked, and by what
	splitSite    = 0xFFFB // which documents are held out
)

// draws is an endless stream of random words that belongs to one item (an example, say)
// of one epoch at one site:
//
//	key = seed, counter = (word/4, site | (epoch>>32)<<16, epoch mod 2^32, item), word mod 4
//
// Epochs must be below 2^48.
type draws struct {
	key     [2]uint32
	counter [4]uint32
	block   [4]uint32
	used    int // words of block
}

func newDraws(seed uint64, site uint32, epoch uint64, item uint32) draws {
	return draws{
		key:     philox.Key(seed),
		counter: [4]uint32{0, site | uint32(epoch>>32)<<16, uint32(epoch), item},
		used:    4,
	}
}

// word returns the next word.
func (d *draws) word() uint32 {
	if d.used == len(d.block) {
		d.block = philox.Block(d.key, d.counter)
		d.counter[0]++
		d.used = 0
	}
	d.used++
	return d.block[d.used-1]
}

// below returns a uniform integer in [0, n), n >= 1, by the unbiased reduction of Lemire
// (ACM TOMACS 29, 2019), which takes one word and very seldom more.
func (d *draws) below(n uint32) uint32 {
	m := uint64(d.word()) * uint64(n)
	if uint32(m) < n {
		for reject := -n % n; uint32(m) < reject; {
			m = uint64(d.word()) * uint64(n)
		}
	}
	return uint32(m >> 32)
}

// chance returns true with probability threshold / 2^32.
func (d *draws) chance(threshold uint64) bool { return uint64(d.word()) < threshold }

// threshold turns a probability from 0 to 1 into one of chance's.
func threshold(p float64) uint64 { return uint64(p * (1 << 32)) }
