//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#cgo CFLAGS: -std=gnu11 -O2 -Wall
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	vk "github.com/vulkan-go/vulkan"
)

// loading serialises opening: the binding keeps the loader's functions in variables of
// its own, which every instance shares.
var loading sync.Mutex

// loaderName is the library that knows the installed drivers. SIFT_VULKAN_LOADER names
// another, for tests and unusual installations.
func loaderName() string {
	if name := os.Getenv("SIFT_VULKAN_LOADER"); name != "" {
		return name
	}
	if runtime.GOOS == "darwin" {
		return "libMoltenVK.dylib"
	}
	return "libvulkan.so.1"
}

// load finds the loader and hands it to the binding.
func load() error {
	name, why := C.CString(loaderName()), (*C.char)(C.calloc(1, 512))
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(why))
	proc := C.sv_load(name, why, 512)
	if proc == nil {
		if os.Getenv("SIFT_VULKAN_LOADER") != "" {
			return none("no loader: %s (SIFT_VULKAN_LOADER names it)", C.GoString(why))
		}
		return none("no loader: %s (install your GPU's Vulkan driver and libvulkan1)", C.GoString(why))
	}
	vk.SetGetInstanceProcAddr(proc)
	if err := vk.Init(); err != nil {
		return none("the loader %s is unusable: %v", loaderName(), err)
	}
	return nil
}

// instance is a connection to the loader and its drivers.
type instance struct {
	handle   vk.Instance
	messages unsafe.Pointer // the validation layer's, nil without it
}

func newInstance(validate bool) (made *instance, err error) {
	defer hostMemory(&err)
	if err := load(); err != nil {
		return nil, err
	}
	app := vk.ApplicationInfo{SType: vk.StructureTypeApplicationInfo, PApplicationName: "sift\x00", PEngineName: "sift\x00",
		ApiVersion: uint32(vk.MakeVersion(1, 3, 0))}
	info := vk.InstanceCreateInfo{SType: vk.StructureTypeInstanceCreateInfo, PApplicationInfo: &app}
	if validate {
		info.PpEnabledLayerNames = []string{"VK_LAYER_KHRONOS_validation\x00"}
		info.PpEnabledExtensionNames = []string{"VK_EXT_debug_utils\x00", "VK_EXT_validation_features\x00"}
		info.EnabledLayerCount = uint32(len(info.PpEnabledLayerNames))
		info.EnabledExtensionCount = uint32(len(info.PpEnabledExtensionNames))
		chain := C.sv_validation()
		defer C.free(chain)
		info.PNext = chain
	}
	var handle vk.Instance
	r := vk.CreateInstance(&info, nil, &handle)
	info.Free()
	app.Free()
	switch {
	case r == vk.ErrorIncompatibleDriver:
		return nil, none("the loader finds no driver (VK_DRIVER_FILES and /usr/share/vulkan/icd.d say which there are)")
	case r == vk.ErrorInitializationFailed:
		return nil, none("cannot create an instance: the drivers find no device or cannot be initialised (VK_DRIVER_FILES says which are tried)")
	case r != vk.Success:
		return nil, none("cannot create an instance: %s (if a driver's or layer's json file is damaged, the loader says this too; VK_DRIVER_FILES names the drivers)", resultText(vkResult(r)))
	}
	in := &instance{handle: handle}
	if err := vk.InitInstance(handle); err != nil {
		in.close()
		return nil, none("the driver's functions cannot be found: %v", err)
	}
	if validate {
		if in.messages = C.sv_messenger(unsafe.Pointer(handle)); in.messages == nil {
			in.close()
			return nil, none("the validation layer takes no messenger")
		}
	}
	return in, nil
}

// said returns what the validation layer has said so far, nil if nothing.
func (in *instance) said() error {
	if in.messages == nil {
		return nil
	}
	text := (*C.char)(C.calloc(1, 4096))
	defer C.free(unsafe.Pointer(text))
	if n := C.sv_messages(in.messages, text, 4096); n > 0 {
		return none("%d validation messages: %s", int(n), C.GoString(text))
	}
	return nil
}

func (in *instance) close() {
	C.sv_messenger_free(unsafe.Pointer(in.handle), in.messages)
	vk.DestroyInstance(in.handle, nil)
}

// physical is a device before it is opened.
type physical struct {
	Physical
	handle     vk.PhysicalDevice
	kind       vk.PhysicalDeviceType
	api        uint32
	vendor, id uint32
	driver     uint32 // the driver's version
	cacheUUID  [16]byte
	limits     limits
	caps       C.struct_sv_caps
}

// limits are those of a device that matter here.
type limits struct {
	maxRange    int64 // bytes of one binding
	align       int64 // of a binding's offset
	atom        int64 // nonCoherentAtomSize
	invocations int
	shared      int // bytes
	groups      [3]int
	bindings    int
	push        int
	period      float64 // nanoseconds of a timestamp's unit, 0 without timestamps
}

var typeNames = map[vk.PhysicalDeviceType]string{
	vk.PhysicalDeviceTypeDiscreteGpu:   "discrete",
	vk.PhysicalDeviceTypeIntegratedGpu: "integrated",
	vk.PhysicalDeviceTypeVirtualGpu:    "virtual",
	vk.PhysicalDeviceTypeCpu:           "cpu",
}

