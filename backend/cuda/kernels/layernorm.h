#ifndef SIFT_CUDA_LAYERNORM_H
#define SIFT_CUDA_LAYERNORM_H
#include "types.h"

// A warp takes a row; lane l the quads l, l + 32, ...
enum { NORM_WARPS = 8 };

// z is absent where it is x. mean and rstd are f32 [rows, 1].
typedef struct LayerNormParams {
	Matrix y, z, mean, rstd, x, residual;
	u64 gamma, beta; // f32 [cols]
	Drop drop;
	u32 rows, cols, wide, unused;
	f32 share, eps; // 1 / cols
} LayerNormParams;

// dx may be absent.
typedef struct LayerNormBackwardParams {
	Matrix dz, dx, dy, z, mean, rstd;
	u64 gamma;
	Drop drop;
	u32 rows, cols, wide, unused;
	f32 share, unused2;
} LayerNormBackwardParams;

// NORM_CHUNK rows are summed upwards into a row of part, f32 [chunks, 2 cols]: gradients of gamma, then
// of beta. Threads take a column each.
enum { NORM_CHUNK = 64 };

typedef struct LayerNormGradientParams {
	Matrix part, dy, z, mean, rstd;
	u32 rows, cols;
} LayerNormGradientParams;

#endif
