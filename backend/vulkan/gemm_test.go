//go:build cgo && linux

package vulkan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"

	"sift/backend"
)

// sea uploads a rows x cols matrix as a view into a buffer of NaN, off elements from its
// start and with extra elements between rows: what is read beside the matrix shows.
func sea(t testing.TB, d backend.Device, rows, cols, off, extra int, values []float32) backend.Tensor {
	t.Helper()
	stride := cols + extra
	all := make([]float32, off+rows*stride+8)
	for i := range all {
		all[i] = float32(math.NaN())
	}
	for i := range rows {
		copy(all[off+i*stride:], values[i*cols:(i+1)*cols])
	}
	x := tensor(t, d, 1, len(all), all...)
	x.Off, x.Rows, x.Cols, x.Stride = x.Off+off, rows, cols, stride
	return x
}

// lift downloads a view.
func lift(t testing.TB, d backend.Device, x backend.Tensor) []float32 {
	t.Helper()
	whole := x
	whole.Rows, whole.Cols = 1, (x.Rows-1)*x.Stride+x.Cols
	all, out := make([]float32, whole.Cols), make([]float32, 0, x.Len())
	if err := d.DownloadF32(all, whole); err != nil {
		t.Fatal(err)
	}
	for i := range x.Rows {
		out = append(out, all[i*x.Stride:][:x.Cols]...)
	}
	return out
}

// operands are those of a product with all that can follow it, in one of the four forms.
type operands struct {
	m, n, k          int
	form             int
	a, b, c, bias, p []float32
}

func newOperands(m, n, k, form int) operands {
	r := rand.New(rand.NewPCG(1, uint64(m*n*k+form)))
	fill := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	return operands{m, n, k, form, fill(m * k), fill(k * n), fill(m * n), fill(n), fill(m * n)}
}

// place uploads the operands, as whole matrices or as views that are or are not aligned to
// vectors of four.
func (o operands) place(t testing.TB, d backend.Device, off int) backend.GemmArgs {
	gap := func(cols int) int {
		if off%4 == 0 {
			return off + (4-cols%4)%4
		}
		return off
	}
	put := func(rows, cols int, x []float32) backend.Tensor { return sea(t, d, rows, cols, off, gap(cols), x) }
	g := backend.GemmArgs{TransA: o.form&1 != 0, TransB: o.form&2 != 0, Alpha: 0.5, Beta: -2, Act: backend.GeluTanh}
	if g.TransA {
		g.A = put(o.k, o.m, o.a)
	} else {
		g.A = put(o.m, o.k, o.a)
	}
	if g.TransB {
		g.B = put(o.n, o.k, o.b)
	} else {
		g.B = put(o.k, o.n, o.b)
	}
	g.C, g.Pre, g.Bias = put(o.m, o.n, o.c), put(o.m, o.n, o.p), put(1, o.n, o.bias)
	return g
}

func free(t testing.TB, list ...backend.Tensor) {
	t.Helper()
	for _, x := range list {
		if err := x.Buf.Free(); err != nil {
			t.Error(err)
		}
	}
}

// agree requires equal numbers, and that they are numbers.
func agree(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i, v := range got {
		if math.Float32bits(v) != math.Float32bits(want[i]) || v != v {
			t.Errorf("%s: element %d is %g (%#x), otherwise %g (%#x)", what, i, v, math.Float32bits(v), want[i], math.Float32bits(want[i]))
			return
		}
	}
}

