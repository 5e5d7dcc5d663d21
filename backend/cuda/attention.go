//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/attention.h"

static int attention_rows(int d) { return ATTENTION_ROWS(d); }
static int attention_shared(int d) { return ATTENTION_SHARED(d); }
static int attention_dq_shared(int d) { return ATTENTION_DQ_SHARED(d); }
static int attention_dkv_shared(int d) { return ATTENTION_DKV_SHARED(d); }
static int attention_bf16_shared(int d) { return ATTENTION_BF16_SHARED(d); }
static int attention_bf16_dkv_shared(int d) { return ATTENTION_BF16_DKV_SHARED(d); }
*/
import "C"

import (
	"math"

	"sift/backend"
	"sift/fault"
)

// attentionThreads is the size of a block of every attention kernel.
const attentionThreads = C.ATTENTION_THREADS

// attentionKernel is a kernel with the rows that a block of it owns and the bytes of shared
// memory it takes, before those for which keys are valid.
type attentionKernel struct {
	name         string
	rows, shared int
}

// attentionKernels are the three kernels for one size of head and type.
type attentionKernels struct{ forward, dq, dkv attentionKernel }

// simt returns the kernels of attention_simt.h for heads of up to d columns.
func simt(d C.int, forward, dq, dkv string) attentionKernels {
	rows := int(C.attention_rows(d))
	return attentionKernels{
		attentionKernel{forward, rows, int(C.attention_shared(d))},
		attentionKernel{dq, rows, int(C.attention_dq_shared(d))},
		attentionKernel{dkv, rows, int(C.attention_dkv_shared(d))},
	}
}

// tensor returns the kernels of attention_bf16.cu for heads of d columns, whose forward pass takes
// runs of `rows` queries.
func tensor(d C.int, rows int, forward, dq, dkv string) attentionKernels {
	shared := int(C.attention_bf16_shared(d))
	return attentionKernels{
		attentionKernel{forward, rows, shared},
		attentionKernel{dq, C.ATTENTION_TILE, shared},
		attentionKernel{dkv, C.ATTENTION_TILE, int(C.attention_bf16_dkv_shared(d))},
	}
}

// attentionUse is what tensor cores' kernels are chosen by.
type attentionUse struct {
	cols          int
	dropout, many bool
}

// attentionTensor are the kernels on tensor cores. Where there are blocks enough, each takes 128 queries, and
// keys come half as often; a query's bits are the same.
var attentionTensor = map[attentionUse]attentionKernels{
	{32, false, false}: tensor(32, 64, "attention32_64_bf16", "attention_dq32_bf16", "attention_dkv32_bf16"),
	{32, false, true}:  tensor(32, 128, "attention32_128_bf16", "attention_dq32_bf16", "attention_dkv32_bf16"),
	{32, true, false}:  tensor(32, 64, "attention_dropout32_64_bf16", "attention_dq_dropout32_bf16", "attention_dkv_dropout32_bf16"),
	{32, true, true}:   tensor(32, 128, "attention_dropout32_128_bf16", "attention_dq_dropout32_bf16", "attention_dkv_dropout32_bf16"),
	{64, false, false}: tensor(64, 64, "attention64_64_bf16", "attention_dq64_bf16", "attention_dkv64_bf16"),
	{64, false, true}:  tensor(64, 128, "attention64_128_bf16", "attention_dq64_bf16", "attention_dkv64_bf16"),
	{64, true, false}:  tensor(64, 64, "attention_dropout64_64_bf16", "attention_dq_dropout64_bf16", "attention_dkv_dropout64_bf16"),
	{64, true, true}:   tensor(64, 128, "attention_dropout64_128_bf16", "attention_dq_dropout64_bf16", "attention_dkv_dropout64_bf16"),
}

