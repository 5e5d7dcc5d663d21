package backend

import (
	"math"

	"sift/fault"
)

// arenaAlign is the alignment in bytes of every tensor of an Arena: a cache line, and
// the width of the widest vector register.
const arenaAlign = 64

// Arena hands out tensors from one buffer, one after another, and takes them all back
// at once. The memory of a training step comes from an Arena, so that nothing is
// allocated after it exists. The contents of a new tensor are whatever was there.
type Arena struct {
	buf              Buffer
	size, used, peak int64
}

// NewArena takes bytes of zeroed device memory.
func NewArena(dev Device, bytes int64) (*Arena, error) {
	if bytes < 0 {
		return nil, fault.New(fault.Internal, "arena: %d bytes", bytes)
	}
	buf, err := dev.Alloc(max(bytes, arenaAlign))
	if err != nil {
		return nil, fault.As(fault.Device, err)
	}
	return &Arena{buf: buf, size: bytes}, nil
}

// NewCounter returns an Arena without memory that never runs out. Its tensors can be
// sliced and reshaped but not computed with: walking through a step's allocations with
// it tells, as Peak, the size of the Arena the step needs.
func NewCounter() *Arena { return &Arena{buf: new(imagined), size: math.MaxInt64} }

// imagined is the buffer of a counter. It has a field so that each counter's is distinct.
type imagined struct{ _ byte }

func (*imagined) Bytes() int64 { return math.MaxInt64 }
func (*imagined) Free() error  { return nil }

// Alloc returns the next rows x cols tensor, contiguous and aligned to 64 bytes. It is
// an error of kind fault.Internal if the arena has no room for it.
func (a *Arena) Alloc(dtype DType, rows, cols int) (Tensor, error) {
	n, err := tensorBytes(dtype, rows, cols)
	if err != nil {
		return Tensor{}, err
	}
	if n > a.size-a.used {
		return Tensor{}, fault.New(fault.Internal, "arena: %s[%dx%d] needs %d bytes, %d of %d are free",
			dtype, rows, cols, n, a.size-a.used, a.size)
	}
	t := NewTensor(a.buf, dtype, rows, cols)
	t.Off = int(a.used / int64(dtype.Size()))
	// The next tensor starts at a multiple of the alignment, or there is no next one.
	a.used += min((n+arenaAlign-1)&^(arenaAlign-1), a.size-a.used)
	a.peak = max(a.peak, a.used)
	return t, nil
}

// Mark returns the present position, for Release.
func (a *Arena) Mark() int64 { return a.used }

// Release takes back every tensor handed out since Mark returned mark.
func (a *Arena) Release(mark int64) {
	if mark < 0 || mark > a.used {
		panic("backend: arena released to a mark that lies ahead")
	}
	a.used = mark
}

// Reset takes back every tensor. Peak stays.
func (a *Arena) Reset() { a.used = 0 }

// Used returns the bytes handed out, padding included.
func (a *Arena) Used() int64 { return a.used }

// Peak returns the largest value Used has had.
func (a *Arena) Peak() int64 { return a.peak }

// Size returns the bytes the arena was made with.
func (a *Arena) Size() int64 { return a.size }

// Free returns the memory to the device.
func (a *Arena) Free() error {
	a.size, a.used = 0, 0
	return a.buf.Free()
}
