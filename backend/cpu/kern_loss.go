//go:build cgo && unix

package cpu

// #include "sift.h"
import "C"

import (
	"math"
	"unsafe"

	"sift/backend"
)

func (d *device) CrossEntropy(c backend.CrossEntropyArgs) error {
	a := C.struct_op_crossentropy{
		loss: mat(c.Loss), entropy: mat(c.Entropy), lse: mat(c.LSE), correct: mat(c.Correct),
		logits: mat(c.Logits), labels: ints(c.Labels),
	}
	return d.run(C.OP_CROSSENTROPY, unsafe.Pointer(&a))
}

func (d *device) CrossEntropyBackward(c backend.CrossEntropyBackwardArgs) error {
	a := C.struct_op_crossentropy{
		lse: mat(c.LSE), logits: mat(c.Logits), dlogits: mat(c.DLogits), labels: ints(c.Labels), scale: C.float(c.Scale),
	}
	return d.run(C.OP_CROSSENTROPY_BACKWARD, unsafe.Pointer(&a))
}

func (d *device) SumSquares(dst, x backend.Tensor) error {
	a := C.struct_op_sumsq{x: floats(x), n: C.long(x.Len()), dst: floats(dst)}
	return d.run(C.OP_SUMSQ, unsafe.Pointer(&a))
}

func (d *device) AdamW(w backend.AdamWArgs) error {
	scale := w.GradScale
	if w.ClipNorm > 0 {
		var sum float64
		if w.SumSq.DType == backend.F64 {
			sum = host[float64](w.SumSq)[0]
		} else {
			sum = float64(host[float32](w.SumSq)[0])
		}
		scale *= math.Min(1, w.ClipNorm/(w.GradScale*math.Sqrt(sum)+1e-6))
	}
	a := C.struct_op_adamw{
		param: floats(w.Param), grad: floats(w.Grad), m: floats(w.M), v: floats(w.V), n: C.long(w.Param.Len()),
		grad_scale: C.double(scale), lr: C.double(w.LR), beta1: C.double(w.Beta1), beta2: C.double(w.Beta2),
		eps: C.double(w.Eps), decay: C.double(w.Decay),
		correct1: C.double(1 - math.Pow(w.Beta1, float64(w.Step))),
		correct2: C.double(1 - math.Pow(w.Beta2, float64(w.Step))),
	}
	return d.run(C.OP_ADAMW, unsafe.Pointer(&a))
}
