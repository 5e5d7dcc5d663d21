//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/each.h"
*/
import "C"

import (
	"gorgonia.org/cu"

	"sift/backend"
	"sift/fault"
)

// wide reports whether every row of the tensors begins at a multiple of four elements, so
// that kernels may load four at once. Absent tensors do not matter.
func wide(tensors ...backend.Tensor) C.u32 {
	for _, t := range tensors {
		if !t.Absent() && (t.Off%4 != 0 || t.Rows > 1 && t.Stride%4 != 0) {
			return 0
		}
	}
	return 1
}

// quads is the number of groups of four that a row of n elements has.
func quads(n int) int { return (n + 3) / 4 }

// blocks256 is the number of blocks of 256 threads for n threads.
func blocks256(n int) int { return (n + 255) / 256 }

// flat returns contiguous tensors of one shape as one row.
func flat(tensors ...*backend.Tensor) {
	for _, t := range tensors {
		if !t.Absent() && !t.Contiguous() {
			return
		}
	}
	for _, t := range tensors {
		if !t.Absent() {
			*t = t.Reshape(1, t.Len())
		}
	}
}

// typed returns the name of a kernel for elements of type t; both names are constants.
func typed(t backend.DType, f32, bf16 string) string {
	if t == backend.BF16 {
		return bf16
	}
	return f32
}

// each runs a kernel of each.cu over y, x and z, of which z may be absent.
func (d *device) each(name string, y, x, z backend.Tensor, act backend.Activation, dropped backend.Drop) error {
	if y.Len() == 0 {
		return nil
	}
	if err := d.own(name, y, x, z, dropped.RowKey); err != nil {
		return err
	}
	if dropped.P == 0 {
		flat(&y, &x, &z)
	}
	mask, err := d.drop(dropped)
	if err != nil {
		return err
	}
	p := (*C.EachParams)(d.params())
	p.y, p.x, p.z = matrix(y), matrix(x), matrix(z)
	p.drop = mask
	p.cols, p.rows, p.quads = C.i64(y.Cols), C.u32(y.Rows), C.u32(quads(y.Cols))
	p.wide, p.act = wide(y, x, z), C.u32(act)
	return d.launch(name, blocks256(y.Rows*quads(y.Cols)), 1, 1, 256, 0)
}

// words returns t, of any type, as elements of four or two bytes.
func words(t backend.Tensor) backend.Tensor {
	switch t.DType.Size() {
	case 8:
		t.Off, t.Cols, t.Stride, t.DType = 2*t.Off, 2*t.Cols, 2*t.Stride, backend.F32
	case 4:
		t.DType = backend.F32
	case 2:
		t.DType = backend.BF16
	}
	return t
}

// Zero sets x to 0, whatever its type.
func (d *device) Zero(x backend.Tensor) error {
	if x.Len() == 0 {
		return nil
	}
	if !x.Contiguous() {
		x = words(x)
		return d.each(typed(x.DType, "zero4", "zero2"), x, backend.Tensor{}, backend.Tensor{}, 0, backend.Drop{})
	}
	if err := d.own("zero", x); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	size := x.DType.Size()
	if err := cu.MemsetD8Async(x.Buf.(*buffer).at+cu.DevicePtr(x.Off*size), 0, int64(x.Len()*size), d.stream); err != nil {
		return d.failed("clear memory", err)
	}
	return nil
}

// Copy sets dst to src, whatever their type.
func (d *device) Copy(dst, src backend.Tensor) error {
	dst, src = words(dst), words(src)
	return d.each(typed(dst.DType, "copy4", "copy2"), dst, src, backend.Tensor{}, 0, backend.Drop{})
}

// Convert sets dst to src, rounded to dst's type.
func (d *device) Convert(dst, src backend.Tensor) error {
	switch {
	case dst.DType == src.DType:
		return d.Copy(dst, src)
	case dst.DType == backend.BF16 && src.DType == backend.F32:
		return d.each("convert_to_bf16", dst, src, backend.Tensor{}, 0, backend.Drop{})
	case dst.DType == backend.F32 && src.DType == backend.BF16:
		return d.each("convert_to_f32", dst, src, backend.Tensor{}, 0, backend.Drop{})
	}
	return fault.New(fault.Internal, "cuda: convert %s to %s", src.DType, dst.DType)
}

// Add sets y to y + x.
func (d *device) Add(y, x backend.Tensor) error {
	return d.each(typed(y.DType, "add_f32", "add_bf16"), y, x, backend.Tensor{}, 0, backend.Drop{})
}

// GeluBackward sets dx to dy * act'(pre).
func (d *device) GeluBackward(dx, dy, pre backend.Tensor, act backend.Activation) error {
	return d.each(typed(dx.DType, "gelu_backward_f32", "gelu_backward_bf16"), dx, dy, pre, act, backend.Drop{})
}

// Tanh sets y to tanh x.
func (d *device) Tanh(y, x backend.Tensor) error {
	return d.each(typed(y.DType, "tanh_f32", "tanh_bf16"), y, x, backend.Tensor{}, 0, backend.Drop{})
}

// TanhBackward sets dx to dy * (1 - y^2).
func (d *device) TanhBackward(dx, dy, y backend.Tensor) error {
	return d.each(typed(dx.DType, "tanh_backward_f32", "tanh_backward_bf16"), dx, dy, y, 0, backend.Drop{})
}

// Dropout sets y to dropout(x).
func (d *device) Dropout(y, x backend.Tensor, o backend.Drop) error {
	if o.P == 0 {
		if y == x {
			return nil
		}
		return d.Copy(y, x)
	}
	return d.each(typed(y.DType, "dropout_f32", "dropout_bf16"), y, x, backend.Tensor{}, 0, o)
}
