//go:build cgo && unix

package cpu

/*
#cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O3 -Wall -pthread
#cgo LDFLAGS: -lm -pthread
#include "sift.h"

// Pointers given to sift_run are used only until it returns, and it never calls Go.
#cgo noescape sift_run
#cgo nocallback sift_run
*/
import "C"

import (
	"runtime"
	"unsafe"

	"sift/backend"
	"sift/fault"
)

// device runs the C kernels: one call into C per operation, all threads at once,
// finished when it returns.
type device struct {
	pool *C.struct_sift
	info backend.Info
}

var isaNames = [...]string{C.SIFT_PORTABLE: "portable", C.SIFT_AVX2: "avx2", C.SIFT_AVX512: "avx512"}

// pickISA resolves a name to a table of kernels that this processor can run.
func pickISA(name string) (C.int, error) {
	best := C.sift_best_isa()
	if name == "" || name == "auto" {
		return best, nil
	}
	for isa, n := range isaNames {
		if n == name && C.int(isa) <= best {
			return C.int(isa), nil
		}
	}
	return 0, fault.New(fault.Device, "device.isa: this processor (%s) does not have %s; it has %s", processor(), name, isaNames[best])
}

func open(o Options) (backend.Device, error) {
	isa, err := pickISA(o.ISA)
	if err != nil {
		return nil, err
	}
	threads := o.Threads
	if threads == 0 {
		// GOMAXPROCS follows the affinity mask and the container's quota; two hardware
		// threads of one core share the multipliers, so a second one only costs.
		threads = min(runtime.GOMAXPROCS(0), cores())
	}
	pool := C.sift_open(C.int(threads), isa)
	if pool == nil {
		return nil, fault.New(fault.Device, "cpu: cannot start %d threads", threads)
	}
	return &device{pool, backend.Info{
		Name:        "cpu",
		Description: processor(),
		Kind:        "cpu",
		ISA:         isaNames[isa],
		Threads:     threads,
		Float:       backend.F32,
		MemoryBytes: memoryBytes(),
	}}, nil
}

func (d *device) Info() backend.Info { return d.info }
func (d *device) Sync() error        { return nil }

// Close stops the threads. Buffers stay valid until they are freed.
func (d *device) Close() error {
	if d.pool != nil {
		C.sift_close(d.pool)
		d.pool = nil
	}
	return nil
}

// run carries out one operation; args points to the op_ struct that belongs to it.
func (d *device) run(op C.int, args unsafe.Pointer) error {
	if d.pool == nil {
		return fault.New(fault.Internal, "cpu: the device is closed")
	}
	switch C.sift_run(d.pool, op, args) {
	case C.SIFT_OK:
		return nil
	case C.SIFT_NOMEM:
		return fault.New(fault.Device, "cpu: no memory for the operation's workspace")
	}
	return fault.New(fault.Internal, "cpu: an index, label or sequence offset is outside its table")
}

// buffer is C memory: Go's collector neither moves nor scans it.
type buffer struct {
	p    unsafe.Pointer
	size int64
}

func (b *buffer) Bytes() int64 { return b.size }

func (b *buffer) Free() error {
	C.sift_free(b.p, C.long(b.size))
	b.p = nil
	return nil
}

// Alloc returns zeroed memory: 64-byte aligned below 2 MiB, in pages of 2 MiB from there on.
func (d *device) Alloc(bytes int64) (backend.Buffer, error) {
	if bytes < 0 {
		return nil, fault.New(fault.Internal, "cpu: cannot allocate %d bytes", bytes)
	}
	p := C.sift_alloc(C.long(bytes))
	if p == nil {
		return nil, fault.New(fault.Device, "cpu: no memory for %d bytes", bytes)
	}
	return &buffer{p, bytes}, nil
}

// at returns the address of t's first element, nil if t is absent.
func at(t backend.Tensor) unsafe.Pointer {
	if t.Buf == nil {
		return nil
	}
	b, ok := t.Buf.(*buffer)
	if !ok {
		panic("cpu: a tensor of another device")
	}
	if b.p == nil {
		panic("cpu: a tensor in a freed buffer")
	}
	return unsafe.Add(b.p, t.Off*t.DType.Size())
}

func floats(t backend.Tensor) *C.float { return (*C.float)(at(t)) }
func ints(t backend.Tensor) *C.int32_t { return (*C.int32_t)(at(t)) }
func mat(t backend.Tensor) C.struct_mat {
	return C.struct_mat{p: floats(t), rows: C.long(t.Rows), cols: C.long(t.Cols), stride: C.long(t.Stride)}
}

// host returns the elements of a contiguous tensor as a slice.
func host[E float32 | float64 | int32](t backend.Tensor) []E {
	return unsafe.Slice((*E)(at(t)), t.Len())
}

func uploadFloats[S float32 | float64](dst backend.Tensor, src []S) error {
	switch dst.DType {
	case backend.F32:
		convert(host[float32](dst), src)
	case backend.F64:
		convert(host[float64](dst), src)
	default:
		return fault.New(fault.Internal, "cpu: no %s tensors", dst.DType)
	}
	return nil
}

func downloadFloats[D float32 | float64](dst []D, src backend.Tensor) error {
	switch src.DType {
	case backend.F32:
		convert(dst, host[float32](src))
	case backend.F64:
		convert(dst, host[float64](src))
	default:
		return fault.New(fault.Internal, "cpu: no %s tensors", src.DType)
	}
	return nil
}

func (d *device) UploadF32(dst backend.Tensor, src []float32) error {
	if dst.DType == backend.F32 {
		copy(host[float32](dst), src)
		return nil
	}
	return uploadFloats(dst, src)
}

func (d *device) UploadF64(dst backend.Tensor, src []float64) error { return uploadFloats(dst, src) }

func (d *device) UploadI32(dst backend.Tensor, src []int32) error {
	copy(host[int32](dst), src)
	return nil
}

func (d *device) DownloadF32(dst []float32, src backend.Tensor) error {
	if src.DType == backend.F32 {
		copy(dst, host[float32](src))
		return nil
	}
	return downloadFloats(dst, src)
}

func (d *device) DownloadF64(dst []float64, src backend.Tensor) error {
	return downloadFloats(dst, src)
}

func (d *device) DownloadI32(dst []int32, src backend.Tensor) error {
	copy(dst, host[int32](src))
	return nil
}
