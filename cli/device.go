package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sift/backend"
	"sift/backend/cpu"
	"sift/backend/cuda"
	"sift/backend/vulkan"
	"sift/config"
	"sift/fault"
)

// An opened device, with what was known when it was chosen. Close device.
type opened struct {
	device   backend.Device
	why      string           // why auto took it; empty where it was named
	software bool             // a Vulkan driver that runs on the processor
	physical *vulkan.Physical // of a Vulkan device that was chosen from the list
	rated    string           // by what the peak of a device of its own is reached
}

// deviceUse is what a device is opened for beside its name.
type deviceUse struct {
	precision string // train.precision: f32, bf16 or f16; empty is f32
	tuning    []byte // kernel choices to pin (backend.Tuned); nil: the device's own
}

// forTraining is the use of a run: a resumed one computes with the kernels it began with.
func forTraining(c config.Train, tuning []byte) deviceUse {
	return deviceUse{precision: c.Precision, tuning: tuning}
}

// drivers are how this machine's GPUs are found and opened.
type drivers struct {
	present func() bool // false: there is surely no GPU, and nothing need be loaded to say so
	list    func() ([]vulkan.Physical, error)
	open    func(vulkan.Options) (backend.Device, error)
	cuda    cudaDriver
}

// cudaDriver is the CUDA side of drivers.
type cudaDriver struct {
	built bool
	list  func() ([]cuda.Physical, error)
	open  func(cuda.Options) (backend.Device, error)
}

func systemDrivers() drivers {
	return drivers{gpuNode, vulkan.List, vulkan.Open, cudaDriver{cuda.Built, cuda.List, cuda.Open}}
}

