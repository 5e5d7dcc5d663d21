package eval

import (
	"slices"
	"strings"
)

// opEinsum sums products over index letters, as numpy.einsum: "bij,bjk->bik". Without
// an arrow the output has the letters that occur once, in alphabetical order. An
// ellipsis is not supported.
func opEinsum(c *call) []*Tensor {
	equation := strings.ReplaceAll(c.attrString("equation", ""), " ", "")
	left, right, arrow := strings.Cut(equation, "->")
	terms := strings.Split(left, ",")
	if len(terms) != len(c.in) || len(equation) > 1000 {
		c.fail("equation %q for %d inputs", equation, len(c.in))
	}
	size := map[rune]int{}
	count := map[rune]int{}
	for i, term := range terms {
		t := c.float(i)
		if len(term) != len(t.Dims) {
			c.fail("term %q for shape %s", term, dimsText(t.Dims))
		}
		for a, letter := range term {
			if letter < 'A' || letter > 'z' {
				c.fail("equation %q is not supported", equation)
			}
			if d, seen := size[letter]; seen && d != t.Dims[a] {
				c.fail("index %c has sizes %d and %d", letter, d, t.Dims[a])
			}
			size[letter] = t.Dims[a]
			count[letter]++
		}
	}
	letters := []rune{}
	for l := range size {
		letters = append(letters, l)
	}
	slices.Sort(letters)
	output := []rune(right)
	if !arrow {
		for _, l := range letters {
			if count[l] == 1 {
				output = append(output, l)
			}
		}
	}
	dims := make([]int, len(output))
	for i, l := range output {
		d, seen := size[l]
		if !seen || slices.Contains(output[:i], l) {
			c.fail("output %q of equation %q", string(output), equation)
		}
		dims[i] = d
	}
	y := c.newFloat(c.float(0).DType, dims)
	// Output letters first, then the summed ones; walk visits every combination.
	order := slices.Clone(output)
	for _, l := range letters {
		if !slices.Contains(order, l) {
			order = append(order, l)
		}
	}
	all := make([]int, len(order))
	for i, l := range order {
		all[i] = size[l]
	}
	c.spend(all...)
	strides := [][]int{lettersStrides(order, output, dims)}
	for i, term := range terms {
		strides = append(strides, lettersStrides(order, []rune(term), c.in[i].Dims))
	}
	walk(all, strides, func(_, n int, at, step []int) {
		for e := range n {
			v := 1.0
			for i := range terms {
				v *= c.in[i].F[at[i+1]+e*step[i+1]]
			}
			y.F[at[0]+e*step[0]] += v
		}
	})
	return one(y)
}

// lettersStrides returns the stride of each letter of order in a tensor whose axes are
// named by term; a letter named twice walks the diagonal.
func lettersStrides(order, term []rune, dims []int) []int {
	own := contiguous(dims)
	s := make([]int, len(order))
	for i, l := range order {
		for a, t := range term {
			if t == l {
				s[i] += own[a]
			}
		}
	}
	return s
}
