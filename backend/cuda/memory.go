//go:build cuda && cgo && linux

package cuda

/*
#include "launch.h"
*/
import "C"

import (
	"sift/backend"
	"sift/fault"

	"gorgonia.org/cu"
)

// buffer is device memory; at is 0 once it is freed.
type buffer struct {
	dev  *device
	at   cu.DevicePtr
	size int64 // as asked for
}

func (b *buffer) Bytes() int64 { return b.size }

// Free returns the memory once enqueued work is done with it. Where the driver has pools of
// memory nobody waits for that.
func (b *buffer) Free() error {
	d := b.dev
	if b.at == 0 || d.closed {
		return nil
	}
	if err := d.flushAll(); err != nil && d.gone == nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	at := b.at
	b.at = 0
	delete(d.buffers, b)
	if d.gone != nil {
		return nil // lost with the device; Close takes its context away
	}
	d.taken -= max(b.size, 1)
	for _, q := range d.queues {
		if !d.pools {
			if err := q.stream.Synchronize(); err != nil {
				return d.failed("wait", err)
			}
		} else if err := d.After(q); err != nil {
			return err
		}
	}
	if !d.pools {
		if err := cu.MemFree(at); err != nil {
			return d.failed("free memory", err)
		}
	} else if r := result(C.cuMemFreeAsync(C.CUdeviceptr(at), cStream(d.stream))); r != success {
		return d.failed("free memory", r)
	}
	return nil
}

// Alloc returns zeroed memory.
func (d *device) Alloc(bytes int64) (backend.Buffer, error) {
	b, err := d.newBuffer(bytes)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (d *device) newBuffer(bytes int64) (*buffer, error) {
	if bytes < 0 {
		return nil, fault.New(fault.Internal, "cuda: %d bytes", bytes)
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	n := max(bytes, 1) // exactly: a checker of addresses then sees what lies beyond
	at, err := d.allocate(n)
	if codeOf(err) == outOfMemory {
		return nil, none("no memory for %d bytes beside the %d taken: %v", n, d.taken, outOfMemory)
	}
	if err != nil {
		return nil, d.failed("allocate memory", err)
	}
	if err := cu.MemsetD8Async(at, 0, n, d.stream); err != nil {
		_ = cu.MemFree(at) // the first error is told
		return nil, d.failed("clear memory", err)
	}
	b := &buffer{dev: d, at: at, size: bytes}
	d.buffers[b] = true
	d.taken += n
	return b, nil
}

// allocate returns n bytes of device memory, from the driver's pool if there is one.
func (d *device) allocate(n int64) (cu.DevicePtr, error) {
	if !d.pools {
		return cu.MemAlloc(n)
	}
	var at C.CUdeviceptr
	if r := result(C.cuMemAllocAsync(&at, C.size_t(n), cStream(d.stream))); r != success {
		return 0, r
	}
	return cu.DevicePtr(at), nil
}

// scratch returns device memory for an operation's own use, contents undefined; each call
// returns the same memory.
func (d *device) scratch(bytes int64) (C.u64, error) {
	if d.working == nil || d.working.size < bytes {
		if d.working != nil {
			if err := d.working.Free(); err != nil {
				return 0, err
			}
			d.working = nil
		}
		b, err := d.newBuffer(max(bytes, 1<<20))
		if err != nil {
			return 0, err
		}
		d.working = b
	}
	return C.u64(d.working.at), nil
}
