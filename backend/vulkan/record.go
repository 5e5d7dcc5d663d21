//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include "shim.h"

// What is given to these is used only until they return, and they never call Go, but for
// sv_submit and sv_wait under the validation layer, whose messages stay in C.
#cgo noescape sv_dispatch
#cgo nocallback sv_dispatch
#cgo noescape sv_copy
#cgo nocallback sv_copy
#cgo noescape sv_fill
#cgo nocallback sv_fill
#cgo noescape sv_begin
#cgo nocallback sv_begin
#cgo noescape sv_submit
#cgo nocallback sv_submit
#cgo noescape sv_wait
#cgo nocallback sv_wait
#cgo noescape sv_times
#cgo nocallback sv_times
*/
import "C"

import (
	"time"
	"unsafe"

	vk "github.com/vulkan-go/vulkan"

	"sift/fault"
)

// frameCalls is the most dispatches of one command buffer: each has its descriptor set. A
// training step of BERT base has about 600.
const frameCalls = 1024

// frame is a command buffer with what its dispatches refer to.
type frame struct {
	commands vk.CommandBuffer
	fence    vk.Fence
	sets     [frameCalls]uint64
	used     int  // sets
	pending  bool // submitted, not waited for
	queries  vk.QueryPool
	timed    [frameCalls]string // names of the kernels, while profiling
}

// recording makes the command buffers, their fences and descriptor sets.
func (d *device) recording(family uint32) error {
	pool := vk.CommandPoolCreateInfo{SType: vk.StructureTypeCommandPoolCreateInfo, QueueFamilyIndex: family,
		Flags: vk.CommandPoolCreateFlags(vk.CommandPoolCreateResetCommandBufferBit)}
	var commands vk.CommandPool
	r := vk.CreateCommandPool(d.handle, &pool, nil, &commands)
	pool.Free()
	if r != vk.Success {
		return failed("create a command pool", r)
	}
	d.commands = commands
	if err := d.layouts(); err != nil {
		return err
	}
	for i := range d.frames {
		if err := d.newFrame(&d.frames[i]); err != nil {
			return err
		}
	}
	return nil
}

// layouts makes the one layout all kernels share: storage buffers 0 .. needBindings-1 and
// push constants. A kernel leaves the bindings it does not use unwritten.
func (d *device) layouts() error {
	bindings := make([]vk.DescriptorSetLayoutBinding, needBindings)
	for i := range bindings {
		bindings[i] = vk.DescriptorSetLayoutBinding{Binding: uint32(i), DescriptorType: vk.DescriptorTypeStorageBuffer, DescriptorCount: 1,
			StageFlags: vk.ShaderStageFlags(vk.ShaderStageComputeBit)}
	}
	set := vk.DescriptorSetLayoutCreateInfo{SType: vk.StructureTypeDescriptorSetLayoutCreateInfo, BindingCount: needBindings, PBindings: bindings}
	var setLayout vk.DescriptorSetLayout
	r := vk.CreateDescriptorSetLayout(d.handle, &set, nil, &setLayout)
	set.Free()
	if r != vk.Success {
		return failed("create a descriptor layout", r)
	}
	d.setLayout = setLayout
	layouts := []vk.DescriptorSetLayout{setLayout}
	info := vk.PipelineLayoutCreateInfo{SType: vk.StructureTypePipelineLayoutCreateInfo, SetLayoutCount: 1, PSetLayouts: layouts,
		PushConstantRangeCount: 1, PPushConstantRanges: []vk.PushConstantRange{{StageFlags: vk.ShaderStageFlags(vk.ShaderStageComputeBit), Size: needPush}}}
	var layout vk.PipelineLayout
	pinned(&layouts[0], func() { r = vk.CreatePipelineLayout(d.handle, &info, nil, &layout) })
	info.Free()
	if r != vk.Success {
		return failed("create a pipeline layout", r)
	}
	d.layout = layout
	frames := uint32(len(d.frames))
	pool := vk.DescriptorPoolCreateInfo{SType: vk.StructureTypeDescriptorPoolCreateInfo, MaxSets: frames * frameCalls, PoolSizeCount: 1,
		PPoolSizes: []vk.DescriptorPoolSize{{Type: vk.DescriptorTypeStorageBuffer, DescriptorCount: frames * frameCalls * needBindings}}}
	var sets vk.DescriptorPool
	r = vk.CreateDescriptorPool(d.handle, &pool, nil, &sets)
	pool.Free()
	if r != vk.Success {
		return failed("create a descriptor pool", r)
	}
	d.sets = sets
	return nil
}