// physicals lists the devices of all drivers, in the loader's order.
func (in *instance) physicals() (all []physical, err error) {
	defer hostMemory(&err)
	var n uint32
	r := vk.EnumeratePhysicalDevices(in.handle, &n, nil)
	if r != vk.Success {
		return nil, failed("list the devices", r)
	}
	if n == 0 {
		return nil, none("the drivers find no device")
	}
	handles := make([]vk.PhysicalDevice, n)
	pinned(&handles[0], func() { r = vk.EnumeratePhysicalDevices(in.handle, &n, handles) })
	if r != vk.Success && r != vk.Incomplete {
		return nil, failed("list the devices", r)
	}
	for i, handle := range handles[:n] {
		all = append(all, in.describe(i, handle))
	}
	return all, nil
}

func (in *instance) describe(index int, handle vk.PhysicalDevice) physical {
	var p vk.PhysicalDeviceProperties
	vk.GetPhysicalDeviceProperties(handle, &p)
	p.Deref()
	p.Limits.Deref()
	l := p.Limits
	d := physical{handle: handle, kind: p.DeviceType, api: p.ApiVersion, vendor: p.VendorID, id: p.DeviceID, driver: p.DriverVersion,
		limits: limits{
			maxRange: int64(l.MaxStorageBufferRange), align: max(int64(l.MinStorageBufferOffsetAlignment), 16), atom: int64(l.NonCoherentAtomSize),
			invocations: min(int(l.MaxComputeWorkGroupInvocations), int(l.MaxComputeWorkGroupSize[0])), shared: int(l.MaxComputeSharedMemorySize),
			groups:   [3]int{int(l.MaxComputeWorkGroupCount[0]), int(l.MaxComputeWorkGroupCount[1]), int(l.MaxComputeWorkGroupCount[2])},
			bindings: int(min(l.MaxPerStageDescriptorStorageBuffers, l.MaxDescriptorSetStorageBuffers)), push: int(l.MaxPushConstantsSize),
		}}
	if l.TimestampComputeAndGraphics != 0 {
		d.limits.period = float64(l.TimestampPeriod)
	}
	for i, b := range p.PipelineCacheUUID {
		d.cacheUUID[i] = byte(b)
	}
	d.Physical = Physical{Index: index, Name: vk.ToString(p.DeviceName[:]), Type: typeNames[p.DeviceType], API: vk.Version(p.ApiVersion).String()}
	if d.Type == "" {
		d.Type = "other"
	}
	p.Free()
	if d.api >= uint32(vk.MakeVersion(1, 1, 0)) {
		C.sv_physical(unsafe.Pointer(in.handle), unsafe.Pointer(handle), C.uint32_t(d.api), &d.caps)
		d.Driver = C.GoString(&d.caps.driver[0])
		if info := C.GoString(&d.caps.info[0]); info != "" {
			d.Driver += " " + info
		}
	}
	_, heaps := memoryTypes(handle)
	for _, h := range heaps {
		if h.local {
			d.MemoryBytes = max(d.MemoryBytes, h.bytes)
		}
	}
	return d
}

// List returns the devices of every installed driver, or why there is none.
func List() ([]Physical, error) {
	loading.Lock()
	defer loading.Unlock()
	in, err := newInstance(false)
	if err != nil {
		return nil, err
	}
	defer in.close()
	all, err := in.physicals()
	if err != nil {
		return nil, err
	}
	var list []Physical
	for _, p := range all {
		list = append(list, p.Physical)
	}
	return list, nil
}

// hostMemory, deferred, turns the binding's panic for want of host memory into an error. The
// binding allocates for the structures that a call takes, before the call.
func hostMemory(err *error) {
	p := recover()
	if p == nil {
		return
	}
	if text, ok := p.(string); !ok || !strings.HasPrefix(text, "memory alloc error") {
		panic(p)
	}
	*err = none("out of memory on the host")
}

// failed is the error of a call that returned r.
func failed(what string, r vk.Result) error {
	return none("cannot %s: %s", what, resultText(vkResult(r)))
}

// resultText puts a VkResult into words.
func resultText(r vkResult) string {
	switch vk.Result(r) {
	case vk.ErrorOutOfHostMemory:
		return "out of host memory"
	case vk.ErrorOutOfDeviceMemory:
		return "out of device memory"
	case vk.ErrorDeviceLost:
		return "the device was lost"
	case vk.ErrorInitializationFailed:
		return "the driver could not be initialised"
	case vk.ErrorLayerNotPresent:
		return "a layer is not installed (Debian: vulkan-validationlayers)"
	case vk.ErrorExtensionNotPresent:
		return "the driver lacks an extension"
	case vk.ErrorFeatureNotPresent:
		return "the driver lacks a feature"
	case vk.ErrorIncompatibleDriver:
		return "the driver is too old"
	case vk.ErrorTooManyObjects:
		return "too many objects"
	case vk.ErrorMemoryMapFailed:
		return "the memory cannot be mapped"
	}
	return "VkResult " + itoa(int(r))
}