var (
	attentionF32 = map[int]attentionKernels{
		32:  simt(32, "attention32_f32", "attention_dq32_f32", "attention_dkv32_f32"),
		64:  simt(64, "attention64_f32", "attention_dq64_f32", "attention_dkv64_f32"),
		128: simt(128, "attention128_f32", "attention_dq128_f32", "attention_dkv128_f32"),
		256: simt(256, "attention256_f32", "attention_dq256_f32", "attention_dkv256_f32"),
	}
	attentionAnyBF16 = map[int]attentionKernels{
		32:  simt(32, "attention32_any_bf16", "attention_dq32_any_bf16", "attention_dkv32_any_bf16"),
		64:  simt(64, "attention64_any_bf16", "attention_dq64_any_bf16", "attention_dkv64_any_bf16"),
		128: simt(128, "attention128_any_bf16", "attention_dq128_any_bf16", "attention_dkv128_any_bf16"),
		256: simt(256, "attention256_any_bf16", "attention_dq256_any_bf16", "attention_dkv256_any_bf16"),
	}
)

// mostShared is the dynamic shared memory a block may have on every GPU that is supported
// (compute capability 8.6 has the least).
const mostShared = 99 << 10

// attentionFor chooses the kernels for heads of cols columns. Where tensors lie must not
// show in the bits, so alignment plays no part.
func (d *device) attentionFor(t backend.DType, heads, cols int, scale float64, dropout bool, l backend.Layout) (attentionKernels, error) {
	if cols > 256 {
		return attentionKernels{}, fault.New(fault.Device, "cuda: attention heads of %d columns; at most 256", cols)
	}
	size := 32
	for size < cols {
		size *= 2
	}
	switch {
	case t == backend.F32:
		return attentionF32[size], nil
	case t == backend.BF16:
		// Tensor cores' kernels take the largest score before it is scaled, which a negative scale turns round.
		// Half a block of 128 queries would have nothing to do where no sequence has more than 64 rows.
		many := l.MaxLen > 64 && heads*(l.Rows/128+l.Seqs) >= 2*d.multiprocessors
		if k, ok := attentionTensor[attentionUse{cols, dropout, many}]; ok && scale > 0 {
			return k, nil
		}
		return attentionAnyBF16[size], nil
	}
	return attentionKernels{}, fault.New(fault.Internal, "cuda: attention between %s tensors", t)
}

// alignedHeads reports whether all heads of cols columns begin at multiples of 16 bytes.
func alignedHeads(cols int, tensors ...backend.Tensor) bool {
	for _, t := range tensors {
		size := t.DType.Size()
		if cols*size%16 != 0 || t.Off*size%16 != 0 || t.Rows > 1 && t.Stride*size%16 != 0 {
			return false
		}
	}
	return true
}

// launchAttention enqueues a kernel over runs of rows and heads (block_of in attention_rows.h).
func (d *device) launchAttention(k attentionKernel, l backend.Layout, heads int) error {
	shared := k.shared + 4*attentionWords(l) + 8
	if shared > mostShared {
		return fault.New(fault.Device, "cuda: attention over %d rows takes %d bytes of shared memory, more than %d", l.MaxLen, shared, mostShared)
	}
	return d.launch(k.name, l.Rows/k.rows+l.Seqs, heads, 1, attentionThreads, shared)
}

// attentionWords is how many words have one bit for each row of the longest sequence, in
// pairs: one for each tile of keys.
func attentionWords(l backend.Layout) int { return (l.MaxLen + 63) / 64 * 2 }

func attentionFits(l backend.Layout) error {
	if l.Rows > math.MaxInt32 {
		return fault.New(fault.Device, "cuda: attention over %d rows", l.Rows)
	}
	return nil
}

