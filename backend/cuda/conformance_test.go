//go:build cuda && cgo && linux

package cuda

import (
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

// TestCuBLASValues: the same operations with products by cuBLAS, whose rows may depend on their
// number.
func TestCuBLASValues(t *testing.T) {
	if _, err := blasLibrary(); err != nil {
		t.Skip(err)
	}
	if err := open(t, Options{CuBLAS: true}).Close(); err != nil {
		t.Fatal(err)
	}
	backendtest.RunValues(t, func() (backend.Device, error) { return Open(Options{CuBLAS: true}) }, func(op string) bool { return op == "gemm" })
}
