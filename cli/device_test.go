package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/backend/cuda"
	"sift/backend/vulkan"
	"sift/config"
	"sift/fault"
)

// gpus is a machine with the given Vulkan devices; what was opened is left in options.
type gpus struct {
	list    []vulkan.Physical
	err     error
	broken  bool // devices are listed and do not open
	options []vulkan.Options

	cuda    []cuda.Physical // of a build with CUDA; nil: a build without
	noCUDA  error
	refuses bool // CUDA's devices are listed and do not open
	chosen  []cuda.Options
}

// fakeGPU is a device that says it is a GPU.
type fakeGPU struct {
	backend.Device
	name string
}

func (f *fakeGPU) Info() backend.Info {
	return backend.Info{Name: f.name, Description: "pretended", Kind: "vulkan", Float: backend.F32}
}

func (g *gpus) driver() drivers {
	list := func() ([]cuda.Physical, error) {
		if g.noCUDA == nil && g.cuda == nil {
			return cuda.List() // of a build without CUDA
		}
		return g.cuda, g.noCUDA
	}
	return drivers{
		cuda: cudaDriver{g.cuda != nil || g.noCUDA != nil, list, func(o cuda.Options) (backend.Device, error) {
			g.chosen = append(g.chosen, o)
			if _, err := list(); err != nil {
				return nil, err
			}
			if g.refuses {
				return nil, fault.New(fault.Device, "cuda: no context")
			}
			return &fakeGPU{cpu.NewReference(backend.F32), "cuda:" + o.Select}, nil
		}},
		present: func() bool { return true },
		list:    func() ([]vulkan.Physical, error) { return g.list, g.err },
		open: func(o vulkan.Options) (backend.Device, error) {
			g.options = append(g.options, o)
			if g.broken {
				return nil, fault.New(fault.Device, "vulkan: no queue")
			}
			return &fakeGPU{cpu.NewReference(backend.F32), "vulkan:" + o.Select}, nil
		},
	}
}

var (
	software   = vulkan.Physical{Index: 0, Name: "llvmpipe", Type: "cpu", Driver: "llvmpipe 22", API: "1.3", MemoryBytes: 24e9}
	integrated = vulkan.Physical{Index: 1, Name: "Iris", Type: "integrated", MemoryBytes: 16e9}
	small      = vulkan.Physical{Index: 2, Name: "small", Type: "discrete", MemoryBytes: 4e9}
	a100       = cuda.Physical{Index: 1, Name: "A100", Capability: "8.0", Driver: "12.4", MemoryBytes: 80e9}
	v100       = cuda.Physical{Index: 0, Name: "V100", Capability: "7.0", Driver: "12.4", MemoryBytes: 16e9, Reason: "its compute capability is 7.0"}
	large      = vulkan.Physical{Index: 3, Name: "large", Type: "discrete", MemoryBytes: 12e9}
)

