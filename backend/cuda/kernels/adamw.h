#ifndef SIFT_CUDA_ADAMW_H
#define SIFT_CUDA_ADAMW_H
#include "types.h"

// SQUARE_CHUNK elements are summed by a block, in float64; then a block adds up the chunks.
enum { SQUARE_CHUNK = 16384 };

typedef struct SquaresParams {
	u64 part, x; // f64 [chunks], f32 [n]
	i64 n;
} SquaresParams;

typedef struct SquaresSumParams {
	u64 dst, part; // f32, f64 [parts]
	u32 parts, unused;
} SquaresSumParams;

// All vectors are f32 [n] but half, which is bf16 and may be absent. norm: 0 sumSq is absent, 1 it is
// f32, 2 it is f64. clip 0: no clipping. guard: where sumSq is not finite only grad changes.
typedef struct AdamWParams {
	u64 param, grad, m, v, half, sumSq;
	i64 n;
	f32 gradScale, clip, beta1, rest1, beta2, rest2, decay, rate, correct, eps;
	u32 norm, guard, wide, unused;
} AdamWParams;

#endif
