package eval

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// Sizes of the blocks of a product: stripK rows of B by stripN columns are packed at a
// time (256 KiB, inside a second-level cache), and rowsPerTask rows of C are handed
// out at a time.
const (
	stripK      = 512
	stripN      = 64
	rowsPerTask = 32
)

// matrix is a view of a matrix in a slice: element (i, j) is data[at+i*row+j*col].
type matrix struct {
	data     []float64
	at       int
	row, col int
}

// strip is a packed block of B: groups of four columns, zero-padded, in each group
// row after row.
type strip struct {
	packed [stripK * stripN]float64
}

// gemm computes C += A B for C [m, n] row-major, A [m, k] and B [k, n], in plain
// float64 with k in ascending order.
func gemm(c []float64, a, b matrix, m, n, k int, s *strip) {
	var left [2][stripK]float64
	for p := 0; p < k; p += stripK {
		depth := min(stripK, k-p)
		for j := 0; j < n; j += stripN {
			width := min(stripN, n-j)
			s.pack(b, p, j, depth, width)
			for i := 0; i < m; i += 2 {
				rows := min(2, m-i)
				for r := range rows {
					gatherRow(left[r][:depth], a.data, a.at+(i+r)*a.row+p*a.col, a.col)
				}
				for q := 0; q < width; q += 4 {
					var acc [2][4]float64
					acc[0], acc[1] = twoByFour(left[0][:depth], left[1][:depth], s.packed[q*stripK:])
					for r := range rows {
						out := c[(i+r)*n+j+q:]
						for e := range min(4, width-q) {
							out[e] += acc[r][e]
						}
					}
				}
			}
		}
	}
}

func (s *strip) pack(b matrix, p, j, depth, width int) {
	for q := 0; q < width; q += 4 {
		group := s.packed[q*stripK:]
		for e := range 4 {
			if q+e >= width {
				for r := range depth {
					group[4*r+e] = 0
				}
				continue
			}
			at := b.at + p*b.row + (j+q+e)*b.col
			for r := range depth {
				group[4*r+e] = b.data[at]
				at += b.row
			}
		}
	}
}

// twoByFour multiplies two rows of A with four packed columns of B.
func twoByFour(a0, a1, b []float64) (r0, r1 [4]float64) {
	a1 = a1[:len(a0)]
	b = b[:4*len(a0)]
	var c00, c01, c02, c03, c10, c11, c12, c13 float64
	for p, x := range a0 {
		y := a1[p]
		v := b[4*p : 4*p+4 : 4*p+4]
		c00 += x * v[0]
		c01 += x * v[1]
		c02 += x * v[2]
		c03 += x * v[3]
		c10 += y * v[0]
		c11 += y * v[1]
		c12 += y * v[2]
		c13 += y * v[3]
	}
	return [4]float64{c00, c01, c02, c03}, [4]float64{c10, c11, c12, c13}
}

// parallel runs tasks 0..n-1 on up to GOMAXPROCS goroutines, each with a strip of its
// own, and stops handing them out once ctx is done.
func parallel(ctx context.Context, n int, task func(i int, s *strip)) {
	var next atomic.Int64
	work := func() {
		s := new(strip)
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			task(i, s)
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// spread cuts 0..n into one part for each processor, if there is enough to do, and
// runs them at the same time.
func spread(n int, part func(lo, hi int)) {
	workers := min(runtime.GOMAXPROCS(0), n/4096)
	if workers < 2 {
		part(0, n)
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { part(w*n/workers, (w+1)*n/workers) })
	}
	wg.Wait()
}

// product2D computes C += A B, cut into bands of rows. Every element of C is computed
// the same way whatever the cut.
func product2D(ctx context.Context, c []float64, a, b matrix, m, n, k int) {
	bands := (m + rowsPerTask - 1) / rowsPerTask
	if workers := runtime.GOMAXPROCS(0); bands > workers {
		bands = workers // fewer, longer bands: each packs B for itself
	}
	if bands == 0 {
		return
	}
	height := (m + bands - 1) / bands
	parallel(ctx, bands, func(i int, s *strip) {
		lo, hi := i*height, min((i+1)*height, m)
		if lo >= hi {
			return
		}
		part := a
		part.at += lo * a.row
		gemm(c[lo*n:hi*n], part, b, hi-lo, n, k, s)
	})
}
