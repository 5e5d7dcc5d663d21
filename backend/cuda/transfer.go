//go:build cuda && cgo && linux

package cuda

import (
	"math"
	"unsafe"

	"gorgonia.org/cu"

	"sift/backend"
	"sift/fault"
)

// The staging ring is pinned host memory in parts. Uploads fill one part after another;
// an event tells when the copies out of a part are done.
const (
	ringParts = 4
	partBytes = 4 << 20
)

type ring struct {
	host unsafe.Pointer
	part int   // being filled
	used int64 // bytes of it
	done [ringParts]cu.Event
}

// room returns n contiguous bytes of the ring, n at most partBytes.
func (d *device) room(n int64) (unsafe.Pointer, error) {
	r := &d.ring
	if r.used+n > partBytes {
		if err := r.done[r.part].Record(d.stream); err != nil {
			return nil, d.failed("record an event", err)
		}
		r.part, r.used = (r.part+1)%ringParts, 0
		if err := r.done[r.part].Synchronize(); err != nil {
			return nil, d.failed("wait for copies", err)
		}
	}
	p := unsafe.Add(r.host, int64(r.part)*partBytes+r.used)
	r.used = (r.used + n + 15) &^ 15
	return p, nil
}

// number is an element on the host.
type number interface{ float32 | float64 | int32 }

func slice[E any](p unsafe.Pointer, n int) []E { return unsafe.Slice((*E)(p), n) }

func convert[D, S number](dst []D, src []S) {
	for i, v := range src {
		dst[i] = D(v)
	}
}

// toBF16 rounds to the nearest bfloat16, ties to even.
func toBF16(x float32) uint16 {
	u := math.Float32bits(x)
	if u&0x7fffffff > 0x7f800000 {
		return 0x7fff
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

func fromBF16(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }

// toDevice writes src as elements of type t at p.
func toDevice[S number](p unsafe.Pointer, t backend.DType, src []S) error {
	n := len(src)
	switch t {
	case backend.F32:
		if s, ok := any(src).([]float32); ok {
			copy(slice[float32](p, n), s)
			return nil
		}
		convert(slice[float32](p, n), src)
	case backend.F64:
		convert(slice[float64](p, n), src)
	case backend.I32:
		convert(slice[int32](p, n), src)
	case backend.BF16:
		dst := slice[uint16](p, n)
		for i, v := range src {
			dst[i] = toBF16(float32(v))
		}
	default:
		return fault.New(fault.Internal, "cuda: no %s tensors", t)
	}
	return nil
}

// fromDevice reads len(dst) elements of type t at p.
func fromDevice[D number](dst []D, t backend.DType, p unsafe.Pointer) error {
	n := len(dst)
	switch t {
	case backend.F32:
		if s, ok := any(dst).([]float32); ok {
			copy(s, slice[float32](p, n))
			return nil
		}
		convert(dst, slice[float32](p, n))
	case backend.F64:
		convert(dst, slice[float64](p, n))
	case backend.I32:
		convert(dst, slice[int32](p, n))
	case backend.BF16:
		for i, v := range slice[uint16](p, n) {
			dst[i] = D(fromBF16(v))
		}
	default:
		return fault.New(fault.Internal, "cuda: no %s tensors", t)
	}
	return nil
}

// upload copies src into the contiguous tensor dst, in order with enqueued work.
func upload[S number](d *device, dst backend.Tensor, src []S) error {
	if len(src) == 0 {
		return d.usable()
	}
	if err := d.own("upload", dst); err != nil {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	size := int64(dst.DType.Size())
	at := cu.DevicePtr(matrix(dst).at)
	for len(src) > 0 {
		n := min(int64(len(src)), partBytes/size)
		p, err := d.room(n * size)
		if err != nil {
			return err
		}
		if err := toDevice(p, dst.DType, src[:n]); err != nil {
			return err
		}
		if err := cu.MemcpyHtoDAsync(at, p, n*size, d.stream); err != nil {
			return d.failed("copy to the device", err)
		}
		at += cu.DevicePtr(n * size)
		src = src[n:]
	}
	return nil
}

// download waits for enqueued work and copies the contiguous tensor src to dst.
func download[D number](d *device, dst []D, src backend.Tensor) error {
	if len(dst) == 0 {
		return d.Sync()
	}
	if err := d.own("download", src); err != nil {
		return err
	}
	if err := d.flushAll(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	size := int64(src.DType.Size())
	at := cu.DevicePtr(matrix(src).at)
	for len(dst) > 0 {
		n := min(int64(len(dst)), partBytes/size)
		p, err := d.room(n * size)
		if err != nil {
			return err
		}
		if err := cu.MemcpyDtoHAsync(p, at, n*size, d.stream); err != nil {
			return d.failed("copy from the device", err)
		}
		if err := d.wait(); err != nil {
			return err
		}
		if err := fromDevice(dst[:n], src.DType, p); err != nil {
			return err
		}
		at += cu.DevicePtr(n * size)
		dst = dst[n:]
	}
	return nil
}

// Sync waits for enqueued work.
func (d *device) Sync() error {
	if err := d.flushAll(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	return d.wait()
}

// wait ends when the stream is empty; then the status words tell of an index outside its
// table.
func (d *device) wait() error {
	if err := cu.MemcpyDtoHAsync(d.found, d.statusBuffer.at, 16, d.stream); err != nil {
		return d.failed("copy from the device", err)
	}
	if err := d.stream.Synchronize(); err != nil {
		return d.failed("wait", err)
	}
	return d.judge(d.found)
}

// judge returns the error that status words tell of, and clears them on the device.
func (d *device) judge(words unsafe.Pointer) error {
	word := slice[int32](words, 4)
	if word[0] == 0 {
		return nil
	}
	code, at, value := word[0], word[1], word[2]
	if err := cu.MemsetD8Async(d.statusBuffer.at, 0, 16, d.stream); err != nil {
		return d.failed("clear memory", err)
	}
	switch code { // shared with the kernels: the word, then where and what
	case 1:
		return fault.New(fault.Internal, "cuda: index %d at %d is outside its table", value, at)
	case 2:
		return fault.New(fault.Internal, "cuda: label %d of row %d is outside the classes", value, at)
	}
	return fault.New(fault.Internal, "cuda: sequence %d has rows outside the batch (%d)", at, value)
}

func (d *device) UploadF32(dst backend.Tensor, src []float32) error { return upload(d, dst, src) }
func (d *device) UploadF64(dst backend.Tensor, src []float64) error { return upload(d, dst, src) }
func (d *device) UploadI32(dst backend.Tensor, src []int32) error   { return upload(d, dst, src) }

func (d *device) DownloadF32(dst []float32, src backend.Tensor) error { return download(d, dst, src) }
func (d *device) DownloadF64(dst []float64, src backend.Tensor) error { return download(d, dst, src) }
func (d *device) DownloadI32(dst []int32, src backend.Tensor) error   { return download(d, dst, src) }
