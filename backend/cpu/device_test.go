//go:build cgo && unix

package cpu_test

import (
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
)

func mustOpen(t *testing.T, threads int) backend.Device {
	t.Helper()
	dev, err := opener(threads, "auto")()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

func mustAlloc(t *testing.T, dev backend.Device, dtype backend.DType, rows, cols int) backend.Tensor {
	t.Helper()
	x, err := backend.Alloc(dev, dtype, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Buf.Free() })
	return x
}

// An instruction set that is asked for by name and missing is named in the error.
func TestMissingISA(t *testing.T) {
	for _, isa := range []string{"avx2", "avx512"} {
		dev, err := cpu.Open(cpu.Options{ISA: isa})
		if err == nil {
			if got := dev.Info().ISA; got != isa {
				t.Errorf("asked for %s, got %s", isa, got)
			}
			dev.Close()
		} else if fault.KindOf(err) != fault.Device || !strings.Contains(err.Error(), isa) {
			t.Errorf("%s: %v", isa, err)
		}
	}
}

// The kernels flush denormal numbers to zero; Go's arithmetic must not notice.
func TestFloatMode(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dev := mustOpen(t, 2)
	x := mustAlloc(t, dev, backend.F32, 300, 300)
	y := mustAlloc(t, dev, backend.F32, 300, 300)
	tiny := make([]float32, x.Len())
	for i := range tiny {
		tiny[i] = math.SmallestNonzeroFloat32
	}
	if err := dev.UploadF32(x, tiny); err != nil {
		t.Fatal(err)
	}
	if err := dev.Add(y, x); err != nil {
		t.Fatal(err)
	}
	if sum := tiny[0] + tiny[1]; sum == 0 {
		t.Error("a denormal sum is 0 in Go after an operation")
	}
	got := make([]float32, y.Len())
	if err := dev.DownloadF32(got, y); err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if v != 0 {
			t.Fatalf("element %d is %g: some threads keep denormals", i, v)
		}
	}
}

// An index outside its table is an error of the call, whichever thread meets it, and
// nothing outside is touched.
func TestIndexOutside(t *testing.T) {
	dev := mustOpen(t, 2)
	const n, h, v = 700, 40, 50
	table := mustAlloc(t, dev, backend.F32, v, h)
	rows := mustAlloc(t, dev, backend.F32, n, h)
	loss := mustAlloc(t, dev, backend.F32, n, 1)
	index := mustAlloc(t, dev, backend.I32, 1, n)
	zeros := mustAlloc(t, dev, backend.I32, 1, n)
	for _, bad := range []int32{-1, v, math.MaxInt32, math.MinInt32} {
		list := make([]int32, n)
		list[n-3] = bad
		if err := dev.UploadI32(index, list); err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{
			"gather":      dev.GatherRows(rows, table, index),
			"scatter-add": dev.ScatterAddRows(table, rows, index),
			"embed":       dev.Embed(backend.EmbedArgs{Out: rows, IDs: index, Positions: zeros, Word: table, Position: table}),
			"positions":   dev.Embed(backend.EmbedArgs{Out: rows, IDs: zeros, Positions: index, Word: table, Position: table}),
			"loss":        dev.CrossEntropy(backend.CrossEntropyArgs{Loss: loss, Entropy: loss, LSE: loss, Correct: loss, Logits: rows, Labels: index}),
		} {
			if err == nil {
				t.Errorf("%s accepts index %d", name, bad)
			}
		}
	}
	if err := dev.GatherRows(rows, table, zeros); err != nil {
		t.Errorf("after an error: %v", err)
	}
}

// Memory comes zeroed and aligned, also where freed memory is used again.
func TestAlloc(t *testing.T) {
	dev := mustOpen(t, 1)
	for range 3 {
		for _, bytes := range []int64{0, 1, 64, 4096, 2<<20 - 1, 2 << 20, 5<<20 + 3} {
			buf, err := dev.Alloc(bytes)
			if err != nil {
				t.Fatal(err)
			}
			n := int(bytes / 4)
			x := backend.NewTensor(buf, backend.F32, 1, n)
			got := make([]float32, n)
			if err := dev.DownloadF32(got, x); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != 0 {
					t.Fatalf("element %d of %d bytes is %g", i, bytes, got[i])
				}
				got[i] = 1
			}
			if err := dev.UploadF32(x, got); err != nil {
				t.Fatal(err)
			}
			if err := buf.Free(); err != nil {
				t.Fatal(err)
			}
			if err := buf.Free(); err != nil {
				t.Errorf("a second Free: %v", err)
			}
		}
	}
}

// A closed device has given its threads back and refuses work.
func TestClose(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Skip("no /proc/self/task to count threads in")
		}
		return len(list)
	}
	dev := mustOpen(t, 1)
	x := mustAlloc(t, dev, backend.F32, 1, 4)
	before := count()
	for range 20 {
		d, err := opener(8, "auto")()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Zero(x); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if d.Zero(x) == nil {
			t.Fatal("a closed device works on")
		}
	}
	if after := count(); after > before+20 {
		t.Errorf("%d threads before, %d after opening and closing 20 devices of 8", before, after)
	}
}

func TestPeak(t *testing.T) {
	for _, isa := range available() {
		if gflops, err := cpu.Peak(1, isa); err != nil || !(gflops > 0.1) {
			t.Errorf("%s: %g, %v", isa, gflops, err)
		}
	}
}
