//go:build cuda && cgo && linux

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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
// where the last is shorter, and agrees with float64. In TF32 it is off by what 10 bits of fraction
// lose of each operand; in the emulator, which rounds, it agrees with float64 of rounded operands.
func TestCuBLASPieces(t *testing.T) {
	emulated := strings.Contains(os.Getenv("SIFT_CUDA_CUBLAS"), "emulator")
	report := filepath.Join(t.TempDir(), "report")
	t.Setenv("SIFT_EMULATOR_REPORT", report)
	batches := 0 // so far, by the emulator's count
	if emulated {
		if err := withCuBLAS(t, Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		batches = countOf(t, report, "cublasGemmStridedBatchedEx")
	}
	for _, c := range []struct {
		in, out backend.DType
		tf32    bool
		transB  bool
		k       int
	}{
		{backend.F32, backend.F32, false, false, 2 * leastTerms}, {backend.F32, backend.F32, false, false, 2*leastTerms + 70},
		{backend.F32, backend.F32, false, true, 3*leastTerms + 5}, {backend.BF16, backend.F32, false, true, 3*leastTerms + 5},
		{backend.BF16, backend.F32, false, false, 3*leastTerms + 5}, {backend.BF16, backend.BF16, false, false, 3*leastTerms + 70},
		{backend.F32, backend.F32, true, false, 3*leastTerms + 70}, {backend.BF16, backend.F32, false, false, 100}, {backend.BF16, backend.BF16, false, false, 100},
	} {
		d := withCuBLAS(t, Options{Precision: c.in, TF32: c.tf32})
		const m, n = 9, 12
		draw := rand.New(rand.NewPCG(5, 6)).NormFloat64
		rows, cols := c.k, n
		if c.transB {
			rows, cols = n, c.k
		}
		g := backend.GemmArgs{A: strided(t, d, c.in, c.k, m, 3, 1), B: strided(t, d, c.in, rows, cols, 2, 5), C: strided(t, d, c.out, m, n, 1, 1),
			TransA: true, TransB: c.transB, Alpha: 0.5, Beta: 1}
		A, B, C := fill(t, d, g.A, draw), fill(t, d, g.B, draw), fill(t, d, g.C, draw)
		before := d.blas.products
		if err := d.StartProfile(); err != nil {
			t.Fatal(err)
		}
		if err := d.Gemm(g); err != nil {
			t.Fatal(err)
		}
		p, err := d.StopProfile()
		if err != nil {
			t.Fatal(err)
		}
		calls := map[string]int{}
		for _, k := range p.Kernels {
			calls[k.Name] = k.Calls
		}
		pieces, terms := piecesOf(m, n, c.k)
		if (pieces < 2) != (c.k < 2*leastTerms) || d.blas.products-before != pieces {
			t.Errorf("%v: %d products for %d pieces", c, d.blas.products-before, pieces)
		}
		if c.k/terms > 1 != (calls["cublas_gemm_batched"] == 1) || (pieces > 1) != (calls["gemm_sum_f32"]+calls["gemm_sum_bf16"] == 1) {
			t.Errorf("%v, in pieces of %d: %v", c, terms, calls)
		}
		rounds := c.tf32 && emulated
		tf32 := func(x float64) float64 {
			if !rounds {
				return x
			}
			return float64(math.Float32frombits((math.Float32bits(float32(x)) + 0x1000) &^ 0x1fff))
		}
		got, inexact := fetched(t, d, g.C), 0
		for i := range m {
			for j := range n {
				want, size, unrounded := C.at(i, j, false), 0.0, C.at(i, j, false)
				for l := range c.k {
					a, b := A.at(l, i, false), B.at(l, j, c.transB)
					want += 0.5 * tf32(a) * tf32(b)
					unrounded += 0.5 * a * b
					size += math.Abs(a * b)
				}
				off := math.Abs(got.at(i, j, false) - unrounded)
				if !c.tf32 || rounds {
					near(t, fmt.Sprintf("%v", c), c.out, got, i, j, want, size)
				}
				if c.tf32 && off > 0.5*(2*0x1p-10+0x1p-20)*size+12*0x1p-24*size {
					t.Errorf("%v: element %d,%d is off by %g", c, i, j, off)
				}
				if off > 12*0x1p-24*size {
					inexact++
				}
			}
		}
		if c.tf32 && inexact == 0 {
			t.Error("nothing was rounded to TF32")
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if emulated {
			before := batches
			if batches = countOf(t, report, "cublasGemmStridedBatchedEx"); batches-before != calls["cublas_gemm_batched"] {
				t.Errorf("%v: %d batches reached cuBLAS, %d were profiled", c, batches-before, calls["cublas_gemm_batched"])
			}
		}
	}
}

// countOf reads how often a function was called from what the emulator reports.
func countOf(t *testing.T, report, function string) (n int) {
	t.Helper()
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "call "+function+" "); ok {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}
