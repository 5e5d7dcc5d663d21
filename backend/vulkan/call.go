//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include "shim.h"
*/
import "C"

import (
	"math"
	"unsafe"

	"sift/backend"
	"sift/backend/philox"
	"sift/fault"
)

// call is one dispatch being put together: kernel, bindings, constants. There is one of
// them, which device.call clears; after dispatch it is of no more use.
type call struct {
	dev    *device
	name   string
	local  int
	err    error
	c      C.struct_sv_call
	uses   [needBindings]access
	reads  [needBindings]bool
	writes [needBindings]bool
}

// call begins a dispatch of the kernel called name, with the values of its specialisation
// constants 0, 1, ...; the first is the size of a workgroup.
func (d *device) call(name string, spec ...uint32) *call {
	c := &d.next
	c.dev, c.name, c.err, c.local = d, name, nil, int(spec[0])
	c.c.bindings, c.c.pushes = 0, 0
	if err := d.usable(); err != nil {
		c.err = err
		return c
	}
	pipeline, err := d.kernels.get(d, name, spec)
	if err != nil {
		c.err = err
		return c
	}
	c.c.pipeline = C.uint64_t(pipeline)
	return c
}

// read binds a tensor that the kernel only reads.
func (c *call) read(t backend.Tensor) { c.bind(t, true, false) }

// write binds a tensor that the kernel only writes.
func (c *call) write(t backend.Tensor) { c.bind(t, false, true) }

// update binds a tensor that the kernel reads and writes.
func (c *call) update(t backend.Tensor) { c.bind(t, true, true) }

// extent returns the bytes from the first to the last element of t.
func extent(t backend.Tensor) int64 {
	if t.Len() == 0 {
		return 0
	}
	return int64((t.Rows-1)*t.Stride+t.Cols) * int64(t.DType.Size())
}

func (c *call) bind(t backend.Tensor, read, write bool) {
	if c.err != nil {
		return
	}
	i := int(c.c.bindings)
	if i == needBindings {
		c.err = fault.New(fault.Internal, "vulkan: %s has more than %d operands", c.name, needBindings)
		return
	}
	c.c.bindings++
	b := c.dev.dummy
	var lo, rest int64
	n := int64(16)
	if !t.Absent() && t.Len() > 0 {
		var ok bool
		if b, ok = t.Buf.(*buffer); !ok || b.handle == nil {
			c.err = fault.New(fault.Internal, "vulkan: %s: a tensor of another device or in a freed buffer", c.name)
			return
		}
		size := int64(t.DType.Size())
		at := int64(t.Off) * size
		align := max(c.dev.physical.limits.align, 16)
		lo = at / align * align
		rest = (at - lo) / min(size, 4)
		// Vectors of four may be read to the end of the last one; buffers end at a multiple of 16.
		n = roundUp(at-lo+extent(t), 16)
		if n > c.dev.caps.maxRange+align {
			c.err = fault.New(fault.Device, "vulkan: %s: an operand of %d bytes is more than this device binds at once (%d)", c.name, n, c.dev.caps.maxRange)
			return
		}
		c.push(uint32(rest))
		c.push(uint32(int64(t.Stride) * size / min(size, 4)))
	} else {
		// Nothing is read or written, but the layer that checks barriers goes by what the kernel
		// declares: the spare buffer is noted like any other.
		c.push(0)
		c.push(0)
	}
	c.c.buffer[i] = C.uint64_t(b.id())
	c.c.offset[i] = C.uint64_t(lo)
	c.c._range[i] = C.uint64_t(n)
	c.uses[i] = access{b.id(), lo, lo + n}
	c.reads[i], c.writes[i] = read, write
}

func (c *call) push(v uint32) {
	if c.err != nil {
		return
	}
	if c.c.pushes == C.SV_PUSH {
		c.err = fault.New(fault.Internal, "vulkan: %s has more than %d constants", c.name, C.SV_PUSH)
		return
	}
	c.c.push[c.c.pushes] = C.uint32_t(v)
	c.c.pushes++
}

// u32 appends constants.
func (c *call) u32(values ...uint32) {
	for _, v := range values {
		c.push(v)
	}
}

// f32 appends constants, rounded to float32.
func (c *call) f32(values ...float64) {
	for _, v := range values {
		c.push(math.Float32bits(float32(v)))
	}
}

// drop appends the six words of the shaders' struct Drop.
func (c *call) drop(d backend.Drop) {
	c.u32(philox.Threshold(d.P))
	c.f32(1 / (1 - d.P))
	key := philox.Key(d.Seed)
	c.u32(key[0], key[1], d.Site, d.Update)
}

