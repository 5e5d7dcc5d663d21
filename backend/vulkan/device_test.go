//go:build cgo && linux

package vulkan

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	vk "github.com/vulkan-go/vulkan"

	"sift/backend"
	"sift/fault"
)

// use opens lavapipe for a test, which closes it.
func use(t testing.TB, o Options) *device {
	t.Helper()
	dev, err := open(t, lavapipe, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return dev.(*device)
}

// tensor allocates a tensor with the given contents.
func tensor(t testing.TB, d backend.Device, rows, cols int, values ...float32) backend.Tensor {
	t.Helper()
	x, err := backend.Alloc(d, backend.F32, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]float32, rows*cols)
	for i := range all {
		all[i] = values[i%len(values)]
	}
	if err := d.UploadF32(x, all); err != nil {
		t.Fatal(err)
	}
	return x
}

// held is a tensor that is freed when the test ends.
func held(t testing.TB, d backend.Device, rows, cols int, values ...float32) backend.Tensor {
	t.Helper()
	x := tensor(t, d, rows, cols, values...)
	t.Cleanup(func() { _ = x.Buf.Free() })
	return x
}

// chain is a program of dependent calls without a wait between them: in-place updates,
// accumulation into one gradient, a buffer overwritten after it was read. It returns
// values that a lost or doubled step changes.
func chain(t testing.TB, d backend.Device) []float32 {
	const n = 33
	x, y, z := tensor(t, d, n, n, 0.5, -1, 0.25), tensor(t, d, n, n, 1), tensor(t, d, n, n, 2)
	bias := tensor(t, d, 1, n, 0)
	out := make([]float32, n*n)
	s := backend.NewStream(d)
	for i := range 40 {
		s.Add(y, x)                                                         // y in place
		s.Gemm(backend.GemmArgs{C: z, A: x, B: x, Alpha: 0.001, Beta: 0.9}) // z accumulates
		s.ColSum(bias, y)                                                   // bias accumulates
		s.Copy(y.RowRange(i%n, 1), bias)                                    // a row of y is overwritten
		s.TanhBackward(z, z, x)                                             // z in place
		if i%3 == 2 {
			s.Zero(bias)
			s.Tanh(z, y) // and z overwritten while y's last use is close
			s.Copy(y, z)
		}
	}
	s.Add(z, y)
	if err := s.DownloadF32(out, z); err != nil {
		t.Fatal(err)
	}
	for _, b := range []backend.Tensor{x, y, z, bias} {
		if err := b.Buf.Free(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestUpdatesInOrder runs the chain on software drivers and on the CPU: the layer's
// synchronisation validation does not see two dispatches that update the same buffer.
func TestUpdatesInOrder(t *testing.T) {
	want := chain(t, reference())
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
			for i, v := range chain(t, dev) {
				if d := v - want[i]; !(d < 1e-3 && d > -1e-3) {
					t.Fatalf("element %d is %g, want %g", i, v, want[i])
				}
			}
		})
	}
}

// TestBarriers: a call waits for the calls before it that wrote what it uses or read what
// it writes, and for no others.
func TestBarriers(t *testing.T) {
	a, b := access{1, 0, 64}, access{1, 64, 128}
	for _, c := range []struct {
		first       access
		read, write bool
		then        access
		writes      bool
		want        bool
	}{
		{a, true, false, a, false, false},
		{a, true, false, a, true, true},
		{a, false, true, a, false, true},
		{a, false, true, a, true, true},
		{a, true, true, b, true, false},
		{a, true, true, access{2, 0, 64}, true, false},
		{a, false, true, access{1, 63, 65}, false, true},
	} {
		var h hazards
		h.note(c.first, c.read, c.write)
		if got := h.conflict(c.then, c.writes); got != c.want {
			t.Errorf("%+v: waits %t", c, got)
		}
	}
	var h hazards
	h.everything = true
	if !h.conflict(a, false) {
		t.Error("nothing waits after a submit")
	}
	h.clear()
	for range len(h.reads) {
		h.note(a, true, false)
	}
	if !h.conflict(b, false) {
		t.Error("a full list is not a barrier")
	}
}

