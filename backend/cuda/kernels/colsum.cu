// Sums over rows, in fixed chunks: the gradients of biases.
#include "colsum.h"
#include "device.h"

template <class T> DEVICE void colsum(const ColSumParams &p) {
	u32 j = block_x() * 128 + thread();
	if (j >= p.cols) return;
	i64 i = (i64)block_y() * COLSUM_CHUNK, end = least<i64>(i + COLSUM_CHUNK, p.rows);
	f32 sum = 0;
	UNROLL_BY_8 for (; i < end; i++) sum += to_float(row_of<const T>(p.src, i)[j]);
	row_of<f32>(p.part, block_y())[j] = sum;
}
KERNEL(128, 8) colsum_f32(ColSumParams p) { colsum<f32>(p); }
KERNEL(128, 8) colsum_bf16(ColSumParams p) { colsum<bf16>(p); }

KERNEL(128, 8) add_parts(AddPartsParams p) {
	u32 j = block_x() * 128 + thread();
	if (j >= p.cols) return;
	f32 *dst = in_global<f32>(p.dst) + j;
	f32 sum = *dst;
	UNROLL_BY_8 for (u32 i = 0; i < p.parts; i++) sum += row_of<const f32>(p.part, i)[j];
	*dst = sum;
}