func (d *device) newFrame(f *frame) error {
	info := vk.CommandBufferAllocateInfo{SType: vk.StructureTypeCommandBufferAllocateInfo, CommandPool: d.commands,
		Level: vk.CommandBufferLevelPrimary, CommandBufferCount: 1}
	commands := make([]vk.CommandBuffer, 1)
	var r vk.Result
	pinned(&commands[0], func() { r = vk.AllocateCommandBuffers(d.handle, &info, commands) })
	info.Free()
	if r != vk.Success {
		return failed("allocate a command buffer", r)
	}
	f.commands = commands[0]
	fenceInfo := vk.FenceCreateInfo{SType: vk.StructureTypeFenceCreateInfo}
	var fence vk.Fence
	r = vk.CreateFence(d.handle, &fenceInfo, nil, &fence)
	fenceInfo.Free()
	if r != vk.Success {
		return failed("create a fence", r)
	}
	f.fence = fence
	layouts := make([]vk.DescriptorSetLayout, frameCalls)
	for i := range layouts {
		layouts[i] = d.setLayout
	}
	alloc := vk.DescriptorSetAllocateInfo{SType: vk.StructureTypeDescriptorSetAllocateInfo, DescriptorPool: d.sets,
		DescriptorSetCount: frameCalls, PSetLayouts: layouts}
	sets := make([]vk.DescriptorSet, frameCalls)
	pinned(&layouts[0], func() { pinned(&sets[0], func() { r = vk.AllocateDescriptorSets(d.handle, &alloc, &sets[0]) }) })
	alloc.Free()
	if r != vk.Success {
		return failed("allocate descriptor sets", r)
	}
	for i, s := range sets {
		f.sets[i] = handle(unsafe.Pointer(s))
	}
	return nil
}

func (d *device) closeFrames() {
	for i := range d.frames {
		f := &d.frames[i]
		if f.fence != nil {
			vk.DestroyFence(d.handle, f.fence, nil)
		}
		if f.queries != nil {
			vk.DestroyQueryPool(d.handle, f.queries, nil)
		}
	}
	if d.sets != nil {
		vk.DestroyDescriptorPool(d.handle, d.sets, nil)
	}
	if d.layout != nil {
		vk.DestroyPipelineLayout(d.handle, d.layout, nil)
	}
	if d.setLayout != nil {
		vk.DestroyDescriptorSetLayout(d.handle, d.setLayout, nil)
	}
	if d.commands != nil {
		vk.DestroyCommandPool(d.handle, d.commands, nil)
	}
}

// handle is a Vulkan handle as the number that the shim takes.
func handle(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) }

// begin makes frames[now] ready to record into.
func (d *device) begin() error {
	if err := d.usable(); err != nil {
		return err
	}
	if d.open {
		return nil
	}
	f := &d.frames[d.now]
	if err := d.await(f); err != nil {
		return err
	}
	f.used = 0
	var queries uint64
	if d.profile != nil {
		queries = handle(unsafe.Pointer(f.queries))
	}
	r := d.injected("begin")
	if r == vk.Success {
		r = vk.Result(C.sv_begin(d.table, unsafe.Pointer(f.commands), C.uint64_t(queries), 2*frameCalls))
	}
	if r != vk.Success {
		return d.fails("begin a command buffer", r)
	}
	d.open = true
	// What the frame before wrote is still unseen.
	d.hazards.clear()
	d.hazards.everything = true
	return nil
}

