package backend

import "sift/fault"

// Queued is a Device whose work goes on while its caller does. It hands results over
// without waiting for later work, and has a second queue.
//
// On it, AdamW with Guard skips an update whose gradients are not finite, so that nobody
// needs to look at them first.
type Queued interface {
	Device
	// NewSlot returns a place for results of at most n floating elements.
	NewSlot(n int) (Slot, error)
	// Fork returns a Device that works on the same memory in a queue of its own, beside
	// this one's work. Close of this Device closes it.
	Fork() (Queued, error)
	// After makes what is enqueued here from now on wait for what other, of which this is
	// a fork or which is a fork of this, has been given so far.
	After(other Device) error
}

// Slot is host memory that a device copies results to.
type Slot interface {
	// Start enqueues a copy of the contiguous floating tensor src on a queue of the slot's
	// device. The slot must not be in use.
	Start(queue Device, src Tensor) error
	// Wait waits for the copy, but for no work enqueued after it, and converts it to dst,
	// which has the length of src.
	Wait(dst []float64) error
	Free() error
}

// Readback is a download that is started now and waited for later. On a device that is
// not Queued starting it waits.
type Readback struct {
	slot  Slot
	host  []float64
	n     int
	under *Stream // the stream of a copy under way
}

// NewReadback returns a Readback for at most n elements. It belongs to s's device.
func (s *Stream) NewReadback(n int) (*Readback, error) {
	r := &Readback{host: make([]float64, n)}
	q, ok := s.dev.(Queued)
	if !ok || n == 0 {
		return r, nil
	}
	var err error
	r.slot, err = q.NewSlot(n)
	return r, err
}

// Free returns the memory of r.
func (r *Readback) Free() error {
	if r == nil || r.slot == nil {
		return nil
	}
	slot := r.slot
	r.slot = nil
	return slot.Free()
}

// Start enqueues the copy of the contiguous floating tensor src; with the zero Tensor there
// is nothing to copy. Errors come with Wait.
func (r *Readback) Start(s *Stream, src Tensor) {
	r.under, r.n = s, src.Len()
	if s.err != nil || r.n == 0 {
		return
	}
	if r.n > len(r.host) {
		s.Fail(fault.New(fault.Internal, "readback: %d elements, room for %d", r.n, len(r.host)))
		return
	}
	if r.slot == nil {
		_ = s.DownloadF64(r.host[:r.n], src) // the stream keeps the error
		return
	}
	c := s.begin("readback")
	c.transfer(src, r.n, false)
	if s.ready(&c) {
		s.ran("readback", r.slot.Start(s.dev, src))
	}
}

// Wait returns what was copied, valid until the next Start.
func (r *Readback) Wait() ([]float64, error) {
	s := r.under
	if s == nil {
		return nil, fault.New(fault.Internal, "readback: not started")
	}
	if s.err == nil && r.n > 0 && r.slot != nil {
		s.ran("readback", r.slot.Wait(r.host[:r.n]))
	}
	return r.host[:r.n], s.err
}

// Fork returns a stream on another queue of s's device, or nil where it has none.
func (s *Stream) Fork() (*Stream, error) {
	q, ok := s.dev.(Queued)
	if !ok {
		return nil, nil
	}
	dev, err := q.Fork()
	if err != nil {
		return nil, err
	}
	return NewStream(dev), nil
}

// After makes what is enqueued on s from now on wait for what other, a fork of s or the
// stream that s was forked from, has been given so far.
func (s *Stream) After(other *Stream) {
	if s.err != nil {
		return
	}
	if other.err != nil {
		s.err = other.err
		return
	}
	q, ok := s.dev.(Queued)
	if !ok {
		s.Fail(fault.New(fault.Internal, "order of queues: the device has one"))
		return
	}
	s.ran("order of queues", q.After(other.dev))
}
