package text

import (
	"math"
	"slices"
	"testing"
)

func TestShuffle(t *testing.T) {
	// Fixed for good: a run that resumes relies on it.
	// The values are from a second implementation, in Python.
	if got, want := Shuffle(10, 1, 0), []int32{2, 6, 1, 8, 4, 3, 9, 0, 7, 5}; !slices.Equal(got, want) {
		t.Errorf("Shuffle(10, 1, 0) = %v, want %v", got, want)
	}
	if got, want := Shuffle(12, 0x123456789abcdef0, 5<<32|3), []int32{3, 9, 1, 10, 7, 0, 4, 5, 11, 6, 2, 8}; !slices.Equal(got, want) {
		t.Errorf("Shuffle(12, 0x123456789abcdef0, 5<<32|3) = %v, want %v", got, want)
	}
	for _, n := range []int{0, 1, 2, 3, 1000} {
		p := Shuffle(n, 42, 7)
		q := slices.Clone(p)
		slices.Sort(q)
		for i, v := range q {
			if int(v) != i {
				t.Fatalf("n = %d: not a permutation: %v", n, p)
			}
		}
		if len(p) != n {
			t.Fatal(len(p))
		}
	}
	base := Shuffle(1000, 42, 7)
	for _, other := range [][]int32{Shuffle(1000, 43, 7), Shuffle(1000, 42, 8), Shuffle(1000, 42, 7|1<<32), Shuffle(1000, 42|1<<32, 7)} {
		same := 0
		for i := range base {
			if base[i] == other[i] {
				same++
			}
		}
		if same > 10 {
			t.Errorf("%d of 1000 in the same place", same)
		}
	}
}

// TestShuffleUniform counts the 24 orders of 4 over 24,000 epochs; chi-squared with 23
// degrees of freedom exceeds 49.7 once in a thousand seeds, and this seed is fixed.
func TestShuffleUniform(t *testing.T) {
	counts := make(map[[4]int32]int)
	for epoch := range uint64(24000) {
		counts[[4]int32(Shuffle(4, 3, epoch))]++
	}
	chi := 0.0
	for _, n := range counts {
		chi += math.Pow(float64(n)-1000, 2) / 1000
	}
	if len(counts) != 24 || chi > 49.7 {
		t.Errorf("%d orders, chi-squared %.1f", len(counts), chi)
	}
}

func TestOrder(t *testing.T) {
	const n, seed = 37, 5
	o := NewOrder(n, seed)
	for _, position := range []uint64{0, 1, 36, 37, 38, 36, 0, 1 << 40, 37*9 + 4} {
		if got, want := o.At(position), Shuffle(n, seed, position/n)[position%n]; got != int(want) {
			t.Errorf("At(%d) = %d, want %d", position, got, want)
		}
	}
}
