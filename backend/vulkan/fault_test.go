//go:build cgo && linux

package vulkan

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sift/backend"
	"sift/fault"
)

// faultLayer builds the layer of testdata/faultlayer and turns it on for this test. It
// returns the file that the layer's report goes to, and what opens lavapipe.
func faultLayer(t *testing.T) (report string, o Options) {
	t.Helper()
	o = Options{Select: strconv.Itoa(find(t, lavapipe)), CacheDir: "-"}
	if os.Getenv("SIFT_VULKAN_VALIDATE") == "1" {
		t.Skip("the validation layer has the place of this one")
	}
	dir := t.TempDir()
	out, err := exec.Command("gcc", "-std=gnu11", "-O1", "-Wall", "-shared", "-fPIC", "-Wl,-z,nodelete",
		"-o", filepath.Join(dir, "libfault.so"), "testdata/faultlayer/layer.c").CombinedOutput()
	if err != nil {
		if os.Getenv("SIFT_REQUIRE_VULKAN") == "1" {
			t.Fatalf("%s: %v", out, err)
		}
		t.Skipf("the fault layer needs gcc and Vulkan's headers (Debian: libvulkan-dev): %v", err)
	}
	data := read(t, "testdata/faultlayer/layer.json")
	if err := os.WriteFile(filepath.Join(dir, "layer.json"), []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	report = filepath.Join(dir, "report")
	t.Setenv("VK_LAYER_PATH", dir)
	t.Setenv("VK_INSTANCE_LAYERS", "VK_LAYER_SIFT_fault")
	t.Setenv("SIFT_FAULT_REPORT", report)
	// Mesa 22's layer that sorts devices reads past the end of an empty list.
	t.Setenv("NODEVICE_SELECT", "1")
	return report, o
}

// calls are the counts of one report.
type calls struct {
	called     map[string]int // by function
	made, left map[string]int // by kind of object
}

func readCalls(t *testing.T, path string) calls {
	t.Helper()
	c := calls{map[string]int{}, map[string]int{}, map[string]int{}}
	for _, line := range strings.Split(strings.TrimSpace(read(t, path)), "\n") {
		var what, name string
		var n, left int
		if _, err := fmt.Sscan(line+" 0", &what, &name, &n, &left); err != nil {
			t.Fatalf("report line %q: %v", line, err)
		}
		if what == "call" {
			c.called[name] = n
		} else {
			c.made[name], c.left[name] = n, left
		}
	}
	return c
}

// leftover names the kinds of objects of which more are left than there were before.
func (c calls) leftover(before calls) (kinds []string) {
	for kind := range c.left {
		if n := c.left[kind] - before.left[kind]; n != 0 {
			kinds = append(kinds, fmt.Sprintf("%d of %d %s", n, c.made[kind]-before.made[kind], kind))
		}
	}
	slices.Sort(kinds)
	return kinds
}

// life is a short one of a device, with staged transfers, profile and kernels. What it
// allocates it frees, lost device or not. It returns the first error, and that of Close if
// there is no other.
func life(o Options) (err error) {
	o.CacheDir, o.style = "-", "gpu"
	dev, err := Open(o)
	if err != nil {
		return err
	}
	defer func() {
		if e := dev.Close(); err == nil {
			err = e
		}
	}()
	var made [3]backend.Tensor
	for i, size := range [][2]int{{100, 100}, {100, 100}, {5000, 4000}} { // the last one is beyond a block
		if made[i], err = backend.Alloc(dev, backend.F32, size[0], size[1]); err != nil {
			return err
		}
		defer func() {
			if e := made[i].Buf.Free(); err == nil {
				err = e
			}
		}()
	}
	x, y, big := made[0], made[1], made[2]
	if err := dev.(backend.Profiler).StartProfile(); err != nil {
		return err
	}
	s := backend.NewStream(dev)
	out := make([]float32, 10000)
	for range 3 {
		if err := s.UploadF32(x, out); err != nil {
			return err
		}
		s.Add(x, big.RowRange(7, 100).ColRange(9, 100))
		s.Gemm(backend.GemmArgs{C: y, A: x, B: big.RowRange(0, 100).ColRange(0, 100), Alpha: 1})
		if err := s.DownloadF32(out, y); err != nil {
			return err
		}
	}
	_, err = dev.(backend.Profiler).StopProfile()
	return err
}

// inject sets which calls of the next life fail; each name is told apart from earlier ones.
func inject(t *testing.T, fault, name string) { t.Setenv("SIFT_FAULT", fault+"#"+name) }

// TestEveryCallFails lets each call into Vulkan fail in turn, until a life passes: each
// time an error of kind fault.Device in one line, and no object is left behind.
func TestEveryCallFails(t *testing.T) {
	report, o := faultLayer(t)
	inject(t, "", "none")
	if err := life(o); err != nil {
		t.Fatal(err)
	}
	whole := readCalls(t, report)
	if left := whole.leftover(calls{}); len(left) > 0 {
		t.Errorf("a life without faults leaves %v", left)
	}
	results := map[string]struct {
		number int
		words  string
	}{
		"vkQueueSubmit":              {-4, "the device was lost"},
		"vkWaitForFences":            {-4, "the device was lost"},
		"vkResetFences":              {-2, "out of device memory"},
		"vkGetQueryPoolResults":      {-4, "the device was lost"},
		"vkMapMemory":                {-5, "cannot be mapped"},
		"vkCreateInstance":           {-9, "no driver"},
		"vkEnumeratePhysicalDevices": {-1, "out of host memory"},
		"vkCreateDevice":             {-3, "could not be initialised"},
	}
	most := 8 // of one function: the first ones, the last, and some between
	if testing.Short() {
		most = 2
	}
	cases, before := 0, whole
	for name, count := range whole.called {
		result := results[name]
		if result.number == 0 {
			result.number, result.words = -2, "out of device memory"
		}
		for _, n := range spread(count, most) {
			what := fmt.Sprintf("%s:%d:%d", name, n, result.number)
			if name == "vkAllocateMemory" || name == "vkMapMemory" { // one failure alone is answered with a smaller block
				what = fmt.Sprintf("%s:%d+:%d", name, n, result.number)
			}
			inject(t, what, "")
			err := life(o)
			got := before
			if name != "vkCreateInstance" { // without an instance there is no report
				got = readCalls(t, report)
			}
			if left := got.leftover(before); len(left) > 0 {
				t.Errorf("%s leaves %v (the error is %v)", what, left, err)
			}
			before = got
			switch optional := name == "vkDeviceWaitIdle" || name == "vkGetPipelineCacheData"; {
			case optional && err == nil: // nothing hangs on it
			case err == nil || fault.KindOf(err) != fault.Device || strings.ContainsAny(err.Error(), "\n\r") || !strings.Contains(err.Error(), result.words):
				t.Errorf("%s: the error is %v, of kind %d; want %q in one line", what, err, fault.KindOf(err), result.words)
			}
			cases++
		}
	}
	if cases < 40 && !testing.Short() || whole.called["vkAllocateMemory"] < 3 || whole.called["vkQueueSubmit"] < 3 {
		t.Errorf("only %d faults: %v", cases, whole.called)
	}
}

// TestNoHostMemory lets the binding panic for want of memory at each of its calls in turn:
// an error of kind fault.Device in one line, and nothing is left behind.
func TestNoHostMemory(t *testing.T) {
	report, o := faultLayer(t)
	inject(t, "", "memory")
	if err := life(o); err != nil {
		t.Fatal(err)
	}
	before := readCalls(t, report)
	for _, what := range []string{"create a buffer", "allocate", "load"} {
		count := 0
		for n := 1; n == 1 || count >= n-1; n++ {
			count = 0
			o.fail = func(w string) vkResult {
				if w == what {
					if count++; count == n {
						panic("memory alloc error: cannot allocate memory")
					}
				}
				return 0
			}
			err := life(o)
			got := readCalls(t, report)
			if left := got.leftover(before); len(left) > 0 {
				t.Errorf("%s %d leaves %v (the error is %v)", what, n, left, err)
			}
			before = got
			if count < n {
				if err != nil || n == 1 {
					t.Errorf("%s %d: not called, and %v", what, n, err)
				}
				break
			}
			if fault.KindOf(err) != fault.Device || !strings.Contains(fmt.Sprint(err), "out of memory on the host") {
				t.Errorf("%s %d: %v of kind %d", what, n, err, fault.KindOf(err))
			}
		}
	}
	o.fail = func(string) vkResult { panic("another") }
	defer func() {
		if p := recover(); p != "another" {
			t.Errorf("another panic became %v", p)
		}
	}()
	_ = life(o)
}

// spread returns at most most numbers of 1..n: the first, the last and others between.
func spread(n, most int) (all []int) {
	if n <= most {
		most = n
	}
	for i := range most {
		all = append(all, 1+i*(n-1)/max(most-1, 1))
	}
	return all
}

// TestNoDevice: a driver without a device is an error that says so.
func TestNoDevice(t *testing.T) {
	faultLayer(t)
	t.Setenv("SIFT_FAULT_NO_DEVICES", "1")
	if _, err := Open(Options{}); fault.KindOf(err) != fault.Device || !strings.Contains(fmt.Sprint(err), "no device") {
		t.Errorf("open: %v", err)
	}
	if list, err := List(); len(list) != 0 || fault.KindOf(err) != fault.Device {
		t.Errorf("list: %v, %v", list, err)
	}
}

// TestBrokenDrivers: what stands in the way of Vulkan is named in one line.
func TestBrokenDrivers(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	garbage := file("garbage.so", "not a library")
	driver := func(name, library string) string {
		return file(name, fmt.Sprintf(`{"file_format_version": "1.0.0", "ICD": {"library_path": %q, "api_version": "1.1.0"}}`, library))
	}
	for _, c := range []struct{ name, loader, driver, want string }{
		{"no loader", filepath.Join(dir, "absent.so"), "", "(SIFT_VULKAN_LOADER names it)"},
		{"the loader is garbage", garbage, "", "no loader"},
		{"the loader is another library", "libm.so.6", "", "vkGetInstanceProcAddr"},
		{"no driver", "", filepath.Join(dir, "absent.json"), ""},
		{"the driver's file is garbage", "", file("garbage.json", "{]"), ""},
		{"the driver is missing", "", driver("missing.json", "./absent.so"), "no driver"},
		{"the driver is garbage", "", driver("library.json", garbage), "no driver"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.loader == "" {
				find(t, lavapipe) // there is a loader
			}
			t.Setenv("SIFT_VULKAN_LOADER", c.loader)
			t.Setenv("VK_DRIVER_FILES", c.driver)
			t.Setenv("VK_ICD_FILENAMES", c.driver)
			for range 2 {
				_, err := Open(Options{})
				if err == nil || fault.KindOf(err) != fault.Device || strings.ContainsAny(err.Error(), "\n\r") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v of kind %d, want %q in one line", err, fault.KindOf(err), c.want)
				}
			}
		})
	}
}

// TestCyclesLeaveNothing opens, uses and closes a device a thousand times; the layer sees
// every object of Vulkan destroyed.
func TestCyclesLeaveNothing(t *testing.T) {
	report, o := faultLayer(t)
	inject(t, "", "cycles")
	cycles := 1000
	if testing.Short() {
		cycles = 50
	}
	for range cycles {
		dev, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		x, y := tensor(t, dev, 8, 8, 1), tensor(t, dev, 8, 8, 2)
		if err := errors.Join(dev.Add(y, x), dev.Sync(), x.Buf.Free(), y.Buf.Free(), dev.Close()); err != nil {
			t.Fatal(err)
		}
	}
	c := readCalls(t, report)
	if left := c.leftover(calls{}); len(left) > 0 {
		t.Errorf("after %d cycles there are left %v", cycles, left)
	}
	for _, kind := range []string{"Instance", "Device", "Memory", "Buffer", "CommandPool", "DescriptorPool", "Fence", "Pipeline", "ShaderModule"} {
		if c.made[kind] < cycles {
			t.Errorf("%d %s are counted in %d cycles", c.made[kind], kind, cycles)
		}
	}
}