// TestValidationListens makes the layer complain, so that its silence means something.
func TestValidationListens(t *testing.T) {
	if os.Getenv("SIFT_VULKAN_VALIDATE") != "1" {
		t.Skip("without SIFT_VULKAN_VALIDATE=1 the validation layer is off")
	}
	dev, err := open(t, lavapipe, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := dev.(*device)
	x, y := tensor(t, d, 1, 64, 1), tensor(t, d, 1, 64, 2)
	for range 2 {
		if err := d.copy(x.Buf.(*buffer), 0, y.Buf.(*buffer), 0, 256); err != nil {
			t.Fatal(err)
		}
		d.hazards.clear() // forgotten: the second copy overwrites without waiting
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	_, _ = x.Buf.Free(), y.Buf.Free()
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), "WRITE_AFTER_WRITE") {
		t.Fatalf("a hazard goes unnoticed: %v", err)
	}
}

// TestGarbageCollector opens, computes and closes while another goroutine keeps the
// collector busy: nothing that a driver reads may be Go's to move or free.
func TestGarbageCollector(t *testing.T) {
	find(t, lavapipe)
	stop := make(chan struct{})
	var done sync.WaitGroup
	for range 2 {
		done.Add(1)
		go func() {
			defer done.Done()
			var keep [][]byte
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if keep = append(keep, make([]byte, 1<<(i%18))); len(keep) > 200 {
					keep = nil
					runtime.GC()
				}
			}
		}()
	}
	rounds := 15
	if testing.Short() {
		rounds = 3
	}
	want := chain(t, use(t, Options{}))
	for range rounds {
		dev, err := open(t, lavapipe, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range chain(t, dev) {
			if v != want[i] {
				t.Fatalf("element %d is %g, was %g", i, v, want[i])
			}
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	done.Wait()
}

// resident returns the process's resident memory in bytes.
func resident(t *testing.T) int {
	debug.FreeOSMemory() // what Go keeps for later is not leaked
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestCycles opens and closes a device a thousand times, each with a buffer and a kernel,
// and requires the memory of the process to stay where it was halfway.
func TestCycles(t *testing.T) {
	find(t, lavapipe)
	cycles := 1000
	if testing.Short() || os.Getenv("SIFT_VULKAN_VALIDATE") == "1" {
		cycles = 200
	}
	begin := 0
	for i := range cycles {
		dev, err := open(t, lavapipe, Options{})
		if err != nil {
			t.Fatal(err)
		}
		d := dev.(*device)
		x, y := tensor(t, d, 8, 8, 1), tensor(t, d, 8, 8, 2)
		if err := d.Add(y, x); err != nil {
			t.Fatal(err)
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		_, _ = x.Buf.Free(), y.Buf.Free()
		if d.buffers != 3 { // staging, absent tensors, status
			t.Fatalf("%d buffers are left", d.buffers)
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if d.bytes() != 0 {
			t.Fatalf("%d bytes of device memory are left", d.bytes())
		}
		if i == cycles/2 {
			begin = resident(t)
		}
	}
	// The allocator's own arenas come in steps of megabytes; one leaked descriptor pool is more
	// than a megabyte a cycle, a device's queue thread or block of memory more than that. What
	// is smaller the validation layer reports, which looks for objects that outlive the device.
	if grown := resident(t) - begin; grown > 32<<20 {
		t.Errorf("the process has grown by %d bytes in %d cycles", grown, cycles/2)
	}
}

// TestPieces gives pieces of a pool out and back at random: none overlap, all are aligned,
// and in the end everything is free.
func TestPieces(t *testing.T) {
	d := use(t, Options{})
	p := &pool{dev: d, kind: d.main.kind, minimum: 1 << 20}
	type piece struct {
		b            *block
		at, n, align int64
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var out []piece
	for i := range 4000 {
		if len(out) > 0 && (rng.IntN(2) == 0 || i > 3000) {
			k := rng.IntN(len(out))
			x := out[k]
			p.give(x.b, x.at, x.n, x.align)
			out = append(out[:k], out[k+1:]...)
			continue
		}
		n, align := int64(1+rng.IntN(1<<uint(1+rng.IntN(20)))), int64(16)<<rng.IntN(6)
		b, at, err := p.take(n, align)
		if err != nil {
			t.Fatal(err)
		}
		if at%align != 0 || at < 0 || at+n > b.size {
			t.Fatalf("%d bytes at %d of a block of %d, alignment %d", n, at, b.size, align)
		}
		for _, x := range out {
			if x.b == b && at < x.at+x.n && x.at < at+n {
				t.Fatalf("pieces at %d and %d overlap", at, x.at)
			}
		}
		out = append(out, piece{b, at, n, align})
	}
	for _, x := range out {
		p.give(x.b, x.at, x.n, x.align)
	}
	if len(p.blocks) > 1 || len(p.blocks) == 1 && (len(p.blocks[0].free) != 1 || p.blocks[0].free[0].n != p.blocks[0].size) {
		t.Errorf("%d blocks are left, %+v", len(p.blocks), p.blocks)
	}
	p.close()
	if p.bytes != 0 {
		t.Errorf("%d bytes are left", p.bytes)
	}
}

// TestFaults fails each call that can fail, one after the other: an error of kind
// fault.Device in one line, no later call succeeds on a lost device, and closing works.
func TestFaults(t *testing.T) {
	find(t, lavapipe)
	results := map[string]vk.Result{"allocate": vk.ErrorOutOfDeviceMemory, "create a buffer": vk.ErrorOutOfDeviceMemory,
		"compile": vk.ErrorOutOfHostMemory, "begin": vk.ErrorDeviceLost, "submit": vk.ErrorDeviceLost, "wait": vk.ErrorDeviceLost}
	for what, result := range results {
		seen := 0
		for n := 1; ; n++ {
			count := 0
			err := program(t, Options{fail: func(w string) vkResult {
				if w == what {
					if count++; count >= n { // and from now on: a smaller block is tried
						return vkResult(result)
					}
				}
				return 0
			}})
			if count < n {
				if err != nil {
					t.Fatalf("without a fault: %v", err)
				}
				break
			}
			seen++
			if err == nil || fault.KindOf(err) != fault.Device || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), resultText(vkResult(result))) {
				t.Errorf("%s %d fails: error is %v of kind %d", what, n, err, fault.KindOf(err))
			}
		}
		if seen == 0 {
			t.Errorf("nothing calls for %q", what)
		}
	}
}

// program is a short life of a device. It returns the first error.
func program(t *testing.T, o Options) error {
	o.style = "gpu" // staged transfers: more calls
	dev, err := open(t, lavapipe, o)
	if err != nil {
		return err
	}
	d := dev.(*device)
	defer func() {
		if err := dev.Close(); err != nil && d.lost == nil {
			t.Errorf("close: %v", err)
		}
	}()
	x, err := backend.Alloc(dev, backend.F32, 100, 100)
	if err != nil {
		return err
	}
	defer func() { _ = x.Buf.Free() }()
	big, err := backend.Alloc(dev, backend.F32, 5000, 4000)
	if err != nil {
		return err
	}
	defer func() { _ = big.Buf.Free() }()
	s := backend.NewStream(dev)
	out := make([]float32, 10000)
	for range 3 {
		if err := s.UploadF32(x, out); err != nil {
			break
		}
		s.Add(x, big.RowRange(7, 100).ColRange(9, 100))
		if err := s.DownloadF32(out, x); err != nil {
			break
		}
	}
	err = s.Err()
	if d.lost != nil {
		if again := d.Add(x, big); again == nil || d.Sync() == nil || d.UploadF32(x, out) == nil || d.DownloadF32(out, x) == nil {
			t.Error("a lost device goes on")
		}
	}
	return err
}

// TestPipelineCache: what is compiled is kept for the next run, and a damaged file ignored.
func TestPipelineCache(t *testing.T) {
	dir := t.TempDir()
	run := func() (loaded int) {
		dev, err := open(t, lavapipe, Options{CacheDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		chain(t, dev)
		loaded = dev.(*device).kernels.loaded
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		return loaded
	}
	if n := run(); n != 0 {
		t.Fatalf("%d bytes loaded from nothing", n)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "pipelines-*"))
	if len(files) != 1 {
		t.Fatalf("files are %v", files)
	}
	if run() == 0 {
		t.Error("the cache was not read")
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(files[0], data, 0o644); err != nil {
		t.Fatal(err)
	}
	if n := run(); n != 0 {
		t.Errorf("%d bytes loaded from a damaged file", n)
	}
	if run() == 0 {
		t.Error("the damaged file was not replaced")
	}
}
