//go:build cuda && cgo && linux

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"sift/backend"
	"sift/backend/backendtest"
)

// open opens the first device, or skips: a machine without a driver or the emulator fails
// only where SIFT_REQUIRE_CUDA says it has one. The driver is what SIFT_CUDA_DRIVER names;
// scripts/cuda/emulator prints the emulator's path.
func open(t testing.TB, o Options) backend.Device {
	t.Helper()
	dev, err := Open(o)
	if err != nil {
		if os.Getenv("SIFT_REQUIRE_CUDA") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return dev
}

func TestConformance(t *testing.T) {
	if err := open(t, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	backendtest.RunAll(t, func() (backend.Device, error) { return Open(Options{}) })
}

// withCuBLAS opens a device whose products cuBLAS makes, or skips.
func withCuBLAS(t *testing.T, o Options) *device {
	t.Helper()
	if _, err := blasLibrary(); err != nil {
		if os.Getenv("SIFT_REQUIRE_CUDA") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	o.CuBLAS = true
	return open(t, o).(*device)
}

// TestCuBLASValues: the same operations with products by cuBLAS, whose rows may depend on their
// number.
func TestCuBLASValues(t *testing.T) {
	if err := withCuBLAS(t, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	backendtest.RunValues(t, func() (backend.Device, error) { return Open(Options{CuBLAS: true}) }, func(op string) bool { return op == "gemm" })
}

func TestCuBLASVersion(t *testing.T) {
	for v, want := range map[int]string{11304: "11.3.4", 12103: "11.11.3", 120405: "12.4.5", 121203: "12.12.3", 130101: "13.1.1"} {
		if got := blasVersion(v); got != "cuBLAS "+want {
			t.Errorf("%d is %s, want %s", v, got, want)
		}
	}
}

// TestCuBLASPieces: the gradient of a weight is a batch of products over pieces of its rows, also
// where the last is shorter, and agrees with float64; in TF32 it agrees with float64 of operands
// that were rounded, and with others does not.
func TestCuBLASPieces(t *testing.T) {
	for _, c := range []struct {
		in, out backend.DType
		tf32    bool
		k       int
	}{
		{backend.F32, backend.F32, false, 2 * leastTerms}, {backend.F32, backend.F32, false, 2*leastTerms + 70},
		{backend.BF16, backend.F32, false, 3*leastTerms + 5}, {backend.BF16, backend.BF16, false, 2*leastTerms + 70},
		{backend.F32, backend.F32, true, 2*leastTerms + 70}, {backend.BF16, backend.F32, false, 100}, {backend.BF16, backend.BF16, false, 100},
	} {
		d := withCuBLAS(t, Options{Precision: c.in, TF32: c.tf32})
		defer d.Close()
		const m, n = 9, 12
		draw := rand.New(rand.NewPCG(5, 6)).NormFloat64
		g := backend.GemmArgs{A: strided(t, d, c.in, c.k, m, 3, 1), B: strided(t, d, c.in, c.k, n, 2, 5), C: strided(t, d, c.out, m, n, 1, 1),
			TransA: true, Alpha: 0.5, Beta: 1}
		A, B, C := fill(t, d, g.A, draw), fill(t, d, g.B, draw), fill(t, d, g.C, draw)
		before := d.blas.products
		if err := d.Gemm(g); err != nil {
			t.Fatal(err)
		}
		if pieces, _ := piecesOf(m, n, c.k); (pieces < 2) != (c.k < 2*leastTerms) || d.blas.products-before != pieces {
			t.Errorf("%v: %d products for %d pieces", c, d.blas.products-before, pieces)
		}
		tf32 := func(x float64) float64 {
			if !c.tf32 {
				return x
			}
			return float64(math.Float32frombits((math.Float32bits(float32(x)) + 0x1000) &^ 0x1fff))
		}
		got, exact := fetched(t, d, g.C), 0
		for i := range m {
			for j := range n {
				want, size, unrounded := C.at(i, j, false), 0.0, C.at(i, j, false)
				for l := range c.k {
					a, b := A.at(l, i, false), B.at(l, j, false)
					want += 0.5 * tf32(a) * tf32(b)
					unrounded += 0.5 * a * b
					size += math.Abs(a * b)
				}
				near(t, fmt.Sprintf("%v", c), c.out, got, i, j, want, size)
				if math.Abs(got.at(i, j, false)-unrounded) > 12*0x1p-24*size {
					exact++
				}
			}
		}
		if c.tf32 && exact == 0 {
			t.Error("nothing was rounded to TF32")
		}
	}
}
