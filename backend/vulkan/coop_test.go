//go:build cgo && linux

package vulkan

import (
	"math"
	"math/rand/v2"
	"testing"

	"sift/backend"
)

// TestCooperative multiplies on the matrix unit of the first software driver that has one:
// the probe passes, and products of values that float16 holds, with every epilogue and
// odd sizes, equal the reference within the rounding of float32 sums.
func TestCooperative(t *testing.T) {
	d := use(t, Options{Precision: backend.F16})
	if d.coop.m == 0 {
		t.Skipf("%s (%s) has no cooperative matrices; scripts/vulkan/forky runs one that has", d.physical.Name, d.physical.Driver)
	}
	if !d.coop.works {
		t.Fatal("the probe failed")
	}
	t.Logf("%s: tiles of %dx%dx%d", d.info.Description, d.coop.m, d.coop.n, d.coop.k)
	rng := rand.New(rand.NewPCG(3, 4))
	values := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.IntN(2047)-1023) / 512
		}
		return x
	}
	for _, size := range [][3]int{{1, 1, 1}, {17, 33, 70}, {64, 64, 32}, {130, 200, 96}, {5, 7, 0}} {
		m, n, k := size[0], size[1], size[2]
		for form := range 4 {
			run := func(dev backend.Device) []float32 {
				a := backend.GemmArgs{C: tensor(t, dev, m, n, 0.5), TransA: form&1 != 0, TransB: form&2 != 0, Alpha: 0.5, Beta: 2,
					Bias: tensor(t, dev, 1, n, 1, -2), Pre: tensor(t, dev, m, n, 0), Act: backend.GeluErf}
				rows := func(rows, cols int, trans bool) backend.Tensor {
					if trans {
						rows, cols = cols, rows
					}
					x, err := backend.Alloc(dev, backend.F32, rows, cols)
					if err != nil {
						t.Fatal(err)
					}
					if err := dev.UploadF32(x, values(rows*cols)); err != nil {
						t.Fatal(err)
					}
					return x
				}
				rng = rand.New(rand.NewPCG(uint64(m), uint64(form)))
				a.A, a.B = rows(m, k, a.TransA), rows(k, n, a.TransB)
				s := backend.NewStream(dev)
				s.Gemm(a)
				out := make([]float32, 2*m*n)
				if err := s.DownloadF32(out[:m*n], a.C); err != nil {
					t.Fatal(err)
				}
				if err := s.DownloadF32(out[m*n:], a.Pre); err != nil {
					t.Fatal(err)
				}
				for _, x := range []backend.Tensor{a.A, a.B, a.C, a.Bias, a.Pre} {
					_ = x.Buf.Free()
				}
				return out
			}
			got, want := run(d), run(reference())
			for i, w := range want {
				if math.Abs(float64(got[i]-w)) > 1e-5*float64(4*k+4) {
					t.Fatalf("%dx%dx%d form %d: element %d is %g, want %g", m, n, k, form, i, got[i], w)
				}
			}
		}
	}
}
