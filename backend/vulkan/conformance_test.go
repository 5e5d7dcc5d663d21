//go:build cgo && linux

package vulkan

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/backendtest"
)

// open opens the device whose name contains one of the words, on the terms of o, or skips
// the test. SIFT_VULKAN_VALIDATE=1 adds the validation layer, whose messages fail the test
// when the device is closed.
func open(t testing.TB, word string, o Options) (backend.Device, error) {
	t.Helper()
	index := find(t, word)
	o.Select = strconv.Itoa(index)
	o.Validation = os.Getenv("SIFT_VULKAN_VALIDATE") == "1"
	if o.CacheDir == "" {
		o.CacheDir = "-"
	}
	return Open(o)
}

// find returns the index of a software driver, or skips: a test without a driver is a
// failure only where SIFT_REQUIRE_VULKAN says that they are installed.
func find(t testing.TB, word string) int {
	t.Helper()
	list, err := List()
	for _, p := range list {
		if strings.Contains(strings.ToLower(p.Name+" "+p.Driver), word) {
			return p.Index
		}
	}
	if os.Getenv("SIFT_REQUIRE_VULKAN") == "1" {
		t.Fatalf("%s is not among the Vulkan drivers %v, %v", word, list, err)
	}
	t.Skipf("the Vulkan driver %s is not installed (scripts/setup, scripts/vulkan)", word)
	return -1
}

const (
	lavapipe    = "llvmpipe"
	swiftshader = "swiftshader"
)

func TestLavapipe(t *testing.T) {
	find(t, lavapipe)
	backendtest.RunAll(t, func() (backend.Device, error) { return open(t, lavapipe, Options{}) })
}

func TestSwiftShader(t *testing.T) {
	find(t, swiftshader)
	backendtest.RunAll(t, func() (backend.Device, error) { return open(t, swiftshader, Options{}) })
}

// TestGPUStyle runs the kernels made for GPUs, with staged transfers, on a software driver.
func TestGPUStyle(t *testing.T) {
	find(t, lavapipe)
	backendtest.RunAll(t, func() (backend.Device, error) { return open(t, lavapipe, Options{style: "gpu"}) })
}

// TestSmallBindings computes on devices that bind so little at once that every operation
// has to be cut: 128 KiB, where the suite's longest row of logits is 122, and 640 KiB for
// attention, which takes a sequence whole.
func TestSmallBindings(t *testing.T) {
	find(t, lavapipe)
	small := func(bytes int64) func() (backend.Device, error) {
		return func() (backend.Device, error) { return open(t, lavapipe, Options{maxRange: bytes}) }
	}
	attention := func(op string) bool { return strings.HasPrefix(op, "attention") }
	backendtest.RunValues(t, small(128<<10), func(op string) bool { return !attention(op) })
	backendtest.RunValues(t, small(640<<10), attention)
}

func BenchmarkLavapipe(b *testing.B) {
	find(b, lavapipe)
	backendtest.Bench(b, func() (backend.Device, error) { return open(b, lavapipe, Options{}) })
}
