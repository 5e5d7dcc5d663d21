package backend

import (
	"math"
	"math/bits"

	"sift/fault"
)

// NewTensor returns the contiguous rows x cols tensor at the start of buf.
func NewTensor(buf Buffer, dtype DType, rows, cols int) Tensor {
	return Tensor{Buf: buf, Rows: rows, Cols: cols, Stride: cols, DType: dtype}
}

// Alloc returns a zeroed contiguous rows x cols tensor in a buffer of its own. An
// empty tensor has a buffer too, so that it does not count as absent.
func Alloc(dev Device, dtype DType, rows, cols int) (Tensor, error) {
	n, err := tensorBytes(dtype, rows, cols)
	if err != nil {
		return Tensor{}, err
	}
	buf, err := dev.Alloc(max(n, arenaAlign))
	if err != nil {
		return Tensor{}, fault.As(fault.Device, err)
	}
	return NewTensor(buf, dtype, rows, cols), nil
}

// tensorBytes returns rows * cols * the size of an element, or an error if a
// dimension is negative or the product does not fit.
func tensorBytes(dtype DType, rows, cols int) (int64, error) {
	size := dtype.Size()
	if rows < 0 || cols < 0 || size == 0 {
		return 0, fault.New(fault.Internal, "tensor %s[%dx%d]: not a shape", dtype, rows, cols)
	}
	hi, n := bits.Mul64(uint64(rows), uint64(cols))
	if hi != 0 || n > math.MaxInt64/16 {
		return 0, fault.New(fault.Internal, "tensor %s[%dx%d]: larger than any memory", dtype, rows, cols)
	}
	return int64(n) * int64(size), nil
}

// inside reports whether every element of t lies in its buffer.
func inside(t Tensor) bool {
	if t.Rows < 0 || t.Cols < 0 || t.Off < 0 || t.DType.Size() == 0 {
		return false
	}
	if t.Rows == 0 || t.Cols == 0 {
		return true
	}
	if t.Rows > 1 && t.Stride < t.Cols {
		return false
	}
	elems := t.Buf.Bytes() / int64(t.DType.Size())
	return int64(t.Off)+int64(t.Rows-1)*int64(t.Stride)+int64(t.Cols) <= elems
}

// overlap reports whether a and b share an element. Views of different columns of
// one matrix interleave without sharing any.
func overlap(a, b Tensor) bool {
	if a.Buf == nil || a.Buf != b.Buf || a.Len() == 0 || b.Len() == 0 {
		return false
	}
	x, y := bytesOf(a), bytesOf(b)
	if x.end() <= y.start || y.end() <= x.start {
		return false
	}
	if x.rows > y.rows {
		x, y = y, x
	}
	for i := range x.rows {
		lo := x.start + i*x.stride
		hi := lo + x.length
		// The first run of y that ends after lo; x's run meets y if it begins before hi.
		first := int64(0)
		if y.rows > 1 && lo >= y.start+y.length {
			first = (lo-y.length-y.start)/y.stride + 1
		}
		if first < y.rows && y.start+first*y.stride < hi && y.start+first*y.stride+y.length > lo {
			return true
		}
	}
	return false
}

// runs are the bytes of a tensor: rows pieces of length bytes, stride bytes apart.
type runs struct{ start, length, stride, rows int64 }

func (r runs) end() int64 { return r.start + (r.rows-1)*r.stride + r.length }

func bytesOf(t Tensor) runs {
	size := int64(t.DType.Size())
	r := runs{int64(t.Off) * size, int64(t.Cols) * size, int64(t.Stride) * size, int64(t.Rows)}
	if t.Contiguous() {
		r.length, r.rows = int64(t.Len())*size, 1
	}
	return r
}
