//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import (
	"slices"
	"strconv"
	"unsafe"

	vk "github.com/vulkan-go/vulkan"

	"sift/backend"
	"sift/fault"
)

func itoa(n int) string { return strconv.Itoa(n) }

// memoryType and heap are Vulkan's of the same names.
type memoryType struct {
	heap                             int
	local, visible, coherent, cached bool
}

type heap struct {
	bytes int64
	local bool
}

func memoryTypes(handle vk.PhysicalDevice) ([]memoryType, []heap) {
	var p vk.PhysicalDeviceMemoryProperties
	vk.GetPhysicalDeviceMemoryProperties(handle, &p)
	p.Deref()
	defer p.Free()
	var types []memoryType
	var heaps []heap
	for i := range p.MemoryTypeCount {
		t := p.MemoryTypes[i]
		t.Deref()
		has := func(bit vk.MemoryPropertyFlagBits) bool { return t.PropertyFlags&vk.MemoryPropertyFlags(bit) != 0 }
		types = append(types, memoryType{int(t.HeapIndex), has(vk.MemoryPropertyDeviceLocalBit), has(vk.MemoryPropertyHostVisibleBit),
			has(vk.MemoryPropertyHostCoherentBit), has(vk.MemoryPropertyHostCachedBit)})
	}
	for i := range p.MemoryHeapCount {
		h := p.MemoryHeaps[i]
		h.Deref()
		heaps = append(heaps, heap{int64(h.Size), h.Flags&vk.MemoryHeapFlags(vk.MemoryHeapDeviceLocalBit) != 0})
	}
	return types, heaps
}

// best returns the type among the allowed ones that rates highest, -1 if none rates above 0.
func best(types []memoryType, allowed uint32, rate func(memoryType) int) int {
	found, top := -1, 0
	for i, t := range types {
		if r := rate(t); allowed&(1<<i) != 0 && r > top {
			found, top = i, r
		}
	}
	return found
}

// pool is memory of one type, taken from the driver in blocks and given out in pieces. A
// driver may allow only 4,096 allocations.
type pool struct {
	dev     *device
	kind    int
	mapped  bool
	blocks  []*block
	bytes   int64 // taken from the driver
	minimum int64 // size of a block
}

// block is one allocation of the driver's.
type block struct {
	memory vk.DeviceMemory
	host   unsafe.Pointer // where it is mapped, nil if it is not
	size   int64
	free   []span // sorted, never adjacent
}

type span struct{ at, n int64 }

// pieceAlign is what every piece begins at a multiple of, at least.
const pieceAlign = 256

// take returns a piece of n bytes.
func (p *pool) take(n, align int64) (*block, int64, error) {
	align = max(align, pieceAlign)
	n = roundUp(n, align)
	for _, b := range p.blocks {
		for i, s := range b.free {
			// Blocks and pieces are multiples of the alignment.
			if at := roundUp(s.at, align); at+n <= s.at+s.n {
				rest := []span{{s.at, at - s.at}, {at + n, s.at + s.n - at - n}}
				rest = slices.DeleteFunc(rest, func(s span) bool { return s.n == 0 })
				b.free = slices.Replace(b.free, i, i+1, rest...)
				return b, at, nil
			}
		}
	}
	size := max(n, p.minimum)
	b, err := p.grow(size)
	if err != nil && size > n {
		// No room for a whole block: one that just fits.
		size = n
		b, err = p.grow(size)
	}
	if err != nil {
		return nil, 0, err
	}
	if size > n {
		b.free = []span{{n, size - n}}
	}
	return b, 0, nil
}

// grow takes a block from the driver.
func (p *pool) grow(size int64) (*block, error) {
	if limit := int64(p.dev.physical.caps.max_allocation); limit > 0 && size > limit {
		return nil, none("%d bytes at once are more than the driver allows (%d)", size, limit)
	}
	info := vk.MemoryAllocateInfo{SType: vk.StructureTypeMemoryAllocateInfo, AllocationSize: vk.DeviceSize(size), MemoryTypeIndex: uint32(p.kind)}
	var memory vk.DeviceMemory
	r := p.dev.injected("allocate")
	if r == vk.Success {
		r = vk.AllocateMemory(p.dev.handle, &info, nil, &memory)
	}
	info.Free()
	if r != vk.Success {
		return nil, none("no memory for %d bytes beside the %d taken: %s", size, p.dev.bytes(), resultText(vkResult(r)))
	}
	b := &block{memory: memory, size: size}
	if p.mapped {
		var host unsafe.Pointer
		if r := vk.MapMemory(p.dev.handle, memory, 0, vk.DeviceSize(vk.WholeSize), 0, &host); r != vk.Success {
			vk.FreeMemory(p.dev.handle, memory, nil)
			return nil, failed("map memory", r)
		}
		b.host = host
	}
	p.blocks = append(p.blocks, b)
	p.bytes += size
	return b, nil
}

