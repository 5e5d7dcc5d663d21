package backend

import "sift/fault"

// Stream is how a model talks to a Device: the operations of Kernels without error
// results. It checks shapes, types and overlaps once for all devices, keeps the first
// error with its operation's name, skips everything after it, and reports it at Sync
// and Err. A call that succeeds allocates no Go memory. Like the Device, it is used by
// one goroutine at a time.
type Stream struct {
	dev   Device
	float DType
	act   DType
	err   error
}

// NewStream returns a Stream on dev.
func NewStream(dev Device) *Stream {
	info := dev.Info()
	return &Stream{dev: dev, float: info.Float, act: info.Activations()}
}

// Device returns the device behind the stream.
func (s *Stream) Device() Device { return s.dev }

// Float returns the type of parameters, statistics and losses on the device.
func (s *Stream) Float() DType { return s.float }

// Act returns the type of activations on the device, which may be Float.
func (s *Stream) Act() DType { return s.act }

// Err returns the first error so far, without waiting for enqueued work.
func (s *Stream) Err() error { return s.err }

// Fail makes err the stream's error unless it has one: for what a caller finds wrong
// between operations. A nil err does nothing.
func (s *Stream) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Sync waits for enqueued work and returns the first error so far.
func (s *Stream) Sync() error {
	if s.err == nil {
		s.ran("sync", s.dev.Sync())
	}
	return s.err
}

// begin starts the checks of a call.
func (s *Stream) begin(op string) checks { return checks{op: op, float: s.float, act: s.act} }

// ready reports whether the call may go to the device: its checks found nothing.
func (s *Stream) ready(c *checks) bool {
	s.err = c.err
	return s.err == nil
}

// ran keeps the error of a device call with the operation's name.
func (s *Stream) ran(op string, err error) {
	if err != nil && s.err == nil {
		s.err = fault.In(op, fault.As(fault.Device, err))
	}
}

// transfer checks the device side of a copy of n host elements. Floats convert into one
// another; integers do not.
func (c *checks) transfer(t Tensor, n int, integer bool) {
	switch {
	case t.Absent() || integer != (t.DType == I32):
		c.fail("tensor is %s, %d host elements are of another kind", t.String(), n)
	case t.Len() != n:
		c.fail("tensor is %s, host slice has %d elements", t.String(), n)
	default:
		c.want("tensor", t, t.DType, t.Rows, t.Cols)
		c.contiguous("tensor", t)
	}
}

// UploadF32 copies src into the contiguous float tensor dst, converting.
func (s *Stream) UploadF32(dst Tensor, src []float32) error {
	if s.err != nil {
		return s.err
	}
	c := s.begin("upload")
	c.transfer(dst, len(src), false)
	if s.ready(&c) {
		s.ran("upload", s.dev.UploadF32(dst, src))
	}
	return s.err
}

// UploadF64 copies src into the contiguous float tensor dst, converting.
func (s *Stream) UploadF64(dst Tensor, src []float64) error {
	if s.err != nil {
		return s.err
	}
	c := s.begin("upload")
	c.transfer(dst, len(src), false)
	if s.ready(&c) {
		s.ran("upload", s.dev.UploadF64(dst, src))
	}
	return s.err
}

// UploadI32 copies src into the contiguous integer tensor dst.
func (s *Stream) UploadI32(dst Tensor, src []int32) error {
	if s.err != nil {
		return s.err
	}
	c := s.begin("upload")
	c.transfer(dst, len(src), true)
	if s.ready(&c) {
		s.ran("upload", s.dev.UploadI32(dst, src))
	}
	return s.err
}

// DownloadF32 waits for enqueued work and copies the contiguous float tensor src to dst.
func (s *Stream) DownloadF32(dst []float32, src Tensor) error {
	if s.err != nil {
		return s.err
	}
	c := s.begin("download")
	c.transfer(src, len(dst), false)
	if s.ready(&c) {
		s.ran("download", s.dev.DownloadF32(dst, src))
	}
	return s.err
}

// DownloadF64 waits for enqueued work and copies the contiguous float tensor src to dst.
func (s *Stream) DownloadF64(dst []float64, src Tensor) error {
	if s.err != nil {
		return s.err
	}
	c := s.begin("download")
	c.transfer(src, len(dst), false)
	if s.ready(&c) {
		s.ran("download", s.dev.DownloadF64(dst, src))
	}
	return s.err
}

// DownloadI32 waits for enqueued work and copies the contiguous integer tensor src to dst.
func (s *Stream) DownloadI32(dst []int32, src Tensor) error {
	if s.err != nil {
		return s.err
	}
	c := s.begin("download")
	c.transfer(src, len(dst), true)
	if s.ready(&c) {
		s.ran("download", s.dev.DownloadI32(dst, src))
	}
	return s.err
}
