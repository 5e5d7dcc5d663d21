// What cuBLAS leaves to do after a product: bias, activation, rounding.
#include "epilogue.h"
#include "math.h"

template <class T> DEVICE void epilogue(const EpilogueParams &p) {
	i32 i = (i32)block_x(), j = (i32)(block_y() * 256 + thread());
	if (j >= p.cols) return;
	f32 v = row_of<const f32>(p.from, i)[j];
	if (p.bias) v += in_global<const f32>(p.bias)[j];
	if (p.pre.at) row_of<T>(p.pre, i)[j] = round_to<T>(v);
	row_of<T>(p.to, i)[j] = round_to<T>(activate(p.act, v));
}

KERNEL(256, 4) epilogue_f32(EpilogueParams p) { epilogue<f32>(p); }
KERNEL(256, 4) epilogue_bf16(EpilogueParams p) { epilogue<bf16>(p); }
