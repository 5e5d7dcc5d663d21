package backendtest

import (
	"math"
	"testing"

	"sift/backend"
)

// testTransfer uploads and downloads in all combinations of types, with values that only
// a correct rounding keeps, and requires new memory to be zero.
func testTransfer(t *testing.T, dev backend.Device) {
	s := backend.NewStream(dev)
	alloc := func(dtype backend.DType, rows, cols int) backend.Tensor {
		t.Helper()
		x, err := backend.Alloc(dev, dtype, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := x.Buf.Free(); err != nil {
				t.Error(err)
			}
		})
		return x
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	src64 := []float64{0, math.Copysign(0, -1), 1.0 / 3, -1e-40, 1 + 0x1p-24, 1 + 0x1p-23 + 0x1p-24, 1e30, math.Inf(1), math.Inf(-1), math.NaN(), 5}
	src32 := make([]float32, len(src64))
	for i, v := range src64 {
		src32[i] = float32(v)
	}
	n := len(src64)
	got32, got64 := make([]float32, n), make([]float64, n)
	for _, dtype := range []backend.DType{backend.F32, backend.F64} {
		x := alloc(dtype, 1, n)
		if x.Buf.Bytes() < int64(n*dtype.Size()) {
			t.Errorf("%d %s fit into %d bytes", n, dtype, x.Buf.Bytes())
		}
		got64[2] = 1
		ok(s.DownloadF64(got64, x))
		for i, v := range got64 {
			if !same(v, 0) {
				t.Errorf("element %d of new memory is %g", i, v)
			}
		}
		kept := func(v float64) float64 {
			if dtype == backend.F32 {
				return rounded(v)
			}
			return v
		}
		ok(s.UploadF64(x, src64))
		ok(s.DownloadF64(got64, x))
		ok(s.DownloadF32(got32, x))
		for i, v := range src64 {
			if !same(got64[i], kept(v)) || !same(float64(got32[i]), rounded(v)) {
				t.Errorf("float64 %g in %s comes back as %g and %g", v, dtype, got64[i], got32[i])
			}
		}
		ok(s.UploadF32(x, src32))
		ok(s.DownloadF64(got64, x))
		for i, v := range src32 {
			if !same(got64[i], float64(v)) {
				t.Errorf("float32 %g in %s comes back as %g", v, dtype, got64[i])
			}
		}
		// Rows in the middle of a tensor, and none.
		m := alloc(dtype, 5, 3)
		ok(s.UploadF32(m.RowRange(1, 2), []float32{1, 2, 3, 4, 5, 6}))
		ok(s.UploadF32(m.RowRange(5, 0), nil))
		all := make([]float32, 15)
		ok(s.DownloadF32(all, m))
		for i, v := range []float32{0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0} {
			if all[i] != v {
				t.Errorf("element %d is %g after rows 1 and 2 were uploaded, want %g", i, all[i], v)
			}
		}
		ok(s.DownloadF32(all[:3], m.RowRange(2, 1)))
		if all[0] != 4 || all[2] != 6 {
			t.Errorf("row 2 is %v", all[:3])
		}
		ok(s.DownloadF64(nil, m.RowRange(0, 0)))
	}
	x := alloc(backend.I32, 2, 3)
	ints := []int32{0, -1, math.MaxInt32, math.MinInt32, 7, -100}
	ok(s.UploadI32(x, ints))
	got := make([]int32, 6)
	ok(s.DownloadI32(got, x))
	for i, v := range ints {
		if got[i] != v {
			t.Errorf("int32 %d comes back as %d", v, got[i])
		}
	}
	ok(s.Sync())
}
