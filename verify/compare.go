package verify

import (
	"fmt"
	"math"
)

// comparison gathers the figures of one output.
type comparison struct {
	Figures
	tolerance Tolerance
	argmax    bool
	worst     float64 // largest excess over the tolerance
}

// add compares rows of width elements of one batch. want is the reference by which the
// relative difference is measured; skip says which rows belong to padding.
func (c *comparison) add(in *Inputs, got, want []float64, width int, skip func(row int) bool) {
	if width == 0 {
		return
	}
	for row := 0; row*width < len(want); row++ {
		if skip(row) {
			continue
		}
		g, w := got[row*width:(row+1)*width], want[row*width:(row+1)*width]
		for i := range w {
			c.element(in, row, i, g[i], w[i])
		}
		if c.argmax && width > 1 {
			c.ArgmaxRows++
			if largest(g) == largest(w) {
				c.ArgmaxAgree++
			}
		}
	}
}

func (c *comparison) element(in *Inputs, row, i int, got, want float64) {
	c.Elements++
	d := math.Abs(got - want)
	if math.IsNaN(d) || math.IsInf(d, 0) {
		c.NotFinite++
		if got == want { // the same infinity
			return
		}
		c.Outside++
		if !math.IsInf(c.worst, 1) {
			c.worst = math.Inf(1)
			c.Worst = fmt.Sprintf("%s: row %d, element %d: %g and %g", in, row, i, got, want)
		}
		return
	}
	c.MaxAbsolute = max(c.MaxAbsolute, d)
	if m := math.Abs(want); m >= c.tolerance.Absolute && m > 0 {
		c.MaxRelative = max(c.MaxRelative, d/m)
	}
	if excess := d - c.tolerance.Absolute - c.tolerance.Relative*math.Abs(want); excess > 0 {
		c.Outside++
		if excess > c.worst {
			c.worst = excess
			c.Worst = fmt.Sprintf("%s: row %d, element %d: %g and %g", in, row, i, got, want)
		}
	}
}

// largest returns the first position of the largest element.
func largest(x []float64) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}
