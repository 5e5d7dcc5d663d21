#ifndef SIFT_CUDA_GEMM_H
#define SIFT_CUDA_GEMM_H
#include "types.h"

// C = act(alpha op(A) op(B) + beta C + bias), with pre the value before act; bias and pre may be
// absent. A block makes a tile of C; block_x numbers tiles, block_z pieces of k.
//
// With part, the sums of a piece of `chunk` terms go to part + z * m * n floats instead, row by row,
// and gemm_sum adds up the `pieces` of them.
typedef struct GemmParams {
	Matrix a, b, c, pre;
	u64 bias, part; // f32 [n]
	i32 m, n, k, chunk;
	f32 alpha, beta;
	u32 act, pieces;
	u32 wideA, wideB; // rows begin at multiples of 16 bytes
	u32 wideC, unused; // rows of C and pre, and bias, begin at multiples of four elements
} GemmParams;

// Rows of tiles that are worked on at the same time, for the sake of the cache: a group of them goes
// over the columns together.
enum { GEMM_GROUP = 8 };

// Shared memory of the bf16 kernels: GEMM_STAGES slices of A and of B, GEMM_DEPTH deep; then strips of C.
enum { GEMM_DEPTH = 32, GEMM_STAGES = 3 };
#define GEMM_SHARED(rows, cols) (GEMM_STAGES * GEMM_DEPTH * ((rows) + (cols)) * 2)

#endif
