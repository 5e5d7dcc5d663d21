//go:build cgo && unix

package cpu

// #include "sift.h"
import "C"

import (
	"unsafe"

	"sift/backend"
)

func (d *device) Gemm(g backend.GemmArgs) error {
	k := g.A.Cols
	if g.TransA {
		k = g.A.Rows
	}
	a := C.struct_op_gemm{
		c: floats(g.C), pre: floats(g.Pre), a: floats(g.A), b: floats(g.B), bias: floats(g.Bias),
		m: C.long(g.C.Rows), n: C.long(g.C.Cols), k: C.long(k),
		lda: C.long(g.A.Stride), ldb: C.long(g.B.Stride), ldc: C.long(g.C.Stride), ldpre: C.long(g.Pre.Stride),
		transa: flag(g.TransA), transb: flag(g.TransB), act: C.int(g.Act),
		alpha: C.float(g.Alpha), beta: C.float(g.Beta),
	}
	return d.run(C.OP_GEMM, unsafe.Pointer(&a))
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

func (d *device) LayerNorm(n backend.LayerNormArgs) error {
	a := C.struct_op_layernorm{
		y: mat(n.Y), z: mat(n.Z), mean: mat(n.Mean), rstd: mat(n.Rstd), x: mat(n.X), residual: mat(n.Residual),
		gamma: floats(n.Gamma), beta: floats(n.Beta), eps: C.float(n.Eps), drop: drop(n.Drop),
	}
	return d.run(C.OP_LAYERNORM, unsafe.Pointer(&a))
}

func (d *device) LayerNormBackward(n backend.LayerNormBackwardArgs) error {
	a := C.struct_op_layernorm_backward{
		dz: mat(n.DZ), dx: mat(n.DX), dy: mat(n.DY), z: mat(n.Z), mean: mat(n.Mean), rstd: mat(n.Rstd),
		dgamma: floats(n.DGamma), dbeta: floats(n.DBeta), gamma: floats(n.Gamma), drop: drop(n.Drop),
	}
	return d.run(C.OP_LAYERNORM_BACKWARD, unsafe.Pointer(&a))
}

func (d *device) Attention(n backend.AttentionArgs) error {
	a := C.struct_op_attention{
		out: mat(n.Out), lse: mat(n.LSE), qkv: mat(n.QKV),
		offsets: ints(n.Layout.Offsets), valid: ints(n.Layout.KeyValid),
		seqs: C.long(n.Layout.Seqs), maxlen: C.long(n.Layout.MaxLen), heads: C.long(n.Heads),
		scale: C.float(n.Scale), drop: drop(n.Drop),
	}
	return d.run(C.OP_ATTENTION, unsafe.Pointer(&a))
}

func (d *device) AttentionBackward(n backend.AttentionBackwardArgs) error {
	a := C.struct_op_attention{
		out: mat(n.Out), lse: mat(n.LSE), qkv: mat(n.QKV), dqkv: mat(n.DQKV), delta: mat(n.Delta), dout: mat(n.DOut),
		offsets: ints(n.Layout.Offsets), valid: ints(n.Layout.KeyValid),
		seqs: C.long(n.Layout.Seqs), maxlen: C.long(n.Layout.MaxLen), heads: C.long(n.Heads),
		scale: C.float(n.Scale), drop: drop(n.Drop),
	}
	return d.run(C.OP_ATTENTION_BACKWARD, unsafe.Pointer(&a))
}