// linear dispatches enough workgroups for n invocations, which linearIndex numbers.
func (c *call) linear(n int) error {
	return c.groups((n + c.local - 1) / c.local)
}

// groups dispatches at least n workgroups, which groupIndex numbers; a kernel leaves alone
// what is beyond n.
func (c *call) groups(n int) error {
	x, y := n, 1
	if limit := c.dev.caps.maxGroups; n > limit {
		y = (n + limit - 1) / limit
		x = (n + y - 1) / y
	}
	return c.dispatch(x, y, 1)
}

// dispatch records the call over a grid of workgroups.
func (c *call) dispatch(x, y, z int) error {
	if c.err != nil {
		return c.err
	}
	d := c.dev
	if limit := d.caps.maxGroups; x > limit || y > limit || z > limit {
		return fault.New(fault.Internal, "vulkan: %s takes %d x %d x %d workgroups, %d are the limit", c.name, x, y, z, limit)
	}
	if x == 0 || y == 0 || z == 0 {
		return nil
	}
	start := d.clock()
	if d.open && d.frames[d.now].used == frameCalls {
		if err := d.submit(); err != nil {
			return err
		}
	}
	if err := d.begin(); err != nil {
		return err
	}
	f := &d.frames[d.now]
	c.c.barrier = 0
	n := int(c.c.bindings)
	for i := range n {
		if (c.reads[i] || c.writes[i]) && d.hazards.conflict(c.uses[i], c.writes[i]) {
			c.c.barrier = 1
		}
	}
	if d.hazards.nr+n > len(d.hazards.reads) || d.hazards.nw+n > len(d.hazards.writes) {
		c.c.barrier = 1
	}
	if c.c.barrier != 0 {
		d.hazards.clear()
	}
	for i := range n {
		d.hazards.note(c.uses[i], c.reads[i], c.writes[i])
	}
	c.c.layout = C.uint64_t(handle(unsafe.Pointer(d.layout)))
	c.c.set = C.uint64_t(f.sets[f.used])
	c.c.groups = [3]C.uint32_t{C.uint32_t(x), C.uint32_t(y), C.uint32_t(z)}
	c.c.spare = C.uint64_t(d.dummy.id())
	c.c.queries = 0
	if d.profile != nil {
		c.c.queries, c.c.query = C.uint64_t(handle(unsafe.Pointer(f.queries))), C.uint32_t(2*f.used)
		f.timed[f.used] = c.name
	}
	f.used++
	C.sv_dispatch(d.table, unsafe.Pointer(f.commands), &c.c)
	if d.profile != nil {
		elapsed(&d.profile.total.Record, start)
	}
	return nil
}

// rows returns how many rows a dispatch may take so that as many of each tensor fit a
// binding; absent tensors do not matter. It is at least 1.
func (d *device) rows(ts ...backend.Tensor) int {
	n := math.MaxInt32
	for _, t := range ts {
		if t.Len() == 0 || extent(t) <= d.caps.maxRange {
			continue
		}
		size := int64(t.DType.Size())
		n = min(n, int((d.caps.maxRange/size-int64(t.Cols))/int64(t.Stride))+1)
	}
	return max(n, 1)
}

// cols is rows for the columns of row vectors.
func (d *device) cols(ts ...backend.Tensor) int {
	n := math.MaxInt32
	for _, t := range ts {
		if t.Len() > 0 && extent(t) > d.caps.maxRange {
			n = min(n, int(d.caps.maxRange/int64(t.DType.Size()))&^3)
		}
	}
	return max(n, 1)
}

// aligned reports whether the rows of t can be read as vectors of four.
func aligned(t backend.Tensor) bool { return t.Off%4 == 0 && (t.Stride%4 == 0 || t.Rows <= 1) }

// flag is a specialisation constant for a condition.
func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// scratch returns n floats of device memory, contents undefined. Each call returns the
// same memory: an operation calls it once and cuts.
func (d *device) scratch(n int) (backend.Tensor, error) {
	if d.work.Len() < n {
		if !d.work.Absent() {
			if err := d.work.Buf.Free(); err != nil {
				return backend.Tensor{}, err
			}
			d.work = backend.Tensor{}
		}
		b, err := d.main.newBuffer(roundUp(int64(n)*4, 1<<16))
		if err != nil {
			return backend.Tensor{}, err
		}
		d.work = backend.NewTensor(b, backend.F32, 1, int(b.size/4))
	}
	return d.work.ColRange(0, n), nil
}