// give takes a piece back. A block that is wholly free returns to the driver, but for the last.
func (p *pool) give(b *block, at, n, align int64) {
	n = roundUp(n, max(align, pieceAlign))
	i, _ := slices.BinarySearchFunc(b.free, at, func(s span, at int64) int { return int(s.at - at) })
	b.free = slices.Insert(b.free, i, span{at, n})
	if i+1 < len(b.free) && at+n == b.free[i+1].at {
		b.free[i].n += b.free[i+1].n
		b.free = slices.Delete(b.free, i+1, i+2)
	}
	if i > 0 && b.free[i-1].at+b.free[i-1].n == at {
		b.free[i-1].n += b.free[i].n
		b.free = slices.Delete(b.free, i, i+1)
	}
	if b.free[0].n == b.size && (len(p.blocks) > 1 || b.size > p.minimum) {
		p.drop(b)
	}
}

func (p *pool) drop(b *block) {
	if b.host != nil {
		vk.UnmapMemory(p.dev.handle, b.memory)
	}
	vk.FreeMemory(p.dev.handle, b.memory, nil)
	p.bytes -= b.size
	p.blocks = slices.DeleteFunc(p.blocks, func(x *block) bool { return x == b })
}

func (p *pool) close() {
	for len(p.blocks) > 0 {
		p.drop(p.blocks[0])
	}
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// buffer is a VkBuffer bound to a piece of a pool.
type buffer struct {
	dev    *device
	pool   *pool
	handle vk.Buffer
	block  *block
	at     int64
	align  int64
	size   int64 // asked for
	taken  int64 // what the driver wanted
	host   unsafe.Pointer
}

func (b *buffer) Bytes() int64 { return b.size }

// id is the handle as a number.
func (b *buffer) id() uint64 { return uint64(uintptr(unsafe.Pointer(b.handle))) }

// newBuffer makes a buffer with contents undefined.
func (p *pool) newBuffer(bytes int64) (b *buffer, err error) {
	defer hostMemory(&err)
	d := p.dev
	info := bufferInfo(roundUp(max(bytes, 16), 16))
	var handle vk.Buffer
	r := d.injected("create a buffer")
	if r == vk.Success {
		r = vk.CreateBuffer(d.handle, &info, nil, &handle)
	}
	info.Free()
	if r != vk.Success {
		return nil, failed("create a buffer", r)
	}
	defer func() {
		if b == nil {
			vk.DestroyBuffer(d.handle, handle, nil)
		}
	}()
	n, align, _ := requirements(d.handle, handle)
	block, at, err := p.take(n, align)
	if err != nil {
		return nil, err
	}
	if r := vk.BindBufferMemory(d.handle, handle, block.memory, vk.DeviceSize(at)); r != vk.Success {
		p.give(block, at, n, align)
		return nil, failed("bind a buffer", r)
	}
	b = &buffer{dev: d, pool: p, handle: handle, block: block, at: at, align: align, size: bytes, taken: n}
	if block.host != nil {
		b.host = unsafe.Add(block.host, at)
	}
	d.buffers++
	return b, nil
}

func bufferInfo(bytes int64) vk.BufferCreateInfo {
	return vk.BufferCreateInfo{SType: vk.StructureTypeBufferCreateInfo, Size: vk.DeviceSize(bytes),
		Usage: vk.BufferUsageFlags(vk.BufferUsageStorageBufferBit | vk.BufferUsageTransferSrcBit | vk.BufferUsageTransferDstBit)}
}

func requirements(dev vk.Device, b vk.Buffer) (bytes, align int64, types uint32) {
	var r vk.MemoryRequirements
	vk.GetBufferMemoryRequirements(dev, b, &r)
	r.Deref()
	defer r.Free()
	return int64(r.Size), int64(r.Alignment), r.MemoryTypeBits
}

// Free waits for work that may use the buffer and gives its memory back.
func (b *buffer) Free() error {
	if b.handle == nil {
		return nil
	}
	if b.dev.closed { // it went with the device
		b.handle, b.host = nil, nil
		return nil
	}
	err := b.dev.finish()
	vk.DestroyBuffer(b.dev.handle, b.handle, nil)
	b.pool.give(b.block, b.at, b.taken, b.align)
	b.handle, b.host = nil, nil
	b.dev.buffers--
	return err
}

// Alloc returns zeroed memory.
func (d *device) Alloc(bytes int64) (backend.Buffer, error) {
	if bytes < 0 {
		return nil, fault.New(fault.Internal, "vulkan: cannot allocate %d bytes", bytes)
	}
	if err := d.usable(); err != nil {
		return nil, err
	}
	b, err := d.main.newBuffer(bytes)
	if err != nil {
		return nil, err
	}
	// A piece that was given back is not in use: Free waited.
	if b.host != nil {
		clear(unsafe.Slice((*byte)(b.host), roundUp(max(bytes, 16), 16)))
		return b, nil
	}
	if err := d.fill(b); err != nil {
		_ = b.Free()
		return nil, err
	}
	return b, nil
}

// bytes is all the memory taken from the driver.
func (d *device) bytes() int64 { return d.main.bytes + d.staging.bytes }
