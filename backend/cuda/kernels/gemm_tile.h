// What all matrix products share: which tile a block makes, and what is done with a sum.
#ifndef SIFT_CUDA_GEMM_TILE_H
#define SIFT_CUDA_GEMM_TILE_H
#include "gemm.h"
#include "math.h"
#include "quad.h"

struct Tile {
	i32 row, col;     // of C, the first
	i32 first, terms; // of k
};

// tile_of takes the columns of GEMM_GROUP rows of tiles before the next rows, so that a tile of B
// serves several blocks while it is in the cache.
template <int ROWS, int COLS> DEVICE Tile tile_of(const GemmParams &p) {
	i32 down = (p.m + ROWS - 1) / ROWS, along = (p.n + COLS - 1) / COLS;
	i32 id = (i32)block_x(), group = id / (GEMM_GROUP * along), rest = id % (GEMM_GROUP * along);
	i32 first = group * GEMM_GROUP, size = least(down - first, (i32)GEMM_GROUP);
	i32 k = (i32)block_z() * p.chunk;
	return Tile{(first + rest % size) * ROWS, rest / size * COLS, k, least(p.k - k, p.chunk)};
}

// Sums of 64 columns of a tile on their way from the registers, where each kernel has them in an
// order of its own, to memory. The rows are padded so that neighbours lie in different banks.
template <int ROWS> struct Strip {
	f32 v[ROWS][68];
};

// finish puts four neighbouring sums where they belong, of which the first n exist. It is the same for
// all kernels, so that their bits agree.
template <class C> DEVICE void finish(const GemmParams &p, i32 i, i32 j, i64 n, Four v) {
	if (p.part) {
		f32 *part = in_global<f32>(p.part) + ((i64)block_z() * p.m + i) * p.n + j;
		UNROLL for (int e = 0; e < 4; e++)
			if (e < n) part[e] = v.v[e];
		return;
	}
	C *c = row_of<C>(p.c, i) + j;
	UNROLL for (int e = 0; e < 4; e++) v.v[e] *= p.alpha;
	if (p.beta != 0.0f) {
		Four old = load_floats<C>(c, n, p.wideC);
		UNROLL for (int e = 0; e < 4; e++) v.v[e] = fmaf(p.beta, old.v[e], v.v[e]);
	}
	if (p.bias) {
		Four bias = load_floats(in_global<const f32>(p.bias) + j, n, p.wideC);
		UNROLL for (int e = 0; e < 4; e++) v.v[e] += bias.v[e];
	}
	if (p.pre.at) store_floats(row_of<C>(p.pre, i) + j, v, n, p.wideC);
	if (p.act != LINEAR)
		UNROLL for (int e = 0; e < 4; e++) v.v[e] = activate(p.act, v.v[e]);
	store_floats(c, v, n, p.wideC);
}

// finish_strip is finish for a strip whose first element is at (row, col) of C.
template <class C, int ROWS, int THREADS> DEVICE void finish_strip(const GemmParams &p, const Strip<ROWS> &s, i32 row, i32 col) {
	for (u32 u = thread(); u < ROWS * 16; u += THREADS) {
		i32 i = row + (i32)(u / 16), j = col + (i32)(u % 16 * 4);
		const f32 *v = &s.v[u / 16][u % 16 * 4];
		if (i < p.m && j < p.n) finish<C>(p, i, j, p.n - j, Four{{v[0], v[1], v[2], v[3]}});
	}
}

// finish_pieces is finish for quad `u` of a row of C whose pieces of k have been summed up apart.
template <class C> DEVICE void finish_pieces(GemmParams p) {
	i32 i = (i32)block_x(), j = (i32)(block_y() * 256 + thread()) * 4;
	if (j >= p.n) return;
	i64 n = p.n - j;
	Four sum = {};
	for (u32 z = 0; z < p.pieces; z++) {
		Four v = load_floats(in_global<const f32>(p.part) + ((i64)z * p.m + i) * p.n + j, n, false);
		UNROLL for (int e = 0; e < 4; e++) sum.v[e] += v.v[e];
	}
	p.part = 0;
	finish<C>(p, i, j, n, sum);
}

#endif