// TestOpenDevice: who is opened under each name, and what is said where nobody is.
func TestOpenDevice(t *testing.T) {
	all := []vulkan.Physical{software, integrated, small, large}
	none := fault.New(fault.Device, "vulkan: no loader: libvulkan.so.1 is not there")
	f16, bf16 := deviceUse{precision: "f16"}, deviceUse{precision: "bf16"}
	for _, c := range []struct {
		name string
		g    gpus
		use  deviceUse
		want string // name of the device, or part of the error
		why  string
		kind fault.Kind
	}{
		{name: "vulkan", g: gpus{list: all}, want: "vulkan:3"},
		{name: "vulkan", g: gpus{list: all[:3]}, want: "vulkan:2"},
		{name: "vulkan", g: gpus{list: all[:2]}, want: "vulkan:1"},
		{name: "vulkan", g: gpus{list: all}, use: f16, want: "vulkan:3"},
		{name: "vulkan", g: gpus{list: all[:1]}, want: "llvmpipe is a software driver, which --device vulkan:cpu opens", kind: fault.Device},
		{name: "vulkan", g: gpus{}, want: "has no device", kind: fault.Device},
		{name: "vulkan", g: gpus{err: none}, want: "device.name: vulkan: no loader", kind: fault.Device},
		{name: "vulkan", g: gpus{list: all, broken: true}, want: "no queue", kind: fault.Device},
		{name: "vulkan:0", g: gpus{list: all}, want: "vulkan:0"},
		{name: "vulkan:1", g: gpus{list: all}, want: "vulkan:1"},
		{name: "vulkan:7", g: gpus{list: all}, want: "no such device; sift devices lists 4 Vulkan devices", kind: fault.Device},
		{name: "vulkan:cpu", g: gpus{list: all}, want: "vulkan:cpu"},
		{name: "auto", g: gpus{list: all}, want: "vulkan:3", why: "a discrete GPU"},
		{name: "auto", g: gpus{list: all}, use: f16, want: "vulkan:3", why: "a discrete GPU"},
		{name: "auto", g: gpus{list: all[:2]}, want: "cpu", why: "no discrete GPU"},
		{name: "auto", g: gpus{err: none}, want: "cpu", why: "vulkan: no loader"},
		{name: "auto", g: gpus{list: all, broken: true}, want: "cpu", why: "vulkan:3, large, does not open: vulkan: no queue"},
		{name: "auto", g: gpus{list: all[:2]}, use: f16, want: "train.precision: f16: needs a GPU of vulkan", kind: fault.Device},
		{name: "cpu", g: gpus{list: all}, want: "cpu"},
		{name: "cpu", g: gpus{list: all}, use: f16, want: "does not compute in it", kind: fault.Config},
		{name: "reference", g: gpus{list: all}, use: f16, want: "does not compute in it", kind: fault.Config},
		{name: "cuda", want: "this build has no CUDA", kind: fault.Device},
		{name: "cuda:0", want: "make cuda builds one", kind: fault.Device},
		{name: "cuda:1", g: gpus{cuda: []cuda.Physical{v100, a100}}, want: "cuda:1"},
		{name: "cuda:1", g: gpus{cuda: []cuda.Physical{v100, a100}}, use: bf16, want: "cuda:1"},
		{name: "cuda:1", g: gpus{cuda: []cuda.Physical{v100, a100}}, use: f16, want: "f16 needs vulkan", kind: fault.Config},
		{name: "vulkan", g: gpus{list: all}, use: bf16, want: "bf16 needs cuda", kind: fault.Config},
		{name: "auto", g: gpus{list: all, cuda: []cuda.Physical{v100, a100}}, want: "cuda:1", why: "a GPU with CUDA"},
		{name: "auto", g: gpus{list: all, cuda: []cuda.Physical{v100, a100}}, use: bf16, want: "cuda:1", why: "a GPU with CUDA"},
		{name: "auto", g: gpus{list: all, cuda: []cuda.Physical{v100, a100}}, use: f16, want: "vulkan:3", why: "a discrete GPU"},
		{name: "auto", g: gpus{list: all, cuda: []cuda.Physical{v100}}, want: "vulkan:3", why: "a discrete GPU"},
		{name: "auto", g: gpus{cuda: []cuda.Physical{a100}, refuses: true}, want: "cpu", why: "cuda:1, A100, does not open: cuda: no context; Vulkan has no discrete GPU"},
		{name: "auto", g: gpus{noCUDA: fault.New(fault.Device, "cuda: no driver")}, want: "cpu", why: "cuda: no driver; Vulkan has no discrete GPU"},
		{name: "auto", g: gpus{noCUDA: fault.New(fault.Device, "cuda: no driver")}, use: bf16, want: "bf16: needs a GPU of cuda, and device.name auto finds none: cuda: no driver", kind: fault.Device},
		{name: "auto", use: bf16, want: "finds none: this build has no CUDA", kind: fault.Device},
		{name: "cpu", use: bf16, want: "bf16 needs cuda", kind: fault.Config},
		{name: "tpu", want: "must be one of auto, cpu", kind: fault.Config},
	} {
		if cuda.Built && c.g.cuda == nil && strings.HasPrefix(c.name, "cuda") {
			continue // what a build without CUDA says
		}
		c.use.tuning = []byte("pinned")
		o, err := c.g.driver().openDevice(config.Device{Name: c.name, ISA: "go", CuBLAS: "off"}, c.use)
		if c.kind != fault.Internal {
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s with %+v: %v; want kind %d, %q", c.name, c.g, err, c.kind, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s with %+v: %v", c.name, c.g, err)
			continue
		}
		got := o.device.Info().Name
		if got == "reference" {
			got = "cpu" // what --device.isa go opens
		}
		if got != c.want || !strings.Contains(o.why, c.why) || (c.name == "auto") != strings.Contains(o.line(), "(auto: ") {
			t.Errorf("%s with %+v: opened %s, %q; want %s, %q", c.name, c.g, got, o.line(), c.want, c.why)
		}
		if o.software != (got == "vulkan:0" || got == "vulkan:cpu") {
			t.Errorf("%s: software driver: %v", got, o.software)
		}
		if strings.HasPrefix(got, "cuda") {
			want := backend.F32
			if c.use.precision == "bf16" {
				want = backend.BF16
			}
			if p := c.g.chosen[0]; p.Precision != want {
				t.Errorf("%s opened with %+v", got, p)
			}
		}
		if strings.HasPrefix(got, "vulkan") {
			want := backend.F32
			if c.use.precision == "f16" {
				want = backend.F16
			}
			if p := c.g.options[0]; p.Precision != want || string(p.Tuning) != "pinned" {
				t.Errorf("%s opened with %+v", got, p)
			}
		}
	}
	// cuBLAS, where it is asked for.
	for _, c := range []struct {
		name, cublas, precision string
		opens                   error
		want                    string
		kind                    fault.Kind
	}{
		{"cuda", "off", "", nil, "", 0},
		{"cuda:1", "on", "", nil, "", 0},
		{"auto", "tf32", "bf16", nil, "", 0},
		{"cuda", "tf32", "", cuda.ErrCuBLAS, "device.cublas: tf32: no cuBLAS", fault.Device},
		{"cuda", "on", "", fault.New(fault.Device, "cuda: no context"), "device.name: cuda: no context", fault.Device},
		{"auto", "on", "", cuda.ErrCuBLAS, "device.cublas: on: needs a GPU of cuda, and device.name auto finds none: cuda:1, A100, does not open: no cuBLAS", fault.Device},
		{"auto", "on", "f16", nil, "device.cublas: on: needs cuda; train.precision is f16", fault.Config},
		{"vulkan", "on", "", nil, "device.cublas: on: needs cuda; device.name is vulkan", fault.Config},
	} {
		g := gpus{list: all, cuda: []cuda.Physical{v100, a100}}
		v := g.driver()
		open := v.cuda.open
		v.cuda.open = func(o cuda.Options) (backend.Device, error) {
			device, err := open(o)
			if c.opens != nil {
				return nil, fault.As(fault.Device, c.opens)
			}
			return device, err
		}
		_, err := v.openDevice(config.Device{Name: c.name, ISA: "go", CuBLAS: c.cublas}, deviceUse{precision: c.precision})
		if c.want != "" {
			if err == nil || fault.KindOf(err) != c.kind || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || g.chosen[0].CuBLAS != (c.cublas != "off") || g.chosen[0].TF32 != (c.cublas == "tf32") {
			t.Errorf("%+v: opened with %+v, %v", c, g.chosen, err)
		}
	}
	v := (&gpus{list: all}).driver()
	v.present = func() bool { return false }
	v.list = func() ([]vulkan.Physical, error) {
		t.Error("drivers were loaded on a machine without a GPU")
		return nil, nil
	}
	for _, name := range []string{"SIFT_VULKAN_LOADER", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"} {
		t.Setenv(name, "")
	}
	if _, err := v.openDevice(config.Device{Name: "auto", ISA: "go", CuBLAS: "on"}, deviceUse{}); fault.KindOf(err) != fault.Device ||
		!strings.Contains(err.Error(), "device.cublas: on: needs a GPU of cuda, and device.name auto finds none") {
		t.Errorf("cublas without CUDA: %v", err)
	}
	if o, err := v.openDevice(config.Device{Name: "auto", ISA: "go", CuBLAS: "off"}, deviceUse{}); err != nil || o.why != "this machine shows no GPU" {
		t.Errorf("%+v, %v", o, err)
	}
	t.Setenv("VK_DRIVER_FILES", "/none.json")
	v.list = func() ([]vulkan.Physical, error) { return []vulkan.Physical{software}, nil }
	if o, err := v.openDevice(config.Device{Name: "auto", ISA: "go", CuBLAS: "off"}, deviceUse{}); err != nil || o.why != "Vulkan has no discrete GPU" {
		t.Errorf("%+v, %v", o, err)
	}
	t.Setenv("SIFT_VULKAN_LOADER", "/none.so")
	v.list = func() ([]vulkan.Physical, error) { return nil, none }
	if o, err := v.openDevice(config.Device{Name: "auto", ISA: "go", CuBLAS: "off"}, deviceUse{}); err != nil || o.why != "SIFT_VULKAN_LOADER and VK_DRIVER_FILES set, but "+none.Error() {
		t.Errorf("%+v, %v", o, err)
	}
	t.Setenv("SIFT_VULKAN_LOADER", "")
	if o, err := v.openDevice(config.Device{Name: "auto", ISA: "go", CuBLAS: "off"}, deviceUse{}); err != nil || o.why != "VK_DRIVER_FILES set, but "+none.Error() {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestDeviceRows(t *testing.T) {
	rows, err := (&gpus{list: []vulkan.Physical{software, integrated, large}}).driver().rows()
	if err != nil {
		t.Fatal(err)
	}
	if r := rows[0]; r.Name != "vulkan:3" || !r.Auto || r.text() != "large, 12.0 GB (auto)" {
		t.Errorf("first %+v, %q", r, r.text())
	}
	names := map[string]string{}
	autos := 0
	for _, r := range rows {
		names[r.Name] = r.what() + " " + r.text()
		if r.Auto {
			autos++
		}
	}
	if autos != 1 || names["vulkan:0"] != "software llvmpipe, llvmpipe 22, Vulkan 1.3, 24.0 GB" || !strings.HasPrefix(names["vulkan:1"], "integrated Iris") {
		t.Errorf("%d automatic, %v", autos, names)
	}
	rows, err = (&gpus{list: []vulkan.Physical{large}, cuda: []cuda.Physical{v100, a100}}).driver().rows()
	if err != nil {
		t.Fatal(err)
	}
	if r := rows[0]; r.Name != "cuda:1" || !r.Auto || r.what() != "8.0" || r.text() != "A100, CUDA 12.4, no cuBLAS, 80.0 GB (auto)" {
		t.Errorf("first %+v, %q", r, r.text())
	}
	for _, r := range rows[1:] {
		if r.Auto || r.Name == "cuda:0" && (r.Available || !strings.Contains(r.text(), "not available: its compute capability is 7.0")) {
			t.Errorf("%+v", r)
		}
	}
	for _, g := range []gpus{{err: fault.New(fault.Device, "no loader")}, {}, {list: []vulkan.Physical{software}}} {
		rows, err := g.driver().rows()
		if err != nil || rows[0].Name != "cpu" || !rows[0].Auto {
			t.Errorf("%+v, %v", rows[0], err)
		}
		if last := rows[len(rows)-1]; (g.list == nil) != (last.Name == "vulkan" && !last.Available && last.Reason != "") {
			t.Errorf("last %+v", last)
		}
	}
}

// TestDevicesOfThisMachine runs the command as it is, whatever Vulkan there is.
func TestDevicesOfThisMachine(t *testing.T) {
	var got struct{ Devices []deviceRow }
	object(t, &got, "devices")
	if len(got.Devices) < 4 || !got.Devices[0].Auto || !got.Devices[0].Available {
		t.Errorf("%+v", got)
	}
	for _, r := range got.Devices {
		if r.Available == (r.Reason != "") {
			data, _ := json.Marshal(r)
			t.Errorf("%s", data)
		}
	}
	code, out, _ := run("__complete", "finetune", "--device", "vul")
	if code != 0 || !strings.Contains(out, "vulkan:cpu\n") {
		t.Errorf("completion: exit %d: %q", code, out)
	}
}
