//go:build cuda && cgo && linux

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"sift/backend"
)

// host is a matrix with its elements as they are stored, rounded to the tensor's type.
type host struct {
	rows, cols int
	v          []float64
}

func (h host) at(i, j int, transposed bool) float64 {
	if transposed {
		i, j = j, i
	}
	return h.v[i*h.cols+j]
}

// asStored is x as a tensor of type t holds it.
func asStored(t backend.DType, x float64) float64 {
	if t == backend.BF16 {
		return float64(fromBF16(toBF16(float32(x))))
	}
	return float64(float32(x))
}

// strided allocates rows x cols elements whose rows begin `gap` elements apart beyond their
// length, `shift` elements into the buffer.
func strided(t testing.TB, d *device, dtype backend.DType, rows, cols, gap, shift int) backend.Tensor {
	t.Helper()
	b, err := d.Alloc(int64(dtype.Size() * (shift + rows*(cols+gap) + 8)))
	if err != nil {
		t.Fatal(err)
	}
	return backend.Tensor{Buf: b, Off: shift, Rows: rows, Cols: cols, Stride: cols + gap, DType: dtype}
}

// fill uploads numbers drawn by draw and returns them as stored.
func fill(t testing.TB, d *device, x backend.Tensor, draw func() float64) host {
	t.Helper()
	h := host{x.Rows, x.Cols, make([]float64, x.Rows*x.Cols)}
	for i := range h.v {
		h.v[i] = asStored(x.DType, draw())
	}
	for i := range x.Rows {
		if err := d.UploadF64(x.RowRange(i, 1), h.v[i*x.Cols:(i+1)*x.Cols]); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// fetched downloads a tensor of any strides.
func fetched(t testing.TB, d *device, x backend.Tensor) host {
	t.Helper()
	h := host{x.Rows, x.Cols, make([]float64, x.Rows*x.Cols)}
	for i := range x.Rows {
		if err := d.DownloadF64(h.v[i*x.Cols:(i+1)*x.Cols], x.RowRange(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func opened(t testing.TB, precision backend.DType) *device {
	t.Helper()
	d := open(t, Options{Precision: precision}).(*device)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestGemmBF16 compares products of bfloat16 with float64 ones: an element of C may be off by
// what float32 sums lose, and by half a unit of bfloat16 where it is stored so. Both tile
// sizes give the same bits, in memory that is aligned and in memory that is not.
func TestGemmBF16(t *testing.T) { compareBF16(t, opened(t, backend.BF16), true) }

// TestCuBLASBF16: the same of products by cuBLAS, whose bits may depend on alignment.
func TestCuBLASBF16(t *testing.T) {
	d := withCuBLAS(t, Options{Precision: backend.BF16})
	compareBF16(t, d, false)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// compareBF16 compares products of all forms, types and layouts, and their bits if they must be the
// same for all layouts.
func compareBF16(t *testing.T, d *device, same bool) {
	for _, c := range []struct {
		m, n, k     int
		alpha, beta float64
		bias, pre   bool
		act         backend.Activation
	}{
		{1, 1, 1, 1, 0, false, false, 0},
		{5, 2, 40, 1, 0, true, false, 0},
		{64, 64, 64, 1, 0, false, false, 0},
		{70, 130, 100, 0.5, 1, true, true, backend.GeluErf},
		{129, 72, 33, 1, 0, true, true, backend.GeluTanh},
		{130, 136, 16, 2, 0.25, false, false, 0},
	} {
		for form := range 4 {
			for _, out := range []backend.DType{backend.BF16, backend.F32} {
				var first []float64
				for layout := range 4 { // aligned or not, large or small tiles
					gap, shift := 8-c.k%8, 0
					if layout&1 != 0 {
						gap, shift = 3, 1
					}
					ta, tb := form&1 != 0, form&2 != 0
					shape := func(rows, cols int, transposed bool) (int, int) {
						if transposed {
							return cols, rows
						}
						return rows, cols
					}
					g := backend.GemmArgs{TransA: ta, TransB: tb, Alpha: c.alpha, Beta: c.beta, Act: c.act}
					ar, ac := shape(c.m, c.k, ta)
					br, bc := shape(c.k, c.n, tb)
					if layout&1 == 0 {
						gap = (8 - ac%8) % 8
					}
					g.A = strided(t, d, backend.BF16, ar, ac, gap, shift)
					if layout&1 == 0 {
						gap = (8 - bc%8) % 8
					}
					g.B = strided(t, d, backend.BF16, br, bc, gap, shift)
					g.C = strided(t, d, out, c.m, c.n, gap, shift)
					draw := rand.New(rand.NewPCG(uint64(c.m), uint64(form))).NormFloat64
					A, B, C := fill(t, d, g.A, draw), fill(t, d, g.B, draw), host{}
					if c.beta == 0 {
						fill(t, d, g.C, math.NaN)
					} else {
						C = fill(t, d, g.C, draw)
					}
					var bias host
					if c.bias {
						g.Bias = strided(t, d, backend.F32, 1, c.n, 0, shift)
						bias = fill(t, d, g.Bias, draw)
					}
					if c.pre {
						g.Pre = strided(t, d, out, c.m, c.n, gap, shift)
					}
					if err := d.gemm(g, []int{64, 128}[layout>>1]); err != nil {
						t.Fatal(err)
					}
					got := fetched(t, d, g.C)
					var pre host
					if c.pre {
						pre = fetched(t, d, g.Pre)
					}
					name := fmt.Sprintf("%dx%dx%d form %d into %s, layout %d", c.m, c.n, c.k, form, out, layout)
					for i := range c.m {
						for j := range c.n {
							sum, size := 0.0, 0.0
							for k := range c.k {
								x := A.at(i, k, ta) * B.at(k, j, tb)
								sum += x
								size += math.Abs(x)
							}
							want, size := c.alpha*sum, math.Abs(c.alpha)*size
							if c.beta != 0 {
								want += c.beta * C.at(i, j, false)
								size += math.Abs(c.beta * C.at(i, j, false))
							}
							if c.bias {
								want += bias.v[j]
								size += math.Abs(bias.v[j])
							}
							near(t, name+" before the activation", out, pre, i, j, want, size)
							near(t, name, out, got, i, j, activated(c.act, want), size)
							if t.Failed() {
								return
							}
						}
					}
					if first == nil || !same {
						first = got.v
					} else {
						for i, v := range got.v {
							if math.Float64bits(v) != math.Float64bits(first[i]) {
								t.Fatalf("%s: element %d is %g, was %g with other tiles or alignment", name, i, v, first[i])
							}
						}
					}
					for _, x := range []backend.Tensor{g.A, g.B, g.C, g.Bias, g.Pre} {
						if !x.Absent() {
							if err := x.Buf.Free(); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
			}
		}
	}
}

func activated(act backend.Activation, x float64) float64 {
	switch act {
	case backend.GeluErf:
		return x / 2 * (1 + math.Erf(x/math.Sqrt2))
	case backend.GeluTanh:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	return x
}

// near wants an element of h, if h is there, within float32's errors on `size` and half a unit of
// the type it is stored in.
func near(t *testing.T, name string, stored backend.DType, h host, i, j int, want, size float64) {
	t.Helper()
	if h.v == nil {
		return
	}
	allowed := 12 * 0x1p-24 * size
	if stored == backend.BF16 {
		allowed += 0x1p-8 * math.Abs(want)
	}
	if got := h.at(i, j, false); !(math.Abs(got-want) <= allowed) {
		t.Fatalf("%s: element %d,%d is %g, want %g within %.2g", name, i, j, got, want, allowed)
	}
}

// TestGemmPieces: a sum that is long for its product's size is cut, and comes out right.
func TestGemmPieces(t *testing.T) {
	for _, in := range []backend.DType{backend.F32, backend.BF16} {
		d := opened(t, in)
		const m, n, k = 8, 12, 3*leastTerms + 100
		if pieces, _ := piecesOf(m, n, k); pieces < 2 {
			t.Fatalf("%d pieces", pieces)
		}
		draw := rand.New(rand.NewPCG(3, 4)).NormFloat64
		g := backend.GemmArgs{A: strided(t, d, in, k, m, 0, 0), B: strided(t, d, in, k, n, 0, 0), C: strided(t, d, backend.F32, m, n, 0, 0),
			TransA: true, Alpha: 1, Beta: 1}
		A, B, C := fill(t, d, g.A, draw), fill(t, d, g.B, draw), fill(t, d, g.C, draw)
		if err := d.Gemm(g); err != nil {
			t.Fatal(err)
		}
		got := fetched(t, d, g.C)
		for i := range m {
			for j := range n {
				want, size := C.at(i, j, false), 0.0
				for l := range k {
					x := A.at(l, i, false) * B.at(l, j, false)
					want += x
					size += math.Abs(x)
				}
				near(t, fmt.Sprintf("%s in pieces", in), backend.F32, got, i, j, want, size)
			}
		}
	}
}

// TestPiecesOf: the weights of BERT base fill an A100's places, and pieces always make the whole.
func TestPiecesOf(t *testing.T) {
	for _, c := range []struct{ m, n, k, pieces int }{
		{768, 768, 16384, 6}, {2304, 768, 16384, 2}, {3072, 768, 16384, 3}, {768, 3072, 8192, 3},
		{768, 768, 8192, 6}, {768, 768, 2048, 2}, {768, 768, 1024, 1}, {30522, 768, 512, 1}, {128, 128, 1 << 20, 16}, {5, 5, 0, 1},
	} {
		pieces, terms := piecesOf(c.m, c.n, c.k)
		if pieces != c.pieces || pieces*terms < c.k || (pieces-1)*terms >= max(c.k, 1) {
			t.Errorf("%d x %d over %d terms: %d pieces of %d, want %d", c.m, c.n, c.k, pieces, terms, c.pieces)
		}
	}
}
