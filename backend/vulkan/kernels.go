//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include "shim.h"
*/
import "C"

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	vk "github.com/vulkan-go/vulkan"

	"sift/atomicfile"
	"sift/fault"
	"sift/shaders"
)

// kernels are the compiled pipelines, made when first asked for.
type kernels struct {
	modules map[string]vk.ShaderModule
	made    map[kernelKey]uint64
	cache   vk.PipelineCache
	loaded  int // bytes of the cache file, to see whether it has grown
}

// kernelKey is a shader with its specialisation constants.
type kernelKey struct {
	name string
	n    int
	spec [C.SV_SPEC]uint32
}

// startKernels opens the pipeline cache with what an earlier run left.
func (d *device) startKernels() error {
	d.kernels.modules, d.kernels.made = map[string]vk.ShaderModule{}, map[kernelKey]uint64{}
	saved := readPipelines(d.pipelineFile())
	info := vk.PipelineCacheCreateInfo{SType: vk.StructureTypePipelineCacheCreateInfo}
	var cache vk.PipelineCache
	r := vk.ErrorInitializationFailed
	if len(saved) > 0 {
		info.InitialDataSize, info.PInitialData = uint(len(saved)), unsafe.Pointer(&saved[0])
		pinned(&saved[0], func() { r = vk.CreatePipelineCache(d.handle, &info, nil, &cache) })
		info.Free()
		d.kernels.loaded = len(saved)
	}
	if r != vk.Success { // none saved, or the driver does not like it
		empty := vk.PipelineCacheCreateInfo{SType: vk.StructureTypePipelineCacheCreateInfo}
		r = vk.CreatePipelineCache(d.handle, &empty, nil, &cache)
		empty.Free()
		d.kernels.loaded = 0
	}
	if r != vk.Success {
		return failed("create a pipeline cache", r)
	}
	d.kernels.cache = cache
	return nil
}

// pinned runs f with the array that p points into held in place.
func pinned[E any](p *E, f func()) {
	var pin runtime.Pinner
	pin.Pin(p)
	defer pin.Unpin()
	f()
}

// get returns the pipeline of a kernel.
func (k *kernels) get(d *device, name string, spec []uint32) (uint64, error) {
	key := kernelKey{name: name, n: len(spec)}
	if len(spec) > len(key.spec) {
		return 0, fault.New(fault.Internal, "vulkan: %s has more than %d specialisation constants", name, len(key.spec))
	}
	copy(key.spec[:], spec)
	if p, ok := k.made[key]; ok {
		return p, nil
	}
	return k.make(d, key)
}

// make compiles a kernel.
func (k *kernels) make(d *device, key kernelKey) (uint64, error) {
	name := key.name
	module, ok := k.modules[name]
	if !ok {
		var err error
		if module, err = d.module(name); err != nil {
			return 0, err
		}
		k.modules[name] = module
	}
	var pipeline C.uint64_t
	r := d.injected("compile")
	if r == vk.Success {
		r = vk.Result(C.sv_pipeline(d.table, C.uint64_t(handle(unsafe.Pointer(k.cache))), C.uint64_t(handle(unsafe.Pointer(d.layout))),
			C.uint64_t(handle(unsafe.Pointer(module))), (*C.uint32_t)(unsafe.Pointer(&key.spec[0])), C.uint32_t(key.n), &pipeline))
	}
	if r != vk.Success {
		return 0, failed("compile the kernel "+name, r)
	}
	k.made[key] = uint64(pipeline)
	return uint64(pipeline), nil
}

// module hands a shader's SPIR-V to the driver.
func (d *device) module(name string) (module vk.ShaderModule, err error) {
	defer hostMemory(&err)
	code, err := shaders.Code(name)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	info := vk.ShaderModuleCreateInfo{SType: vk.StructureTypeShaderModuleCreateInfo, CodeSize: uint(4 * len(code)), PCode: code}
	r := d.injected("load")
	if r != vk.Success {
		return nil, failed("load the kernel "+name, r)
	}
	pinned(&code[0], func() { r = vk.CreateShaderModule(d.handle, &info, nil, &module) })
	info.Free()
	if r != vk.Success {
		return nil, failed("load the kernel "+name, r)
	}
	return module, nil
}

// save writes what the driver has compiled for the next run. That it cannot be written
// costs only time, so no error is reported.
func (k *kernels) save(d *device) {
	path := d.pipelineFile()
	var size uint
	if path == "" || vk.GetPipelineCacheData(d.handle, k.cache, &size, nil) != vk.Success || size == 0 || int(size) == k.loaded {
		return
	}
	data := make([]byte, size)
	var r vk.Result
	pinned(&data[0], func() { r = vk.GetPipelineCacheData(d.handle, k.cache, &size, unsafe.Pointer(&data[0])) })
	if r != vk.Success || os.MkdirAll(filepath.Dir(path), 0o755) != nil {
		return
	}
	_ = atomicfile.AtomicWrite(path, func(w io.Writer) error {
		sum := sha256.Sum256(data[:size])
		if _, err := w.Write(sum[:]); err != nil {
			return err
		}
		_, err := w.Write(data[:size])
		return err
	})
}

// identity names the device and its driver in file names: what is compiled for or measured
// on one is of no use to another.
func (d *device) identity() string {
	p := d.physical
	return fmt.Sprintf("%04x-%04x-%08x-%x", p.vendor, p.id, p.driver, p.cacheUUID)
}

func (d *device) pipelineFile() string {
	if dir := d.cacheDir(); dir != "" {
		return filepath.Join(dir, "pipelines-"+d.identity())
	}
	return ""
}

// mostPipelines bounds the file of compiled kernels; drivers write some megabytes.
const mostPipelines = 64 << 20

// readPipelines returns what save wrote, nil if it is missing or damaged: drivers check
// little of what they are given.
func readPipelines(path string) []byte {
	if path == "" {
		return nil
	}
	data, err := readCached(path, mostPipelines)
	if err != nil || len(data) <= sha256.Size {
		return nil
	}
	sum := sha256.Sum256(data[sha256.Size:])
	if !bytes.Equal(sum[:], data[:sha256.Size]) {
		return nil
	}
	return data[sha256.Size:]
}

func (k *kernels) close(d *device) {
	for _, p := range k.made {
		C.sv_pipeline_free(d.table, C.uint64_t(p))
	}
	for _, m := range k.modules {
		vk.DestroyShaderModule(d.handle, m, nil)
	}
	if k.cache != nil {
		vk.DestroyPipelineCache(d.handle, k.cache, nil)
	}
}