// submit hands over what has been recorded.
func (d *device) submit() error {
	if err := d.usable(); err != nil || !d.open {
		return err
	}
	start := d.clock()
	f := &d.frames[d.now]
	r := d.injected("submit")
	if r == vk.Success {
		r = vk.Result(C.sv_submit(d.table, unsafe.Pointer(d.queue), unsafe.Pointer(f.commands), C.uint64_t(handle(unsafe.Pointer(f.fence)))))
	}
	if r != vk.Success {
		return d.fails("submit work", r)
	}
	f.pending = true
	d.open = false
	d.now = (d.now + 1) % len(d.frames)
	if d.profile != nil {
		elapsed(&d.profile.total.Submit, start)
		d.profile.total.Submits++
	}
	return nil
}

// patience is how long one wait for the device lasts before it is begun again. A driver
// that hangs reports the device as lost; a slow one may take as long as it needs.
const patience = 10 * time.Second

// await waits for a frame that has been submitted.
func (d *device) await(f *frame) error {
	if !f.pending {
		return nil
	}
	start := d.clock()
	r := d.injected("wait")
	for r == vk.Success {
		r = vk.Result(C.sv_wait(d.table, C.uint64_t(handle(unsafe.Pointer(f.fence))), C.uint64_t(patience)))
		if r != vk.Timeout {
			break
		}
		r = vk.Success
	}
	if r != vk.Success {
		return d.fails("wait for the device", r)
	}
	f.pending = false
	if d.profile != nil {
		elapsed(&d.profile.total.Wait, start)
		return d.profile.collect(d, f)
	}
	return nil
}

// finish submits and waits for everything.
func (d *device) finish() error {
	if err := d.submit(); err != nil {
		return err
	}
	for i := range d.frames {
		// Oldest first: the frame after the present one.
		if err := d.await(&d.frames[(d.now+i)%len(d.frames)]); err != nil {
			return err
		}
	}
	d.ringAt = 0
	return nil
}

// idle reports whether nothing is recorded or running.
func (d *device) idle() bool {
	return !d.open && !d.frames[0].pending && !d.frames[1].pending
}

// Sync waits for everything and reports what kernels found wrong.
func (d *device) Sync() error {
	if err := d.finish(); err != nil {
		return err
	}
	return d.checked()
}

// checked turns what a kernel left in the status buffer into an error.
func (d *device) checked() error {
	word := unsafe.Slice((*int32)(d.statusBuffer.host), 4)
	code, at, value := word[0], word[1], word[2]
	if code == 0 {
		return nil
	}
	clear(word)
	switch code {
	case 1:
		return fault.New(fault.Internal, "vulkan: index %d at %d is outside its table", value, at)
	case 2:
		return fault.New(fault.Internal, "vulkan: label %d of row %d is outside the classes", value, at)
	}
	return fault.New(fault.Internal, "vulkan: sequence %d has rows outside the batch (%d)", at, value)
}

// access is a use of bytes [lo, hi) of a buffer.
type access struct {
	buffer uint64
	lo, hi int64
}

// hazards are the uses since the last barrier.
type hazards struct {
	reads, writes [128]access
	nr, nw        int
	everything    bool // anything may be in use
}

func (h *hazards) clear() { h.nr, h.nw, h.everything = 0, 0, false }

// conflict reports whether a use must wait for one of those noted.
func (h *hazards) conflict(a access, write bool) bool {
	if h.everything || h.nr == len(h.reads) || h.nw == len(h.writes) {
		return true
	}
	for _, w := range h.writes[:h.nw] {
		if w.buffer == a.buffer && w.lo < a.hi && a.lo < w.hi {
			return true
		}
	}
	if write {
		for _, r := range h.reads[:h.nr] {
			if r.buffer == a.buffer && r.lo < a.hi && a.lo < r.hi {
				return true
			}
		}
	}
	return false
}

// note adds a use. There is room for a whole call's uses: conflict has seen to it.
func (h *hazards) note(a access, read, write bool) {
	if read && h.nr < len(h.reads) {
		h.reads[h.nr] = a
		h.nr++
	}
	if write && h.nw < len(h.writes) {
		h.writes[h.nw] = a
		h.nw++
	}
}
