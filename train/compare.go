package train

import (
	"context"
	"math"

	"sift/fault"
)

// z95 is the 97.5% quantile of the normal distribution.
const z95 = 1.959963984540054

// Wilson returns the 95% score interval of a share of which correct of n were seen
// (Wilson, JASA 22, 1927).
func Wilson(correct, n int) (lo, hi float64) {
	if n == 0 {
		return 0, 1
	}
	p, m := float64(correct)/float64(n), float64(n)
	centre := (p + z95*z95/(2*m)) / (1 + z95*z95/m)
	half := z95 / (1 + z95*z95/m) * math.Sqrt(p*(1-p)/m+z95*z95/(4*m*m))
	return max(0, centre-half), min(1, centre+half)
}

// Comparison is two classifiers on the same labelled examples.
type Comparison struct {
	N           int     `json:"n"`
	A           float64 `json:"a"` // accuracy
	B           float64 `json:"b"`
	OnlyA       int     `json:"only_a"`          // examples that A alone has right
	OnlyB       int     `json:"only_b"`          // and B alone
	Difference  float64 `json:"difference"`      // A - B
	Low         float64 `json:"difference_low"`  // 95% interval of the difference
	High        float64 `json:"difference_high"` //
	Probability float64 `json:"p_value"`         // of a split this uneven were both equally good: exact McNemar test, two-sided
}

// Compare evaluates two classifiers on one labelled file, each with its own tokenizer and
// maximum length; columns are opt's.
//
// The interval is for paired samples: with b and c the examples that one alone has right,
// each with 1/2 added, and m = n + 2, it is d +- z sqrt(b + c - m d^2) / m, d = (b - c) / m
// (Agresti and Min, Statistics in Medicine 24, 2005).
func Compare(ctx context.Context, a, b *Trained, file string, opt ReadOptions) (*Comparison, error) {
	var right [2][]bool
	for i, c := range []*Trained{a, b} {
		var err error
		if right[i], err = c.right(ctx, file, opt); err != nil {
			return nil, err
		}
	}
	if len(right[0]) != len(right[1]) {
		return nil, fault.New(fault.Missing, "%s: changed while it was read", file)
	}
	return compare(right[0], right[1]), nil
}

// right reports for each example of a labelled file whether c predicts its label.
func (c *Trained) right(ctx context.Context, file string, opt ReadOptions) ([]bool, error) {
	opt.Task.MaxLength = c.Task.MaxLength
	e, err := c.labelled(file, opt)
	if err != nil {
		return nil, err
	}
	right := make([]bool, e.Len())
	err = c.on(ctx, e, opt, func(i int, logits []float32) error {
		right[i] = argmax(logits) == int(e.Labels[i])
		return nil
	})
	return right, err
}

func compare(a, b []bool) *Comparison {
	c := &Comparison{N: len(a)}
	rightA, rightB := 0, 0
	for i := range a {
		if a[i] {
			rightA++
		}
		if b[i] {
			rightB++
		}
		switch {
		case a[i] && !b[i]:
			c.OnlyA++
		case b[i] && !a[i]:
			c.OnlyB++
		}
	}
	n := float64(c.N)
	c.A, c.B = float64(rightA)/n, float64(rightB)/n
	c.Difference = c.A - c.B
	m, x, y := n+2, float64(c.OnlyA)+0.5, float64(c.OnlyB)+0.5
	d := (x - y) / m
	half := z95 * math.Sqrt(max(0, x+y-m*d*d)) / m
	c.Low, c.High = max(-1, d-half), min(1, d+half)
	c.Probability = mcNemar(c.OnlyA, c.OnlyB)
	return c
}

// mcNemar is the two-sided exact test of b against c: twice the smaller tail of the
// binomial distribution of b + c fair throws, at most 1.
func mcNemar(b, c int) float64 {
	n, k := b+c, min(b, c)
	p, all := 0.0, logFactorial(n)
	for i := range k + 1 {
		p += math.Exp(all - logFactorial(i) - logFactorial(n-i) - float64(n)*math.Ln2)
	}
	return min(1, 2*p)
}

func logFactorial(n int) float64 {
	v, _ := math.Lgamma(float64(n) + 1)
	return v
}
