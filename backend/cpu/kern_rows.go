//go:build cgo && unix

package cpu

// #include "sift.h"
import "C"

import (
	"unsafe"

	"sift/backend"
	"sift/backend/philox"
)

// drop translates a Drop. Without dropout the scale is 1 and nothing else is read.
func drop(d backend.Drop) C.struct_drop {
	if d.P == 0 {
		return C.struct_drop{scale: 1}
	}
	key := philox.Key(d.Seed)
	return C.struct_drop{
		on: 1, scale: C.float(1 / (1 - d.P)), threshold: C.uint32_t(philox.Threshold(d.P)),
		key0: C.uint32_t(key[0]), key1: C.uint32_t(key[1]), site: C.uint32_t(d.Site), update: C.uint32_t(d.Update),
		rowkey: ints(d.RowKey), stride: C.long(d.RowKey.Stride),
	}
}

func rowBytes(dst, src backend.Tensor) C.struct_op_rows {
	size := dst.DType.Size()
	a := C.struct_op_rows{
		dst: (*C.char)(at(dst)), src: (*C.char)(at(src)), rows: C.long(dst.Rows), cols: C.long(dst.Cols * size),
		dst_stride: C.long(dst.Stride * size), src_stride: C.long(src.Stride * size),
	}
	return a
}

func (d *device) Zero(x backend.Tensor) error {
	a := rowBytes(x, x)
	return d.run(C.OP_ZERO, unsafe.Pointer(&a))
}

func (d *device) Copy(dst, src backend.Tensor) error {
	a := rowBytes(dst, src)
	return d.run(C.OP_COPY, unsafe.Pointer(&a))
}

// Convert is Copy: this device has one floating type.
func (d *device) Convert(dst, src backend.Tensor) error { return d.Copy(dst, src) }

func (d *device) Add(y, x backend.Tensor) error {
	a := C.struct_op_map{y: mat(y), x: mat(x)}
	return d.run(C.OP_ADD, unsafe.Pointer(&a))
}

func (d *device) ColSum(dst, src backend.Tensor) error {
	a := C.struct_op_map{y: mat(dst), x: mat(src)}
	return d.run(C.OP_COLSUM, unsafe.Pointer(&a))
}

func (d *device) GeluBackward(dx, dy, pre backend.Tensor, act backend.Activation) error {
	a := C.struct_op_map{y: mat(dx), x: mat(dy), z: mat(pre), act: C.int(act)}
	return d.run(C.OP_GELU_BACKWARD, unsafe.Pointer(&a))
}

func (d *device) Tanh(y, x backend.Tensor) error {
	a := C.struct_op_map{y: mat(y), x: mat(x)}
	return d.run(C.OP_TANH, unsafe.Pointer(&a))
}

func (d *device) TanhBackward(dx, dy, y backend.Tensor) error {
	a := C.struct_op_map{y: mat(dx), x: mat(dy), z: mat(y)}
	return d.run(C.OP_TANH_BACKWARD, unsafe.Pointer(&a))
}

func (d *device) Dropout(y, x backend.Tensor, dr backend.Drop) error {
	a := C.struct_op_map{y: mat(y), x: mat(x), drop: drop(dr)}
	return d.run(C.OP_DROPOUT, unsafe.Pointer(&a))
}

func (d *device) Embed(e backend.EmbedArgs) error {
	a := C.struct_op_embed{
		out: mat(e.Out), word: mat(e.Word), position: mat(e.Position), _type: mat(e.Type),
		ids: ints(e.IDs), positions: ints(e.Positions), types: ints(e.Types),
	}
	return d.run(C.OP_EMBED, unsafe.Pointer(&a))
}

func (d *device) GatherRows(dst, src, index backend.Tensor) error {
	size := src.DType.Size()
	a := C.struct_op_index{
		dst: (*C.char)(at(dst)), src: (*C.char)(at(src)), index: ints(index),
		n: C.long(dst.Rows), cols: C.long(src.Cols * size), dst_rows: C.long(dst.Rows), src_rows: C.long(src.Rows),
		dst_stride: C.long(dst.Stride * size), src_stride: C.long(src.Stride * size),
	}
	return d.run(C.OP_GATHER, unsafe.Pointer(&a))
}

func (d *device) ScatterAddRows(dst, src, index backend.Tensor) error {
	size := src.DType.Size()
	a := C.struct_op_index{
		dst: (*C.char)(at(dst)), src: (*C.char)(at(src)), index: ints(index),
		n: C.long(src.Rows), cols: C.long(src.Cols), dst_rows: C.long(dst.Rows), src_rows: C.long(src.Rows),
		dst_stride: C.long(dst.Stride * size), src_stride: C.long(src.Stride * size),
	}
	return d.run(C.OP_SCATTER_ADD, unsafe.Pointer(&a))
}
