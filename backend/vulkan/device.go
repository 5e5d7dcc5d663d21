//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	vk "github.com/vulkan-go/vulkan"

	"sift/backend"
	"sift/fault"
)

// device is an opened device with its memory, kernels and the commands being recorded.
type device struct {
	in       *instance
	physical physical
	handle   vk.Device
	queue    vk.Queue
	table    *C.struct_sv_device
	options  Options
	info     backend.Info
	caps     caps
	half     bool // operands of matrix products are rounded to float16
	lost     error
	closed   bool

	main, staging *pool // device memory, and memory that the host sees
	buffers       int   // alive

	commands  vk.CommandPool
	setLayout vk.DescriptorSetLayout
	layout    vk.PipelineLayout
	sets      vk.DescriptorPool
	frames    [2]frame
	now       int  // the frame being recorded
	open      bool // frames[now] has been begun
	hazards   hazards
	next      call // the dispatch being put together

	kernels      kernels
	ring         *buffer // staging
	ringAt       int64
	dummy        *buffer // stands for absent tensors
	status       backend.Tensor
	statusBuffer *buffer
	work         backend.Tensor // scratch
	tuner        tuner
	profile      *profile
	coop         cooperative
}

// caps is what kernels adapt to.
type caps struct {
	subgroup       int   // invocations
	maxInvocations int   // of a workgroup
	sharedBytes    int   // of a workgroup
	maxRange       int64 // bytes of a binding
	cpu            bool  // a software driver: barriers and shared memory are slow
	maxGroups      int   // workgroups along one dimension
}

// need are the least limits the kernels count on; Vulkan guarantees no more than 4 bindings.
const (
	needBindings = C.SV_BINDINGS
	needPush     = 4 * C.SV_PUSH
)

// Open opens the device that o selects.
func Open(o Options) (backend.Device, error) {
	loading.Lock()
	defer loading.Unlock()
	in, err := newInstance(o.Validation)
	if err != nil {
		return nil, err
	}
	all, err := in.physicals()
	if err != nil {
		in.close()
		return nil, err
	}
	p, err := pick(all, o.Select)
	if err != nil {
		in.close()
		return nil, err
	}
	d := &device{in: in, physical: p, options: o, half: o.Precision == backend.F16}
	if err := d.start(); err != nil {
		_ = d.release()
		return nil, err
	}
	return d, nil
}

// pick chooses among the devices.
func pick(all []physical, choice string) (physical, error) {
	var names []string
	for _, p := range all {
		names = append(names, strconv.Itoa(p.Index)+" "+p.Name+" ("+p.Type+")")
	}
	there := strings.Join(names, ", ")
	rating := map[string]int{"discrete": 4, "integrated": 3, "virtual": 2, "other": 1}
	found := -1
	switch index, err := strconv.Atoi(choice); {
	case choice == "cpu":
		for i, p := range all {
			if p.Type == "cpu" && found < 0 {
				found = i
			}
		}
		if found < 0 {
			return physical{}, none("no software driver among the devices: %s", there)
		}
	case choice == "":
		for i, p := range all {
			if rating[p.Type] > 0 && (found < 0 || rating[p.Type] > rating[all[found].Type]) {
				found = i
			}
		}
		if found < 0 {
			return physical{}, none("there is no GPU, only a software driver, %s: vulkan:cpu takes it", all[0].Name)
		}
	case err != nil || index < 0 || index >= len(all):
		return physical{}, none("no device %s; there are: %s", choice, there)
	default:
		found = index
	}
	p := all[found]
	if p.api < uint32(vk.MakeVersion(1, 1, 0)) {
		return physical{}, none("%s speaks Vulkan %s, 1.1 is needed", p.Name, p.API)
	}
	if p.limits.bindings < needBindings || p.limits.push < needPush {
		return physical{}, none("%s binds %d buffers and %d bytes of constants to a kernel, %d and %d are needed",
			p.Name, p.limits.bindings, p.limits.push, needBindings, needPush)
	}
	return p, nil
}

