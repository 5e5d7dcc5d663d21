//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/rows.h"
*/
import "C"

import "sift/backend"

// Embed sets Out_t to the sum of the word, position and type vectors of row t.
func (d *device) Embed(a backend.EmbedArgs) error {
	if a.Out.Len() == 0 {
		return nil
	}
	if err := d.own("embed", a.Out, a.IDs, a.Positions, a.Types, a.Word, a.Position, a.Type); err != nil {
		return err
	}
	p := (*C.EmbedParams)(d.params())
	p.out, p.word, p.position, p._type = matrix(a.Out), matrix(a.Word), matrix(a.Position), matrix(a.Type)
	p.ids, p.positions, p.types = matrix(a.IDs).at, matrix(a.Positions).at, matrix(a.Types).at
	p.status = d.status
	p.words, p.places, p.kinds = C.i32(a.Word.Rows), C.i32(a.Position.Rows), C.i32(a.Type.Rows)
	p.rows, p.cols, p.quads = C.u32(a.Out.Rows), C.u32(a.Out.Cols), C.u32(quads(a.Out.Cols))
	p.wide = wide(a.Out, a.Word, a.Position, a.Type)
	return d.launch(typed(a.Out.DType, "embed_f32", "embed_bf16"), blocks256(a.Out.Rows*quads(a.Out.Cols)), 1, 1, 256, 0)
}

// GatherRows sets dst_i to src[index_i].
func (d *device) GatherRows(dst, src, index backend.Tensor) error {
	if dst.Len() == 0 {
		return nil
	}
	if err := d.own("gather rows", dst, src, index); err != nil {
		return err
	}
	p := (*C.GatherParams)(d.params())
	p.dst, p.src = matrix(dst), matrix(src)
	p.index, p.status = matrix(index).at, d.status
	p.rows, p.cols, p.quads = C.u32(dst.Rows), C.u32(dst.Cols), C.u32(quads(dst.Cols))
	p.wide, p.size = wide(dst, src), C.i32(src.Rows)
	return d.launch(typed(dst.DType, "gather4", "gather2"), blocks256(dst.Rows*quads(dst.Cols)), 1, 1, 256, 0)
}

// ScatterAddRows adds src_i to dst[index_i]: chunks of rows first, then the chunks' sums, both
// ascending.
func (d *device) ScatterAddRows(dst, src, index backend.Tensor) error {
	if src.Len() == 0 {
		return nil
	}
	if err := d.own("scatter-add rows", dst, src, index); err != nil {
		return err
	}
	n, h := src.Rows, src.Cols
	links := (int64(n)*4 + 255) &^ 255
	stride := (h + 3) &^ 3
	at, err := d.scratch(2*links + int64(n)*int64(stride)*4)
	if err != nil {
		return err
	}
	next, nextHead := at, at+C.u64(links)
	sum := C.Matrix{at: at + 2*C.u64(links), stride: C.i64(stride)}

	l := (*C.LinkParams)(d.params())
	l.next, l.nextHead, l.index, l.status = next, nextHead, matrix(index).at, d.status
	l.rows, l.size = C.u32(n), C.i32(dst.Rows)
	if err := d.launch("scatter_links", (n+C.LINK_THREADS-1)/C.LINK_THREADS, 1, 1, C.LINK_THREADS, 0); err != nil {
		return err
	}
	fill := func() {
		p := (*C.ScatterParams)(d.params())
		p.dst, p.src, p.sum = matrix(dst), matrix(src), sum
		p.next, p.nextHead, p.index = next, nextHead, matrix(index).at
		p.rows, p.cols, p.quads = C.u32(n), C.u32(h), C.u32(quads(h))
		p.wide = wide(dst, src)
	}
	fill()
	if err := d.launch(typed(src.DType, "scatter_chunks_f32", "scatter_chunks_bf16"), blocks256(n*quads(h)), 1, 1, 256, 0); err != nil {
		return err
	}
	fill()
	return d.launch(typed(dst.DType, "scatter_heads_f32", "scatter_heads_bf16"), blocks256(n*quads(h)), 1, 1, 256, 0)
}