// TestGemmWaysAgree: every way of multiplying gives the same bits, also where vectors of
// four cannot be loaded, and reads nothing that is not of the operands.
func TestGemmWaysAgree(t *testing.T) {
	for _, word := range []string{lavapipe, swiftshader} {
		t.Run(word, func(t *testing.T) {
			dev, err := open(t, word, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := dev.Close(); err != nil {
					t.Error(err)
				}
			}()
			d := dev.(*device)
			if list := d.candidates(); len(list) < 2 || list[0].lanes == 0 {
				t.Fatalf("%d ways of multiplying, %s first", len(list), list[0].name)
			}
			for form := range 4 {
				o := newOperands(67, 70, []int{35, 36, 37, 33}[form], form)
				var want, wantPre []float32
				for i := range products {
					p := &products[i]
					// Blocks differ in their sizes alone: one form each does, all forms of the smallest.
					if !d.allows(p) || (p.local > 64 && (word != lavapipe || form != i%4)) {
						continue
					}
					for _, off := range []int{4, 1} {
						g := o.place(t, d, off)
						if err := d.gemmCall(p, g, o.m, o.n, o.k, 0, backend.Tensor{}); err != nil {
							t.Fatal(err)
						}
						c, pre := lift(t, d, g.C), lift(t, d, g.Pre)
						if want == nil {
							want, wantPre = c, pre
						}
						what := fmt.Sprintf("form %d, %s, views %d apart", form, p.name, off)
						agree(t, what, c, want)
						agree(t, what+", before the activation", pre, wantPre)
						free(t, g.A, g.B, g.C, g.Pre, g.Bias)
					}
				}
			}
		})
	}
}

// TestGemmCut: a product cut to fit small bindings has the bits of the whole, in the forms
// that cut rows, columns or sums.
func TestGemmCut(t *testing.T) {
	const limit = 16 << 10
	whole, small := use(t, Options{}), use(t, Options{maxRange: limit})
	for form := range 4 {
		o := newOperands(101, 90, 150, form)
		var results [2][2][]float32
		for i, d := range []*device{whole, small} {
			g := o.place(t, d, 4)
			if extent(g.A) <= limit || extent(g.B) <= limit || extent(g.C) <= limit {
				t.Fatal("nothing has to be cut")
			}
			if err := d.Gemm(g); err != nil {
				t.Fatal(err)
			}
			results[i] = [2][]float32{lift(t, d, g.C), lift(t, d, g.Pre)}
			free(t, g.A, g.B, g.C, g.Pre, g.Bias)
		}
		agree(t, fmt.Sprintf("form %d", form), results[1][0], results[0][0])
		agree(t, fmt.Sprintf("form %d, before the activation", form), results[1][1], results[0][1])
	}
}