// start creates everything a device needs. What it created is released by the caller if it fails.
func (d *device) start() (err error) {
	defer hostMemory(&err)
	p := d.physical
	d.caps = caps{subgroup: int(p.caps.subgroup), maxInvocations: p.limits.invocations, sharedBytes: p.limits.shared,
		maxRange: p.limits.maxRange, cpu: p.Type == "cpu", maxGroups: min(p.limits.groups[0], p.limits.groups[1], p.limits.groups[2])}
	if d.options.maxRange > 0 {
		d.caps.maxRange = min(d.caps.maxRange, d.options.maxRange)
	}
	if d.options.style != "" {
		d.caps.cpu = d.options.style == "cpu"
	}
	family, stamps, err := queueFamily(p.handle)
	if err != nil {
		return err
	}
	if !stamps {
		d.physical.limits.period = 0
	}
	if err := d.create(family); err != nil {
		return err
	}
	if err := d.pools(); err != nil {
		return err
	}
	if err := d.recording(family); err != nil {
		return err
	}
	if err := d.startKernels(); err != nil {
		return err
	}
	precision := ""
	if d.half {
		precision = ", matrix products of float16"
	}
	if d.coop.m > 0 {
		works, err := d.probe()
		if err != nil {
			return err
		}
		d.coop.works = works
		precision += " by the matrix unit"
		if !works {
			precision = ", matrix products of float16, not by the matrix unit: it failed the probe"
		}
	}
	d.info = backend.Info{Name: "vulkan:" + strconv.Itoa(p.Index), Description: p.Name + ", " + p.Driver + precision, Kind: "vulkan",
		ISA: "spirv", Threads: 1, Float: backend.F32, MemoryBytes: p.MemoryBytes}
	return d.startTuning()
}

// Caps says what the kernels go by.
func (d *device) Caps() string {
	p := &d.physical
	text := fmt.Sprintf("Vulkan %s, vendor %04x device %04x driver version %08x, subgroups of %d, workgroups of %d, %d bytes of shared memory, "+
		"bindings of %d bytes aligned to %d, allocations of %d bytes, memory mapped %t, timestamps of %g ns, float16 %t",
		p.API, p.vendor, p.id, p.driver, d.caps.subgroup, d.caps.maxInvocations, d.caps.sharedBytes, d.caps.maxRange, p.limits.align,
		uint64(p.caps.max_allocation), d.main.mapped, p.limits.period, p.caps.float16 != 0)
	if d.coop.m > 0 {
		text += fmt.Sprintf(", cooperative matrices of %dx%dx%d (probe passed: %t)", d.coop.m, d.coop.n, d.coop.k, d.coop.works)
	}
	return text
}

// queueFamily returns the first family that computes, and whether its queues keep time.
func queueFamily(handle vk.PhysicalDevice) (family uint32, timestamps bool, err error) {
	var n uint32
	vk.GetPhysicalDeviceQueueFamilyProperties(handle, &n, nil)
	list := make([]vk.QueueFamilyProperties, n)
	vk.GetPhysicalDeviceQueueFamilyProperties(handle, &n, list)
	found := -1
	for i := range list[:n] {
		list[i].Deref()
		compute := list[i].QueueFlags&vk.QueueFlags(vk.QueueComputeBit) != 0
		if compute && found < 0 {
			found = i
			timestamps = list[i].TimestampValidBits > 0
		}
	}
	if found < 0 {
		return 0, false, none("the device has no queue that computes")
	}
	return uint32(found), timestamps, nil
}

func (d *device) create(family uint32) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	priority := []float32{1}
	pin.Pin(&priority[0])
	queues := []vk.DeviceQueueCreateInfo{{SType: vk.StructureTypeDeviceQueueCreateInfo, QueueFamilyIndex: family, QueueCount: 1, PQueuePriorities: priority}}
	info := vk.DeviceCreateInfo{SType: vk.StructureTypeDeviceCreateInfo, QueueCreateInfoCount: 1, PQueueCreateInfos: queues}
	d.coop = d.findCooperative()
	var names []string
	if d.coop.m > 0 {
		names = append(names, "VK_KHR_cooperative_matrix\x00")
	}
	// A driver that leaves out parts of Vulkan (MoltenVK) wants this said.
	if subset := "VK_KHR_portability_subset"; hasExtension(d.physical.handle, subset) {
		names = append(names, subset+"\x00")
	}
	info.PpEnabledExtensionNames, info.EnabledExtensionCount = names, uint32(len(names))
	chain := C.sv_features(C.int(flag(d.coop.m > 0)))
	if chain == nil {
		return none("out of host memory")
	}
	defer C.free(chain)
	info.PNext = chain
	var handle vk.Device
	r := vk.CreateDevice(d.physical.handle, &info, nil, &handle)
	runtime.KeepAlive(queues)
	info.Free()
	if r != vk.Success {
		return failed("open "+d.physical.Name, r)
	}
	d.handle = handle
	var queue vk.Queue
	vk.GetDeviceQueue(handle, family, 0, &queue)
	d.queue = queue
	if d.table = C.sv_open(unsafe.Pointer(d.in.handle), unsafe.Pointer(handle)); d.table == nil {
		return none("%s lacks a function of Vulkan 1.1", d.physical.Name)
	}
	return nil
}

// Sizes of blocks and of the staging ring, in bytes. A block is large enough that a
// model's small tensors share few, small enough to waste little.
const (
	mainBlock    = 64 << 20
	stagingBlock = 1 << 20
	ringBytes    = 8 << 20
)