// Attention, for each sequence, head and row i, with j over the valid rows:
//
//	s_j = Scale q_i . k_j,  LSE_i = log sum_j exp s_j,  Out_i = sum_j dropout(exp(s_j - LSE_i)) v_j
//
// No valid row: Out_i = 0 and LSE_i = 0 (Vaswani et al. 2017, equation 1, in tiles of keys as
// by Dao et al. 2022).
func (d *device) Attention(a backend.AttentionArgs) error {
	if a.Out.Len() == 0 || a.Layout.Seqs == 0 || a.Layout.MaxLen == 0 {
		return nil
	}
	if err := d.own("attention", a.Out, a.LSE, a.QKV, a.Layout.Offsets, a.Layout.KeyValid, a.Drop.RowKey); err != nil {
		return err
	}
	cols := a.Out.Cols / a.Heads
	k, err := d.attentionFor(a.QKV.DType, a.Heads, cols, a.Scale, a.Drop.P != 0, a.Layout)
	if err != nil {
		return err
	}
	if err := attentionFits(a.Layout); err != nil {
		return err
	}
	mask, err := d.drop(a.Drop)
	if err != nil {
		return err
	}
	p := (*C.AttentionParams)(d.params())
	p.qkv, p.out, p.lse = matrix(a.QKV), matrix(a.Out), matrix(a.LSE)
	d.attentionParams(p, a.Layout, mask, a.Heads, cols, a.Scale, alignedHeads(cols, a.QKV, a.Out))
	return d.launchAttention(k.forward, a.Layout, a.Heads)
}

// AttentionBackward, with P_ij = exp(s_j - LSE_i) and m_ij = 0 or 1/(1-P) from dropout:
//
//	Delta_i = DOut_i . Out_i
//	dS_ij = P_ij (m_ij DOut_i . v_j - Delta_i)
//	dq_i = Scale sum_j dS_ij k_j,  dk_j = Scale sum_i dS_ij q_i,  dv_j = sum_i m_ij P_ij DOut_i
//
// The first kernel has the queries' gradient, Delta and dropout's bits, which go to scratch;
// the second the keys' and values' gradients. Each sum lies within one block, in a fixed
// order, at the price of computing P twice.
func (d *device) AttentionBackward(a backend.AttentionBackwardArgs) error {
	if a.DOut.Len() == 0 || a.Layout.Seqs == 0 || a.Layout.MaxLen == 0 {
		return nil
	}
	if err := d.own("attention backward", a.DQKV, a.Delta, a.DOut, a.Out, a.LSE, a.QKV, a.Layout.Offsets, a.Layout.KeyValid, a.Drop.RowKey); err != nil {
		return err
	}
	cols := a.DOut.Cols / a.Heads
	k, err := d.attentionFor(a.QKV.DType, a.Heads, cols, a.Scale, a.Drop.P != 0, a.Layout)
	if err != nil {
		return err
	}
	if err := attentionFits(a.Layout); err != nil {
		return err
	}
	var kept C.u64
	if a.Drop.P != 0 {
		if kept, err = d.scratch(int64(a.Layout.Rows) * int64(a.Heads) * int64(attentionWords(a.Layout)) * 4); err != nil {
			return err
		}
	}
	mask, err := d.drop(a.Drop)
	if err != nil {
		return err
	}
	vector := alignedHeads(cols, a.QKV, a.Out, a.DQKV, a.DOut)
	fill := func() {
		p := (*C.AttentionParams)(d.params())
		p.qkv, p.out, p.lse = matrix(a.QKV), matrix(a.Out), matrix(a.LSE)
		p.dqkv, p.dout, p.delta, p.kept = matrix(a.DQKV), matrix(a.DOut), matrix(a.Delta), kept
		d.attentionParams(p, a.Layout, mask, a.Heads, cols, a.Scale, vector)
	}
	fill()
	if err := d.launchAttention(k.dq, a.Layout, a.Heads); err != nil {
		return err
	}
	fill()
	return d.launchAttention(k.dkv, a.Layout, a.Heads)
}

// attentionParams sets what both passes have in common.
func (d *device) attentionParams(p *C.AttentionParams, l backend.Layout, mask C.Drop, heads, cols int, scale float64, vector bool) {
	p.layout, p.drop, p.status = layout(l), mask, d.status
	p.heads, p.cols, p.maxLen, p.words = C.i32(heads), C.i32(cols), C.i32(l.MaxLen), C.i32(attentionWords(l))
	p.scale = C.f32(scale)
	if vector {
		p.vector = 1
	}
}
