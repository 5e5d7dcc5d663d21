package eval

// broadcastDims returns the common shape of several operands under ONNX's
// multidirectional broadcasting: shapes are aligned at the last axis, and sizes must
// be equal or 1.
func (c *call) broadcastDims(operands ...*Tensor) []int {
	rank := 0
	for _, t := range operands {
		rank = max(rank, len(t.Dims))
	}
	dims := make([]int, rank)
	for i := range dims {
		dims[i] = 1
	}
	for _, t := range operands {
		for i, d := range t.Dims {
			at := rank - len(t.Dims) + i
			switch {
			case d == dims[at] || d == 1:
			case dims[at] == 1:
				dims[at] = d
			default:
				c.fail("shapes %s do not broadcast", shapesText(operands))
			}
		}
	}
	return dims
}

// contiguous returns the strides of a row-major array.
func contiguous(dims []int) []int {
	s := make([]int, len(dims))
	step := 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = step
		step *= dims[i]
	}
	return s
}

// stretched returns the strides with which an operand of shape dims is read to fill
// an output of shape out, zero along the axes where it is repeated.
func stretched(dims, out []int) []int {
	s := make([]int, len(out))
	own := contiguous(dims)
	for i, d := range dims {
		if d != 1 {
			s[len(out)-len(dims)+i] = own[i]
		}
	}
	return s
}

// walk visits an array of shape dims in row-major order, one innermost row at a time,
// following several operands with strides of their own. row receives the offset of
// the row in the output, its length n, and for each operand the offset of its first
// element and the step between elements. Adjacent axes that every operand crosses
// without a jump are merged first, so that equal shapes are a single row.
func walk(dims []int, strides [][]int, row func(o, n int, at, step []int)) {
	dims, strides = merge(dims, strides)
	last := len(dims) - 1
	n := dims[last]
	total := 1
	for _, d := range dims {
		total *= d
	}
	if total == 0 {
		return
	}
	at := make([]int, len(strides))
	step := make([]int, len(strides))
	for k, s := range strides {
		step[k] = s[last]
	}
	index := make([]int, last)
	for o := 0; o < total; o += n {
		row(o, n, at, step)
		for i := last - 1; i >= 0; i-- {
			index[i]++
			for k, s := range strides {
				at[k] += s[i]
			}
			if index[i] < dims[i] {
				break
			}
			for k, s := range strides {
				at[k] -= s[i] * dims[i]
			}
			index[i] = 0
		}
	}
}

// merge joins neighbouring axes where possible and gives scalars one axis.
func merge(dims []int, strides [][]int) ([]int, [][]int) {
	out := make([]int, 0, len(dims)+1)
	steps := make([][]int, len(strides))
	for i, d := range dims {
		if d == 1 {
			continue
		}
		joined := len(out) > 0
		for k := range strides {
			if joined && steps[k][len(out)-1] != strides[k][i]*d {
				joined = false
			}
		}
		if joined {
			out[len(out)-1] *= d
			for k := range strides {
				steps[k][len(out)-1] = strides[k][i]
			}
			continue
		}
		out = append(out, d)
		for k := range strides {
			steps[k] = append(steps[k], strides[k][i])
		}
	}
	if len(out) == 0 {
		out = append(out, 1)
		for k := range steps {
			steps[k] = append(steps[k], 0)
		}
	}
	return out, steps
}

// map2 fills out, of shape dims, with f of two broadcast operands.
func map2[A, O any](dims []int, out []O, a []A, aDims []int, b []A, bDims []int, f func(x, y A) O) {
	walk(dims, [][]int{stretched(aDims, dims), stretched(bDims, dims)}, func(o, n int, at, step []int) {
		i, j := at[0], at[1]
		for e := range n {
			out[o+e] = f(a[i], b[j])
			i += step[0]
			j += step[1]
		}
	})
}

// stretch fills out, of shape dims, with a repeated as broadcasting does.
func stretch[A any](dims []int, out []A, a []A, aDims []int) {
	walk(dims, [][]int{stretched(aDims, dims)}, func(o, n int, at, step []int) {
		gatherRow(out[o:o+n], a, at[0], step[0])
	})
}

// gatherRow copies len(out) elements of a, from offset at, step apart.
func gatherRow[A any](out, a []A, at, step int) {
	if step == 1 {
		copy(out, a[at:at+len(out)])
		return
	}
	for e := range out {
		out[e] = a[at]
		at += step
	}
}