// pools chooses the types of memory: the device's own, host-visible as well where all of
// it is (software drivers, integrated GPUs, resizable BAR); and for staging memory that
// the host sees without flushing, cached if possible.
func (d *device) pools() error {
	types, heaps := memoryTypes(d.physical.handle)
	info := bufferInfo(1 << 10)
	var b vk.Buffer
	r := vk.CreateBuffer(d.handle, &info, nil, &b)
	info.Free()
	if r != vk.Success {
		return failed("create a buffer", r)
	}
	_, _, allowed := requirements(d.handle, b)
	vk.DestroyBuffer(d.handle, b, nil)
	var largest int64
	for _, h := range heaps {
		if h.local {
			largest = max(largest, h.bytes)
		}
	}
	direct := func(t memoryType) bool { return t.local && t.visible && t.coherent && heaps[t.heap].bytes >= largest }
	mainType := best(types, allowed, func(t memoryType) int {
		rate := 1
		if t.local {
			rate += 8
		}
		if heaps[t.heap].bytes >= largest {
			rate += 4
		}
		if direct(t) {
			rate += 2
			if t.cached {
				rate++
			}
		}
		return rate
	})
	stagingType := best(types, allowed, func(t memoryType) int {
		switch {
		case !t.visible || !t.coherent:
			return 0
		case t.cached:
			return 2
		}
		return 1
	})
	if mainType < 0 || stagingType < 0 {
		return none("%s has no memory for buffers", d.physical.Name)
	}
	mapped := direct(types[mainType]) && d.options.style != "gpu"
	d.main = &pool{dev: d, kind: mainType, mapped: mapped, minimum: mainBlock}
	d.staging = &pool{dev: d, kind: stagingType, mapped: true, minimum: stagingBlock}
	var err error
	if d.ring, err = d.staging.newBuffer(ringBytes); err != nil {
		return err
	}
	if d.dummy, err = d.staging.newBuffer(256); err != nil {
		return err
	}
	if d.statusBuffer, err = d.staging.newBuffer(16); err != nil {
		return err
	}
	clear(unsafe.Slice((*byte)(d.statusBuffer.host), 16))
	d.status = backend.NewTensor(d.statusBuffer, backend.I32, 1, 4)
	return nil
}

// cacheDir returns the directory of files kept between runs, "" if there is none.
func (d *device) cacheDir() string {
	switch dir := d.options.CacheDir; dir {
	case "-":
		return ""
	case "":
		base, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		return filepath.Join(base, "sift", "vulkan")
	default:
		return dir
	}
}

func (d *device) Info() backend.Info { return d.info }

// usable returns the error that makes the device useless, if there is one.
func (d *device) usable() error {
	if d.closed {
		return fault.New(fault.Internal, "vulkan: the device is closed")
	}
	return d.lost
}

// injected asks the test's hook whether a call is to fail.
func (d *device) injected(what string) vk.Result {
	if d.options.fail == nil {
		return vk.Success
	}
	return vk.Result(d.options.fail(what))
}

// fails keeps a result that ends the use of the device.
func (d *device) fails(what string, r vk.Result) error {
	d.lost = failed(what, r)
	d.open = false
	// Work that still runs must end before its buffers go; a lost device returns at once.
	vk.DeviceWaitIdle(d.handle)
	return d.lost
}

// Close waits for the device, keeps what was compiled for the next run and releases all.
// Buffers that have not been freed become invalid.
func (d *device) Close() error {
	if d.closed {
		return nil
	}
	var err error
	if d.lost == nil {
		err = d.finish()
		d.kernels.save(d)
	}
	if said := d.release(); err == nil {
		err = said
	}
	return err
}

// release destroys what start made, in reverse, and returns what the validation layer has
// said about the device's whole life.
func (d *device) release() error {
	if d.closed {
		return nil
	}
	d.closed = true
	if d.handle != nil {
		vk.DeviceWaitIdle(d.handle)
		d.kernels.close(d)
		d.closeFrames()
		for _, b := range []*buffer{d.ring, d.dummy, d.statusBuffer} {
			if b != nil {
				vk.DestroyBuffer(d.handle, b.handle, nil)
			}
		}
		if !d.work.Absent() {
			vk.DestroyBuffer(d.handle, d.work.Buf.(*buffer).handle, nil)
		}
		if d.main != nil {
			d.main.close()
			d.staging.close()
		}
		C.sv_close(d.table)
		vk.DestroyDevice(d.handle, nil)
	}
	said := d.in.said()
	d.in.close()
	return said
}

// elapsed adds the time since start to t.
func elapsed(t *time.Duration, start time.Time) { *t += time.Since(start) }
