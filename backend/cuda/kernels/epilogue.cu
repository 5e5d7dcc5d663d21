// What cuBLAS leaves to do after a product in float32: bias and activation.
#include "epilogue.h"
#include "math.h"

KERNEL(256, 4) epilogue(EpilogueParams p) {
	i32 i = (i32)block_x(), j = (i32)(block_y() * 256 + thread());
	if (j >= p.cols) return;
	f32 *to = row_of<f32>(p.to, i) + j, v = *to;
	if (p.bias) v += in_global<const f32>(p.bias)[j];
	if (p.pre.at) row_of<f32>(p.pre, i)[j] = v;
	*to = activate(p.act, v);
}
