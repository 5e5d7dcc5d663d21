//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include "shim.h"
*/
import "C"

import (
	"unsafe"

	"sift/backend"
	"sift/fault"
)

// number is an element on the host or on the device.
type number interface{ float32 | float64 | int32 }

// slice returns n elements at p.
func slice[E number](p unsafe.Pointer, n int) []E { return unsafe.Slice((*E)(p), n) }

// convert copies between slices of two number types.
func convert[D, S number](dst []D, src []S) {
	for i, v := range src {
		dst[i] = D(v)
	}
}

// toDevice writes src as elements of type t at p.
func toDevice[S number](p unsafe.Pointer, t backend.DType, src []S) error {
	switch t {
	case backend.F32:
		if s, ok := any(src).([]float32); ok {
			copy(slice[float32](p, len(s)), s)
			return nil
		}
		convert(slice[float32](p, len(src)), src)
	case backend.F64:
		convert(slice[float64](p, len(src)), src)
	case backend.I32:
		convert(slice[int32](p, len(src)), src)
	default:
		return fault.New(fault.Internal, "vulkan: no %s tensors", t)
	}
	return nil
}

// fromDevice reads len(dst) elements of type t at p.
func fromDevice[D number](dst []D, t backend.DType, p unsafe.Pointer) error {
	switch t {
	case backend.F32:
		if s, ok := any(dst).([]float32); ok {
			copy(s, slice[float32](p, len(s)))
			return nil
		}
		convert(dst, slice[float32](p, len(dst)))
	case backend.F64:
		convert(dst, slice[float64](p, len(dst)))
	case backend.I32:
		convert(dst, slice[int32](p, len(dst)))
	default:
		return fault.New(fault.Internal, "vulkan: no %s tensors", t)
	}
	return nil
}

// upload copies src into the contiguous tensor dst, in order with the commands recorded:
// straight into memory that the host sees if the device has nothing to do, else through
// the staging ring.
func upload[S number](d *device, dst backend.Tensor, src []S) error {
	if err := d.usable(); err != nil || len(src) == 0 {
		return err
	}
	b, ok := dst.Buf.(*buffer)
	if !ok || b.handle == nil {
		return fault.New(fault.Internal, "vulkan: upload to a tensor of another device or in a freed buffer")
	}
	size := int64(dst.DType.Size())
	at := int64(dst.Off) * size
	if b.host != nil && d.idle() {
		return toDevice(unsafe.Add(b.host, at), dst.DType, src)
	}
	for len(src) > 0 {
		if d.ringAt+size > ringBytes {
			if err := d.finish(); err != nil {
				return err
			}
		}
		n := min(int64(len(src)), (ringBytes-d.ringAt)/size)
		if err := toDevice(unsafe.Add(d.ring.host, d.ringAt), dst.DType, src[:n]); err != nil {
			return err
		}
		if err := d.copy(b, at, d.ring, d.ringAt, n*size); err != nil {
			return err
		}
		d.ringAt = min(roundUp(d.ringAt+n*size, 16), ringBytes)
		at += n * size
		src = src[n:]
	}
	return nil
}

// download waits for all commands and copies the contiguous tensor src to dst.
func download[D number](d *device, dst []D, src backend.Tensor) error {
	if len(dst) == 0 {
		return d.Sync()
	}
	b, ok := src.Buf.(*buffer)
	if !ok || b.handle == nil {
		return fault.New(fault.Internal, "vulkan: download of a tensor of another device or in a freed buffer")
	}
	size := int64(src.DType.Size())
	at := int64(src.Off) * size
	if b.host != nil {
		if err := d.Sync(); err != nil {
			return err
		}
		return fromDevice(dst, src.DType, unsafe.Add(b.host, at))
	}
	for len(dst) > 0 {
		// What has been recorded may still read the ring: the copy goes where it is free.
		if d.ringAt+size > ringBytes {
			if err := d.finish(); err != nil {
				return err
			}
		}
		from := d.ringAt
		n := min(int64(len(dst)), (ringBytes-from)/size)
		if err := d.copy(d.ring, from, b, at, n*size); err != nil {
			return err
		}
		if err := d.Sync(); err != nil {
			return err
		}
		if err := fromDevice(dst[:n], src.DType, unsafe.Add(d.ring.host, from)); err != nil {
			return err
		}
		at += n * size
		dst = dst[n:]
	}
	return nil
}

// copy records a copy between buffers.
func (d *device) copy(dst *buffer, to int64, src *buffer, from, n int64) error {
	if err := d.begin(); err != nil {
		return err
	}
	read, write := access{src.id(), from, from + n}, access{dst.id(), to, to + n}
	wait := d.hazards.conflict(read, false) || d.hazards.conflict(write, true)
	if wait {
		d.hazards.clear()
	}
	d.hazards.note(read, true, false)
	d.hazards.note(write, false, true)
	C.sv_copy(d.table, unsafe.Pointer(d.frames[d.now].commands), C.int(flag(wait)), C.uint64_t(src.id()), C.uint64_t(from),
		C.uint64_t(dst.id()), C.uint64_t(to), C.uint64_t(n))
	return nil
}

// fill records zeroing a whole buffer.
func (d *device) fill(b *buffer) error {
	if err := d.begin(); err != nil {
		return err
	}
	n := roundUp(max(b.size, 16), 16)
	write := access{b.id(), 0, n}
	wait := d.hazards.conflict(write, true)
	if wait {
		d.hazards.clear()
	}
	d.hazards.note(write, false, true)
	C.sv_fill(d.table, unsafe.Pointer(d.frames[d.now].commands), C.int(flag(wait)), C.uint64_t(b.id()), 0, C.uint64_t(n))
	return nil
}

func (d *device) UploadF32(dst backend.Tensor, src []float32) error { return upload(d, dst, src) }
func (d *device) UploadF64(dst backend.Tensor, src []float64) error { return upload(d, dst, src) }
func (d *device) UploadI32(dst backend.Tensor, src []int32) error   { return upload(d, dst, src) }

func (d *device) DownloadF32(dst []float32, src backend.Tensor) error { return download(d, dst, src) }
func (d *device) DownloadF64(dst []float64, src backend.Tensor) error { return download(d, dst, src) }
func (d *device) DownloadI32(dst []int32, src backend.Tensor) error   { return download(d, dst, src) }
