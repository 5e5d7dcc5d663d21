package cpu

import "sift/backend"

// Gemm sets C to act(Alpha op(A) op(B) + Beta C + bias). Row i of C is a function of row
// i of op(A) alone, the sum over k running upwards.
func (r *reference[T]) Gemm(a backend.GemmArgs) error {
	c, am, bm := view[T](a.C), view[T](a.A), view[T](a.B)
	pre := view[T](a.Pre)
	n, k := a.C.Cols, a.A.Cols
	if a.TransA {
		k = a.A.Rows
	}
	if c.rows == 0 || n == 0 {
		return nil
	}
	var bias []T
	if !a.Bias.Absent() {
		bias = view[T](a.Bias).row(0)
	}
	scratch := r.floats(n + k)
	sum, left := scratch[:n], scratch[n:]
	for i := range c.rows {
		if a.TransA {
			for p := range left {
				left[p] = float64(am.data[p*am.stride+i])
			}
		} else if k > 0 {
			convert(left, am.row(i))
		}
		if a.TransB {
			for j := range sum {
				sum[j] = 0
				if k > 0 {
					sum[j] = dot(left, bm.row(j))
				}
			}
		} else {
			clear(sum)
			for p, v := range left {
				axpy(sum, v, bm.row(p))
			}
		}
		cr := c.row(i)
		for j, s := range sum {
			s *= a.Alpha
			if a.Beta != 0 {
				s += a.Beta * float64(cr[j])
			}
			if bias != nil {
				s += float64(bias[j])
			}
			if pre.rows > 0 {
				pre.data[i*pre.stride+j] = T(s)
			}
			cr[j] = T(activate(a.Act, s))
		}
	}
	return nil
}

// dot returns the sum of x_i y_i in float64.
func dot[T float32 | float64](x []float64, y []T) float64 {
	var s float64
	for i, v := range x {
		s += v * float64(y[i])
	}
	return s
}

// axpy adds a x to y.
func axpy[T float32 | float64](y []float64, a float64, x []T) {
	for i, v := range x {
		y[i] += a * float64(v)
	}
}

// ColSum adds the sum over the rows of src to dst: the gradient of Gemm's bias.
func (r *reference[T]) ColSum(dst, src backend.Tensor) error {
	sm := view[T](src)
	if sm.rows == 0 {
		return nil
	}
	sum := r.floats(sm.cols)
	clear(sum)
	for i := range sm.rows {
		axpy(sum, 1, sm.row(i))
	}
	accumulate[T](dst, sum)
	return nil
}

// accumulate adds sum to the row vector dst, unless it is absent.
func accumulate[T float32 | float64](dst backend.Tensor, sum []float64) {
	if dst.Absent() {
		return
	}
	dr := view[T](dst).row(0)
	for j, v := range sum {
		dr[j] = T(float64(dr[j]) + v)
	}
}
