//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/crossentropy.h"
*/
import "C"

import "sift/backend"

// CrossEntropy, per row of logits x with m = max x and w_j = exp(x_j - m), in one pass:
//
//	LSE = m + log sum w,  Loss = LSE - x[label],  Entropy = log sum w - sum w (x - m) / sum w
func (d *device) CrossEntropy(a backend.CrossEntropyArgs) error {
	if a.Logits.Len() == 0 {
		return nil
	}
	if err := d.own("cross-entropy", a.Loss, a.Entropy, a.LSE, a.Correct, a.Logits, a.Labels); err != nil {
		return err
	}
	p := (*C.CrossEntropyParams)(d.params())
	p.loss, p.entropy, p.lse, p.correct, p.x = matrix(a.Loss), matrix(a.Entropy), matrix(a.LSE), matrix(a.Correct), matrix(a.Logits)
	p.labels, p.status = matrix(a.Labels).at, d.status
	p.rows, p.cols, p.wide = C.u32(a.Logits.Rows), C.u32(a.Logits.Cols), wide(a.Logits)
	return d.launch("crossentropy", a.Logits.Rows, 1, 1, C.CROSS_THREADS, 0)
}

// CrossEntropyBackward sets DLogits = Scale * (exp(Logits - LSE) - onehot(label)), and rows
// without a label to 0.
func (d *device) CrossEntropyBackward(a backend.CrossEntropyBackwardArgs) error {
	if a.Logits.Len() == 0 {
		return nil
	}
	if err := d.own("cross-entropy backward", a.DLogits, a.Logits, a.LSE, a.Labels); err != nil {
		return err
	}
	rows, cols := a.Logits.Rows, a.Logits.Cols
	p := (*C.CrossEntropyBackwardParams)(d.params())
	p.dx, p.x, p.lse = matrix(a.DLogits), matrix(a.Logits), matrix(a.LSE)
	p.labels, p.status = matrix(a.Labels).at, d.status
	p.rows, p.cols, p.quads, p.wide = C.u32(rows), C.u32(cols), C.u32(quads(cols)), wide(a.DLogits, a.Logits)
	p.scale = C.f32(a.Scale)
	return d.launch(typed(a.DLogits.DType, "crossentropy_backward_f32", "crossentropy_backward_bf16"), blocks256(rows*quads(cols)), 1, 1, 256, 0)
}
