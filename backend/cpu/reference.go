package cpu

import (
	"unsafe"

	"sift/backend"
	"sift/fault"
)

// NewReference returns the pure Go device that other devices are measured against:
// every operation written the plainest way, one thread, sums in float64 rounded once
// when they are stored. Its parameters and activations are of type float, F32 or F64.
func NewReference(float backend.DType) backend.Device {
	switch float {
	case backend.F32:
		return &reference[float32]{float: float}
	case backend.F64:
		return &reference[float64]{float: float}
	}
	panic("cpu: the reference computes in float32 or float64")
}

// reference is the device. Its scratch memory grows to what the largest call needs and
// stays.
type reference[T float32 | float64] struct {
	float   backend.DType
	scratch []float64
}

func (r *reference[T]) Info() backend.Info {
	return backend.Info{
		Name:        "reference",
		Description: "plain Go in " + r.float.String(),
		Kind:        "reference",
		ISA:         "go",
		Threads:     1,
		Float:       r.float,
	}
}

func (r *reference[T]) Sync() error  { return nil }
func (r *reference[T]) Close() error { return nil }

// refBuffer is Go memory, aligned to 64 bytes.
type refBuffer struct{ mem []byte }

func (b *refBuffer) Bytes() int64 { return int64(len(b.mem)) }

func (b *refBuffer) Free() error {
	b.mem = nil
	return nil
}

// Alloc returns zeroed memory aligned to 64 bytes.
func (r *reference[T]) Alloc(bytes int64) (backend.Buffer, error) {
	if bytes < 0 || bytes > 1<<46 {
		return nil, fault.New(fault.Device, "reference: cannot allocate %d bytes", bytes)
	}
	// Go aligns large blocks to more than 64 bytes and small ones to less.
	mem := make([]byte, bytes+63)
	skip := -int64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) & 63
	return &refBuffer{mem[skip : skip+bytes : skip+bytes]}, nil
}

// matrix is a Tensor whose elements Go can index: row i begins at i*stride.
type matrix[E any] struct {
	data               []E
	rows, cols, stride int
}

// row returns row i.
func (m matrix[E]) row(i int) []E {
	return m.data[i*m.stride : i*m.stride+m.cols : i*m.stride+m.cols]
}

// view returns the elements of t, which has type E and lies in a buffer of a reference
// device (Stream has checked both). The matrix of an absent or empty tensor has no rows.
func view[E float32 | float64 | int32](t backend.Tensor) matrix[E] {
	if t.Absent() || t.Len() == 0 {
		return matrix[E]{cols: t.Cols}
	}
	b, ok := t.Buf.(*refBuffer)
	if !ok {
		panic("cpu: a tensor of another device")
	}
	var e E
	size := int(unsafe.Sizeof(e))
	n := (t.Rows-1)*t.Stride + t.Cols
	bytes := b.mem[t.Off*size : (t.Off+n)*size]
	return matrix[E]{unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(bytes))), n), t.Rows, t.Cols, t.Stride}
}

// floats takes n float64 of scratch memory, not cleared. Each call of it within one
// operation would return the same memory, so an operation calls it once and cuts.
func (r *reference[T]) floats(n int) []float64 {
	if len(r.scratch) < n {
		r.scratch = make([]float64, n)
	}
	return r.scratch[:n]
}

// convert copies between slices of any two number types.
func convert[D, S float32 | float64 | int32](dst []D, src []S) {
	for i, v := range src {
		dst[i] = D(v)
	}
}

// upload copies src into the contiguous float tensor dst.
func upload[S float32 | float64](dst backend.Tensor, src []S) error {
	switch d := dst.Reshape(1, dst.Len()); {
	case len(src) == 0:
	case dst.DType == backend.F32:
		convert(view[float32](d).row(0), src)
	case dst.DType == backend.F64:
		convert(view[float64](d).row(0), src)
	default:
		return fault.New(fault.Internal, "reference: no %s tensors", dst.DType)
	}
	return nil
}

// download copies the contiguous float tensor src to dst.
func download[D float32 | float64](dst []D, src backend.Tensor) error {
	switch s := src.Reshape(1, src.Len()); {
	case len(dst) == 0:
	case src.DType == backend.F32:
		convert(dst, view[float32](s).row(0))
	case src.DType == backend.F64:
		convert(dst, view[float64](s).row(0))
	default:
		return fault.New(fault.Internal, "reference: no %s tensors", src.DType)
	}
	return nil
}

func (r *reference[T]) UploadF32(dst backend.Tensor, src []float32) error {
	return upload(dst, src)
}

func (r *reference[T]) UploadF64(dst backend.Tensor, src []float64) error {
	return upload(dst, src)
}

func (r *reference[T]) UploadI32(dst backend.Tensor, src []int32) error {
	if len(src) > 0 {
		copy(view[int32](dst.Reshape(1, dst.Len())).row(0), src)
	}
	return nil
}

func (r *reference[T]) DownloadF32(dst []float32, src backend.Tensor) error {
	return download(dst, src)
}

func (r *reference[T]) DownloadF64(dst []float64, src backend.Tensor) error {
	return download(dst, src)
}

func (r *reference[T]) DownloadI32(dst []int32, src backend.Tensor) error {
	if len(dst) > 0 {
		copy(dst, view[int32](src.Reshape(1, src.Len())).row(0))
	}
	return nil
}
