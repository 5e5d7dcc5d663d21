//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/colsum.h"
*/
import "C"

import (
	"sift/backend"
	"sift/fault"
)

// ColSum adds the sum over the rows of src to dst: chunks of rows first, each upwards, then the
// chunks' sums, upwards.
func (d *device) ColSum(dst, src backend.Tensor) error {
	if src.Len() == 0 {
		return nil
	}
	if err := d.own("column sum", dst, src); err != nil {
		return err
	}
	chunks := (src.Rows + C.COLSUM_CHUNK - 1) / C.COLSUM_CHUNK
	at, err := d.scratch(int64(chunks) * int64(src.Cols) * 4)
	if err != nil {
		return err
	}
	part := C.Matrix{at: at, stride: C.i64(src.Cols)}
	p := (*C.ColSumParams)(d.params())
	p.part, p.src, p.rows, p.cols = part, matrix(src), C.u32(src.Rows), C.u32(src.Cols)
	if err := d.launchChunks(typed(src.DType, "colsum_f32", "colsum_bf16"), src.Cols, chunks); err != nil {
		return err
	}
	return d.addParts(dst, part, chunks)
}

// launchChunks launches a kernel with a thread for each column and a row of blocks for each
// chunk.
func (d *device) launchChunks(name string, cols, chunks int) error {
	if chunks > 65535 {
		return fault.New(fault.Internal, "cuda: %s over %d chunks of rows", name, chunks)
	}
	return d.launch(name, (cols+127)/128, chunks, 1, 128, 0)
}

// addParts adds the sum over the rows of part, upwards, to the row vector dst.
func (d *device) addParts(dst backend.Tensor, part C.Matrix, parts int) error {
	p := (*C.AddPartsParams)(d.params())
	p.dst, p.part, p.parts, p.cols = matrix(dst).at, part, C.u32(parts), C.u32(dst.Cols)
	return d.launch("add_parts", (dst.Cols+127)/128, 1, 1, 128, 0)
}
