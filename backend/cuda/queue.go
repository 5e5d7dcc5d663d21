//go:build cuda && cgo && linux

package cuda

import (
	"unsafe"

	"gorgonia.org/cu"

	"sift/backend"
	"sift/fault"
)

// Fork returns another queue of the GPU, on which kernels and copies run beside this one's.
func (d *device) Fork() (backend.Queued, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	f := &device{gpu: d.gpu}
	if err := f.begin(d.blas != nil); err != nil {
		_ = f.Close() // the first error is told
		return nil, err
	}
	return f, nil
}

// After makes what is enqueued on d from now on wait for what other has been given so far.
func (d *device) After(other backend.Device) error {
	o, ok := other.(*device)
	if !ok || o.gpu != d.gpu {
		return fault.New(fault.Internal, "cuda: after: another GPU")
	}
	if o == d {
		return nil
	}
	for _, q := range []*device{d, o} {
		if err := q.flush(); err != nil {
			return err
		}
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if o.fence == (cu.Event{}) {
		var err error
		if o.fence, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return d.failed("make an event", err)
		}
	}
	if err := o.fence.Record(o.stream); err != nil {
		return d.failed("record an event", err)
	}
	if err := d.stream.Wait(o.fence, 0); err != nil {
		return d.failed("wait for an event", err)
	}
	return nil
}

// slot is pinned memory for results, and for the status words as they were when the results
// were made.
type slot struct {
	gpu   *gpu
	host  unsafe.Pointer
	size  int64 // bytes for results; the words follow
	done  cu.Event
	queue *device // of the copy under way, nil: none
	dtype backend.DType
}

const statusBytes = 16

// NewSlot returns a slot for n elements of at most four bytes.
func (d *device) NewSlot(n int) (backend.Slot, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	s := &slot{gpu: d.gpu, size: int64(4*n+15) &^ 15}
	var err error
	if s.host, err = d.pinned(int(s.size) + statusBytes); err != nil {
		return nil, err
	}
	if s.done, err = cu.MakeEvent(cu.DisableTiming); err != nil {
		_ = cu.MemFreeHost(s.host) // the first error is told
		return nil, d.failed("make an event", err)
	}
	d.slots[s] = true
	return s, nil
}

// Start enqueues the copy of src.
func (s *slot) Start(queue backend.Device, src backend.Tensor) error {
	d, ok := queue.(*device)
	bytes := int64(src.Len()) * int64(src.DType.Size())
	if !ok || d.gpu != s.gpu || bytes > s.size || !s.gpu.slots[s] {
		return fault.New(fault.Internal, "cuda: a slot of another GPU, one that was freed, or too small for %s", src)
	}
	if err := d.own("readback", src); err != nil {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := cu.MemcpyDtoHAsync(s.host, cu.DevicePtr(matrix(src).at), bytes, d.stream); err != nil {
		return d.failed("copy from the device", err)
	}
	if err := cu.MemcpyDtoHAsync(unsafe.Add(s.host, s.size), d.statusBuffer.at, statusBytes, d.stream); err != nil {
		return d.failed("copy from the device", err)
	}
	if err := s.done.Record(d.stream); err != nil {
		return d.failed("record an event", err)
	}
	s.queue, s.dtype = d, src.DType
	return nil
}

// Wait waits for the copy.
func (s *slot) Wait(dst []float64) error {
	d := s.queue
	if d == nil {
		return fault.New(fault.Internal, "cuda: a slot without a copy")
	}
	if err := d.flushAll(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := s.done.Synchronize(); err != nil {
		return d.failed("wait", err)
	}
	if err := d.judge(unsafe.Add(s.host, s.size)); err != nil {
		return err
	}
	return fromDevice(dst, s.dtype, s.host)
}

// Free returns the memory.
func (s *slot) Free() error {
	g := s.gpu
	if !g.slots[s] || len(g.queues) == 0 {
		return nil
	}
	d := g.queues[0]
	if g.gone != nil {
		return nil // lost with the device; Close takes its context away
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	n := notes{gpu: g}
	if s.queue != nil {
		n.note("wait", s.done.Synchronize())
	}
	s.release(n.note)
	return n.first
}

func (s *slot) release(note func(what string, err error)) {
	note("destroy an event", cu.DestroyEvent(&s.done))
	note("free pinned memory", cu.MemFreeHost(s.host))
	delete(s.gpu.slots, s)
}
