package train

import (
	"math"
	"math/rand/v2"

	"sift/config"
)

// expectedExamples is how many examples stand for those of data that are not there.
const expectedExamples = 4096

// Sentences of English running text in WordPieces of bert-base-uncased: 29 on average in
// Austen, 32 in Melville and in WikiText, 33 in State of the Union messages, about as spread
// as a gamma distribution of shape 2; the reader cuts what is longer than 512 bytes.
const (
	sentenceMean    = 32
	longestSentence = 120
)

// expectedSizes are the sizes of masked-LM examples of text whose documents never end, cut
// as package text cuts them. They are the same in every call.
func expectedSizes(maxLength int, d config.Data) []exampleSize {
	r := rand.New(rand.NewPCG(1, 2))
	sentence := func() int { // the sum of two exponential variables
		n := -sentenceMean / 2 * (math.Log(1-r.Float64()) + math.Log(1-r.Float64()))
		return min(max(int(math.Round(n)), 1), longestSentence)
	}
	special := 2
	if d.NextSentence {
		special = 3
	}
	room := maxLength - special
	sizes := make([]exampleSize, expectedExamples)
	next := sentence()
	for i := range sizes {
		target := room
		if r.Float64() < d.ShortShare {
			target = 2 + r.IntN(room-1)
		}
		n := next
		if d.NextSentence { // until the target is reached, two sentences at least
			n += sentence()
			for n < target {
				n += sentence()
			}
			next = sentence()
		} else { // as many as the target holds, one at least
			for next = sentence(); n+next <= target; next = sentence() {
				n += next
			}
		}
		n = min(n, room)
		sizes[i] = exampleSize{n + special, maskedOf(n, d.MaskProbability)}
	}
	return sizes
}