// gpuNode reports whether the kernel shows a GPU: a render node, NVIDIA's own device, or
// the one that Windows lends to its Linux.
func gpuNode() bool {
	for _, pattern := range []string{"/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/dxg"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// openDevice opens the device a configuration names. What is named and cannot be opened
// is an error, never a fallback; auto alone chooses.
func openDevice(d config.Device, use deviceUse) (*opened, error) {
	return systemDrivers().openDevice(d, use)
}

func (v drivers) openDevice(d config.Device, use deviceUse) (*opened, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	switch d.Name {
	case "auto":
		return v.openAuto(d, use)
	case "cpu":
		return openCPU(d, use, "")
	case "reference":
		if use.narrow() {
			return nil, use.impossible(d.Name)
		}
		return &opened{device: cpu.NewReference(backend.F32)}, nil
	}
	if d.Name == "cuda" || strings.HasPrefix(d.Name, "cuda:") {
		return v.openCUDA(d, use)
	}
	return v.openVulkan(d.Name, use)
}

// narrow reports whether something is computed in less than float32.
func (u deviceUse) narrow() bool { return u.precision != "" && u.precision != "f32" }

// needs names the device that a narrow precision needs.
func (u deviceUse) needs() string {
	if u.precision == "bf16" {
		return "cuda"
	}
	return "vulkan"
}

// impossible is the error of a device that does not compute in the precision asked for.
func (u deviceUse) impossible(name string) error {
	return fault.New(fault.Config, "train.precision: %s: device.name is %s, which does not compute in it; %s needs %s", u.precision, name, u.precision, u.needs())
}

func openCPU(d config.Device, use deviceUse, why string) (*opened, error) {
	if use.narrow() && why == "" {
		return nil, use.impossible(d.Name)
	}
	if use.narrow() {
		return nil, fault.New(fault.Device, "train.precision: %s: needs a GPU of %s, and device.name auto finds none: %s", use.precision, use.needs(), why)
	}
	if d.CuBLAS != "off" {
		return nil, fault.New(fault.Device, "device.cublas: %s: needs a GPU of cuda, and device.name auto finds none: %s", d.CuBLAS, why)
	}
	device, err := cpu.Open(cpu.Options{Threads: d.Threads, ISA: d.ISA})
	if err != nil {
		return nil, err
	}
	return &opened{device: device, why: why}, nil
}

// autoPatience bounds how long auto waits for a driver to name its devices.
const autoPatience = 5 * time.Second

// openAuto takes a GPU that CUDA can open, else a discrete one that Vulkan can open, else
// the processor; it passes over what does not compute in the precision asked for. Nothing
// that is wrong with a driver is an error here; it is the reason given for the processor.
func (v drivers) openAuto(d config.Device, use deviceUse) (*opened, error) {
	if use.precision == "f16" && d.CuBLAS != "off" {
		return nil, fault.New(fault.Config, "device.cublas: %s: needs cuda; train.precision is f16, which needs vulkan", d.CuBLAS)
	}
	var passed []string
	if v.cuda.built && use.precision != "f16" && v.present() {
		device, why := v.autoCUDA(d, use)
		if device != nil {
			return &opened{device: device, why: "a GPU with CUDA"}, nil
		}
		passed = append(passed, why)
	}
	if use.precision == "bf16" || d.CuBLAS != "off" {
		if !v.cuda.built {
			passed = append(passed, "this build has no CUDA")
		} else if len(passed) == 0 {
			passed = append(passed, "this machine shows no GPU")
		}
		return openCPU(d, use, strings.Join(passed, "; "))
	}
	gpu, why := v.discrete()
	if gpu == nil {
		return openCPU(d, use, strings.Join(append(passed, why), "; "))
	}
	device, err := v.open(vulkan.Options{Select: strconv.Itoa(gpu.Index), Precision: use.vulkan(), Tuning: use.tuning})
	if err != nil {
		return openCPU(d, use, fmt.Sprintf("vulkan:%d, %s, does not open: %v", gpu.Index, gpu.Name, err))
	}
	return &opened{device: device, why: "a discrete GPU", physical: gpu}, nil
}

// vulkan is the precision as package vulkan takes it.
func (u deviceUse) vulkan() backend.DType {
	if u.precision == "f16" {
		return backend.F16
	}
	return backend.F32
}

// cuda is the precision as package cuda takes it.
func (u deviceUse) cuda() backend.DType {
	if u.precision == "bf16" {
		return backend.BF16
	}
	return backend.F32
}

// cudaOptions are those of the device called choice.
func cudaOptions(d config.Device, choice string, use deviceUse) cuda.Options {
	return cuda.Options{Select: choice, Precision: use.cuda(), CuBLAS: d.CuBLAS != "off", TF32: d.CuBLAS == "tf32"}
}

// autoCUDA opens the first device that CUDA drives, or says why there is none.
func (v drivers) autoCUDA(d config.Device, use deviceUse) (backend.Device, string) {
	list, err := v.cuda.list()
	if err != nil {
		return nil, oneLine(err.Error())
	}
	i := slices.IndexFunc(list, func(p cuda.Physical) bool { return p.Reason == "" })
	if i < 0 {
		return nil, "CUDA has no device that the kernels run on"
	}
	device, err := v.cuda.open(cudaOptions(d, strconv.Itoa(list[i].Index), use))
	if err != nil {
		return nil, fmt.Sprintf("cuda:%d, %s, does not open: %v", list[i].Index, list[i].Name, err)
	}
	return device, ""
}

// openCUDA opens what cuda or cuda:N names.
func (v drivers) openCUDA(d config.Device, use deviceUse) (*opened, error) {
	if use.precision == "f16" {
		return nil, use.impossible(d.Name)
	}
	_, choice, _ := strings.Cut(d.Name, ":")
	device, err := v.cuda.open(cudaOptions(d, choice, use))
	if errors.Is(err, cuda.ErrCuBLAS) {
		return nil, fault.In("device.cublas: "+d.CuBLAS, err)
	}
	if err != nil {
		return nil, fault.In("device.name", fault.As(fault.Device, err))
	}
	return &opened{device: device}, nil
}

// discrete returns the discrete GPU that auto takes, or why there is none.
func (v drivers) discrete() (gpu *vulkan.Physical, why string) {
	// Whoever names a loader or a driver wants to know what becomes of it.
	var named []string
	for _, name := range []string{"SIFT_VULKAN_LOADER", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"} {
		if os.Getenv(name) != "" {
			named = append(named, name)
		}
	}
	if len(named) == 0 && !v.present() {
		return nil, "this machine shows no GPU"
	}
	type answer struct {
		list []vulkan.Physical
		err  error
	}
	answers := make(chan answer, 1) // a driver that hangs keeps its goroutine, not the run
	go func() {
		list, err := v.list()
		answers <- answer{list, err}
	}()
	timer := time.NewTimer(autoPatience)
	defer timer.Stop()
	select {
	case a := <-answers:
		if a.err != nil && len(named) > 0 {
			return nil, strings.Join(named, " and ") + " set, but " + oneLine(a.err.Error())
		}
		if a.err != nil {
			return nil, oneLine(a.err.Error())
		}
		best := bestGPU(a.list)
		if best == nil || best.Type != "discrete" {
			return nil, "Vulkan has no discrete GPU"
		}
		return best, ""
	case <-timer.C:
		return nil, fmt.Sprintf("Vulkan did not list its devices within %s", autoPatience)
	}
}

// bestGPU returns the best device that is not the processor: discrete before integrated
// before virtual before other, the most memory within a kind, the first of equals.
func bestGPU(list []vulkan.Physical) *vulkan.Physical {
	rank := func(p vulkan.Physical) int {
		return slices.Index([]string{"", "virtual", "integrated", "discrete"}, p.Type) // other: -1
	}
	var best *vulkan.Physical
	for i, p := range list {
		if p.Type == "cpu" {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(rank(p), rank(*best)), cmp.Compare(p.MemoryBytes, best.MemoryBytes)) > 0 {
			best = &list[i]
		}
	}
	return best
}

// openVulkan opens what vulkan, vulkan:cpu or vulkan:N names.
func (v drivers) openVulkan(name string, use deviceUse) (*opened, error) {
	if use.precision == "bf16" {
		return nil, use.impossible(name)
	}
	list, err := v.list()
	if err != nil {
		return nil, fault.In("device.name", fault.As(fault.Device, err))
	}
	_, choice, _ := strings.Cut(name, ":")
	var best *vulkan.Physical
	switch choice {
	case "":
		best = bestGPU(list)
		if best == nil && len(list) > 0 {
			return nil, fault.New(fault.Device, "device.name: vulkan: no GPU; %s is a software driver, which --device vulkan:cpu opens", list[0].Name)
		}
		if best == nil {
			return nil, fault.New(fault.Device, "device.name: vulkan: Vulkan has no device")
		}
		choice = strconv.Itoa(best.Index)
	case "cpu":
		if i := slices.IndexFunc(list, func(p vulkan.Physical) bool { return p.Type == "cpu" }); i >= 0 {
			best = &list[i]
		}
	default:
		i := slices.IndexFunc(list, func(p vulkan.Physical) bool { return strconv.Itoa(p.Index) == choice })
		if i < 0 {
			return nil, fault.New(fault.Device, "device.name: %s: no such device; sift devices lists %s", name, counted(len(list), "Vulkan device"))
		}
		best = &list[i]
	}
	device, err := v.open(vulkan.Options{Select: choice, Precision: use.vulkan(), Tuning: use.tuning})
	if err != nil {
		return nil, fault.In("device.name", fault.As(fault.Device, err))
	}
	return &opened{device: device, software: best == nil || best.Type == "cpu", physical: best}, nil
}

// line says which device runs and why.
func (o *opened) line() string {
	info := o.device.Info()
	parts := []string{"device: " + info.Name, info.Description}
	if info.ISA != "" {
		parts = append(parts, info.ISA)
	}
	if info.Threads > 0 {
		parts = append(parts, counted(info.Threads, "thread"))
	}
	why := ""
	if o.why != "" {
		why = " (auto: " + o.why + ")"
	}
	return strings.Join(parts, ", ") + why
}

// pinned returns the kernel choices of an open device, so that it can be opened again
// with the same; nil if it made none.
func pinned(device backend.Device) []byte {
	if t, ok := device.(backend.Tuned); ok {
		return t.Tuning()
	}
	return nil
}

// addDeviceFlags declares the device keys alone, for commands that configure nothing else.
func addDeviceFlags(flags *pflag.FlagSet) {
	base := config.Default()
	for _, s := range settings() {
		switch s.key {
		case "device.name":
			addConfigFlag(flags, "device", s, base)
			addConfigFlag(flags, s.key, s, base)
		case "device.threads", "device.isa", "device.cublas":
			addConfigFlag(flags, s.key, s, base)
		}
	}
}