// TestGemmHalf: with precision f16 the elements of both operands are rounded to float16, to
// nearest with ties to even, beyond its range to infinity, and sums are not rounded.
func TestGemmHalf(t *testing.T) {
	inf := float32(math.Inf(1))
	ulp, tiny := float32(math.Ldexp(1, -10)), float32(math.Ldexp(1, -24))
	cases := [][2]float32{
		{0, 0}, {1, 1}, {-2.5, -2.5},
		{1 + ulp/2, 1}, {1 + 3*ulp/2, 1 + 2*ulp}, {1 + ulp/2 + ulp/1024, 1 + ulp}, {-(1 + 3*ulp/2), -(1 + 2*ulp)},
		{65504, 65504}, {65519.996, 65504}, {65520, inf}, {-65520, -inf}, {1e30, inf}, {inf, inf}, {-inf, -inf},
		{tiny, tiny}, {tiny / 2, 0}, {tiny * 0.50001, tiny}, {1.5 * tiny, 2 * tiny}, {-2.5 * tiny, -2 * tiny}, {1e-30, 0},
		{1023.5 * tiny, 1024 * tiny}, {1024.5 * tiny, 1024 * tiny}, {1e-3, 0.0010004044}, {3.14159265, 3.140625},
	}
	d := use(t, Options{Precision: backend.F16})
	var column []float32
	for _, c := range cases {
		column = append(column, c[0])
	}
	x, one := held(t, d, len(cases), 1, column...), held(t, d, 1, 1, 1)
	nan := held(t, d, 1, 1, float32(math.NaN()))
	for _, p := range d.candidates() {
		y := held(t, d, len(cases), 1, 7)
		for side, g := range []backend.GemmArgs{{C: y, A: x, B: one}, {C: y.Reshape(1, len(cases)), A: one, B: x, TransB: true}} {
			g.Alpha = 1
			if err := d.gemmCall(p, g, g.C.Rows, g.C.Cols, 1, 0, backend.Tensor{}); err != nil {
				t.Fatal(err)
			}
			got := make([]float32, len(cases))
			if err := d.DownloadF32(got, y); err != nil {
				t.Fatal(err)
			}
			for j, c := range cases {
				if got[j] != c[1] {
					t.Errorf("%s, operand %d: %g becomes %g, want %g", p.name, side, c[0], got[j], c[1])
				}
			}
		}
		// 3 x 4097 would be 12288 or 12296 in float16.
		row, col := held(t, d, 1, 2, 4096, 1), held(t, d, 2, 1, 3)
		z := held(t, d, 1, 1, 0)
		if err := d.gemmCall(p, backend.GemmArgs{C: z, A: row, B: col, Alpha: 1}, 1, 1, 2, 0, backend.Tensor{}); err != nil {
			t.Fatal(err)
		}
		if v := lift(t, d, z)[0]; v != 12291 {
			t.Errorf("%s: a sum is %g, want 12291", p.name, v)
		}
		if err := d.gemmCall(p, backend.GemmArgs{C: z, A: nan, B: one, Alpha: 1}, 1, 1, 1, 0, backend.Tensor{}); err != nil {
			t.Fatal(err)
		}
		if v := lift(t, d, z)[0]; v == v {
			t.Errorf("%s: NaN becomes %g", p.name, v)
		}
	}
}

// BenchmarkGemm measures every way of multiplying on the sizes of BERT base with 512
// tokens, in the forms of a training step. Beside GFLOP/s by the clock it gives GFLOP/s
// by processor time on all cores, which other programs on the machine disturb less.
func BenchmarkGemm(b *testing.B) {
	d := use(b, Options{})
	cpu := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return float64(r.Utime.Sec+r.Stime.Sec) + 1e-6*float64(r.Utime.Usec+r.Stime.Usec)
	}
	for i := range products {
		p := &products[i]
		if !d.allows(p) {
			continue
		}
		for _, s := range [][3]int{{512, 768, 768}, {512, 3072, 768}, {512, 768, 3072}} {
			for form, name := range [...]string{"NN", "TN", "NT"} {
				m, n, k := s[0], s[1], s[2]
				b.Run(fmt.Sprintf("%s/%dx%dx%d/%s", p.name, m, n, k, name), func(b *testing.B) {
					a := backend.GemmArgs{C: tensor(b, d, m, n, 0), A: tensor(b, d, m, k, 0.5, -1, 0.25), B: tensor(b, d, k, n, 1, 0.5), Alpha: 1,
						TransA: form == 1, TransB: form == 2}
					if a.TransA {
						a.A = a.A.Reshape(k, m)
					}
					if a.TransB {
						a.B = a.B.Reshape(n, k)
					}
					defer func() {
						for _, t := range []backend.Tensor{a.A, a.B, a.C} {
							if err := t.Buf.Free(); err != nil {
								b.Error(err)
							}
						}
					}()
					run := func() {
						if err := d.gemmCall(p, a, m, n, k, 0, backend.Tensor{}); err != nil {
							b.Fatal(err)
						}
						if err := d.Sync(); err != nil {
							b.Fatal(err)
						}
					}
					run()
					b.ResetTimer()
					from := cpu()
					for b.Loop() {
						run()
					}
					flops := 2 * float64(m) * float64(n) * float64(k) * float64(b.N) / 1e9
					b.ReportMetric(flops/b.Elapsed().Seconds(), "GFLOP/s")
					b.ReportMetric(2*flops/(cpu()-from), "GFLOP/2cpu-s")
				})
			}
		}
	}
}
