// Package philox is the counter-based random generator Philox4x32-10 of Salmon,
// Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
// A value depends on nothing but its key and counter, so any device can make any
// element of any mask in any order.
package philox

const (
	m0 = 0xD2511F53
	m1 = 0xCD9E8D57
	w0 = 0x9E3779B9
	w1 = 0xBB67AE85
)

// Block returns the four 32-bit words of counter c under key k.
func Block(k [2]uint32, c [4]uint32) [4]uint32 {
	k0, k1 := k[0], k[1]
	for range 10 {
		p0 := uint64(m0) * uint64(c[0])
		p1 := uint64(m1) * uint64(c[2])
		c = [4]uint32{uint32(p1>>32) ^ c[1] ^ k0, uint32(p1), uint32(p0>>32) ^ c[3] ^ k1, uint32(p0)}
		k0 += w0
		k1 += w1
	}
	return c
}

// Key splits a 64-bit seed into a Philox key.
func Key(seed uint64) [2]uint32 { return [2]uint32{uint32(seed), uint32(seed >> 32)} }

// Dropout returns the word that decides whether an element is dropped: element is
// its index within its sequence's tensor at the site, update the number of the
// optimiser update, sample the position in the data stream (below 2^48).
//
//	counter = (element/4, site | (sample>>32)<<16, update, sample mod 2^32), word element mod 4
func Dropout(seed uint64, site, update uint32, sample uint64, element uint64) uint32 {
	c := [4]uint32{uint32(element / 4), site | uint32(sample>>32)<<16, update, uint32(sample)}
	return Block(Key(seed), c)[element%4]
}

// Threshold returns the smallest word that is kept under dropout probability p:
// an element is dropped if and only if its word is below floor(p * 2^32).
func Threshold(p float64) uint32 { return uint32(p * (1 << 32)) }
