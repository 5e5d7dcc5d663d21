// Matrix products of bfloat16 on tensor cores, with float32 sums.
//
// A block makes a tile of C, its warps a part of it each. Slices of 32 terms of A and B come by
// asynchronous copies into three buffers of shared memory: while one is multiplied, two are on
// their way. A slice lies as its operand does in memory, k along the rows or down the columns, in
// pieces of 16 bytes whose places are permuted such that the eight rows of a load_matrices meet all
// banks; where k runs down, the matrices are transposed as they are loaded.
//
// What limits it is shared memory, which gives 128 bytes a clock to tensor cores that do 1,024 multiply-adds
// in that time (A100). A warp with 64 x 64 elements of C reads 4 KiB of operands for 65,536 multiply-adds, 32 of 64 clocks,
// and the copies write for another 16; with 64 x 32 it would be 48 + 16.
//
// Each element is one chain of products of 16 terms in ascending k, so that its bits depend neither
// on the tile nor on m, n, strides or alignment.
#include "gemm_tile.h"

// Operand is a slice of one operand in shared memory: SIDE rows or columns, 32 deep.
template <int SIDE> struct Operand {
	bf16 v[SIDE * GEMM_DEPTH];
};
template <int ROWS, int COLS> struct Stages {
	Operand<ROWS> a[GEMM_STAGES];
	Operand<COLS> b[GEMM_STAGES];
};
template <int ROWS, int COLS> union Shared {
	Stages<ROWS, COLS> stages;
	Strip<ROWS> strip;
};

// piece is where eight elements lie: with ALONG those of row r, terms 8c to 8c+7; else those of term r,
// rows 8c to 8c+7.
template <int SIDE, bool ALONG> DEVICE bf16 *piece(Operand<SIDE> &s, u32 r, u32 c) {
	if (ALONG) return &s.v[r * GEMM_DEPTH + (c ^ (r >> 1 & 3)) * 8];
	return &s.v[r * SIDE + (c ^ (r & 7)) * 8];
}

// copy_slice begins to copy terms [first, first+32) of k, of which those up to last exist, and SIDE rows
// from `at` on. What lies outside is zero.
template <int SIDE, bool ALONG, int THREADS> DEVICE void copy_slice(Operand<SIDE> &to, Matrix x, i32 at, i32 end, i32 first, i32 last, bool wide) {
	const int ACROSS = ALONG ? GEMM_DEPTH / 8 : SIDE / 8;
	UNROLL for (int q = 0; q < SIDE * GEMM_DEPTH / 8 / THREADS; q++) {
		u32 u = thread() + THREADS * q, r = u / ACROSS, c = u % ACROSS;
		i32 row = ALONG ? at + (i32)r : first + (i32)r, col = ALONG ? first + 8 * (i32)c : at + 8 * (i32)c;
		i32 rows = ALONG ? end : last, n = (ALONG ? last : end) - col;
		n = row < rows ? most(0, least(n, 8)) : 0;
		bf16 *p = piece<SIDE, ALONG>(to, r, c);
		const bf16 *from = n > 0 ? row_of<const bf16>(x, row) + col : in_global<const bf16>(x.at);
		if (wide) {
			copy16(p, from, 2 * n);
		} else {
			ONE_BY_ONE for (int e = 0; e < 8; e++) p[e] = e < n ? from[e] : bf16{0};
		}
	}
}

// left loads rows r .. r+15 and terms k .. k+15 as the first operand of mma.
template <int SIDE, bool ALONG> DEVICE void left(u32 a[4], Operand<SIDE> &s, u32 r, u32 k) {
	u32 l = lane();
	if (ALONG) {
		load_matrices(a, piece<SIDE, ALONG>(s, r + l % 16, k / 8 + l / 16));
	} else {
		load_matrices_transposed(a, piece<SIDE, ALONG>(s, k + l % 8 + l / 16 * 8, r / 8 + (l / 8 & 1)));
	}
}

// right loads terms k .. k+15 and columns r .. r+15 as two second operands.
template <int SIDE, bool ALONG> DEVICE void right(u32 b[4], Operand<SIDE> &s, u32 r, u32 k) {
	u32 l = lane();
	if (ALONG) {
		load_matrices(b, piece<SIDE, ALONG>(s, r + l % 8 + l / 16 * 8, k / 8 + (l / 8 & 1)));
	} else {
		load_matrices_transposed(b, piece<SIDE, ALONG>(s, k + l % 16, r / 8 + l / 16));
	}
}

// A block of (ROWS / WARP_ROWS) x (COLS / WARP_COLS) warps.
template <class C, int ROWS, int COLS, int WARP_ROWS, int WARP_COLS, bool TA, bool TB> DEVICE void gemm(const GemmParams &p) {
	typedef Shared<ROWS, COLS> S;
	DYNAMIC(S, shared);
	static_assert(sizeof(S) == GEMM_SHARED(ROWS, COLS), "strips fit in the slices' place");
	Stages<ROWS, COLS> &s = shared.stages;
	const int ALONG = COLS / WARP_COLS, THREADS = 32 * (ROWS / WARP_ROWS) * ALONG;
	const int DOWN = WARP_ROWS / 16, ACROSS = WARP_COLS / 8;
	Tile t = tile_of<ROWS, COLS>(p);
	i32 last = t.first + t.terms, slices = (t.terms + GEMM_DEPTH - 1) / GEMM_DEPTH;
	u32 row = warp() / ALONG * WARP_ROWS, col = warp() % ALONG * WARP_COLS;

	auto begin = [&](i32 i) {
		if (i < slices) {
			i32 first = t.first + i * GEMM_DEPTH, stage = i % GEMM_STAGES;
			copy_slice<ROWS, !TA, THREADS>(s.a[stage], p.a, t.row, p.m, first, last, p.wideA);
			copy_slice<COLS, TB, THREADS>(s.b[stage], p.b, t.col, p.n, first, last, p.wideB);
		}
		copy_commit(); // also an empty group, so that groups and slices count alike
	};
	f32 sum[DOWN][ACROSS][4] = {};
	UNROLL for (i32 i = 0; i < GEMM_STAGES - 1; i++) begin(i);
	for (i32 i = 0; i < slices; i++) {
		copy_wait<GEMM_STAGES - 2>();
		barrier(); // slice i is there, and nobody reads slice i-1 any more
		begin(i + GEMM_STAGES - 1);
		i32 stage = i % GEMM_STAGES;
		UNROLL for (u32 k = 0; k < GEMM_DEPTH; k += 16) {
			u32 a[DOWN][4], b[ACROSS / 2][4];
			UNROLL for (int r = 0; r < DOWN; r++) left<ROWS, !TA>(a[r], s.a[stage], row + 16 * r, k);
			UNROLL for (int c = 0; c < ACROSS / 2; c++) right<COLS, TB>(b[c], s.b[stage], col + 16 * c, k);
			UNROLL for (int r = 0; r < DOWN; r++)
				UNROLL for (int c = 0; c < ACROSS; c++) mma(sum[r][c], a[r], &b[c / 2][c % 2 * 2]);
		}
	}
	copy_wait<0>();
	u32 g = lane() / 4, c0 = lane() % 4 * 2;
	for (u32 first = 0; first < COLS; first += 64) { // 64 columns of C
		barrier();
		if (col / 64 * 64 == first)
			UNROLL for (int r = 0; r < DOWN; r++)
				UNROLL for (int c = 0; c < ACROSS; c++)
					UNROLL for (int e = 0; e < 4; e++) shared.strip.v[row + 16 * r + g + e / 2 * 8][col % 64 + 8 * c + c0 + e % 2] = sum[r][c][e];
		barrier();
		finish_strip<C, ROWS, THREADS>(p, shared.strip, t.row, t.col + (i32)first);
	}
}

KERNEL(128, 2) gemm128_nn_bf16(GemmParams p) { gemm<bf16, 128, 128, 64, 64, false, false>(p); }
KERNEL(128, 2) gemm128_nt_bf16(GemmParams p) { gemm<bf16, 128, 128, 64, 64, false, true>(p); }
KERNEL(128, 2) gemm128_tn_bf16(GemmParams p) { gemm<bf16, 128, 128, 64, 64, true, false>(p); }
KERNEL(128, 2) gemm128_tt_bf16(GemmParams p) { gemm<bf16, 128, 128, 64, 64, true, true>(p); }
KERNEL(128, 4) gemm64_nn_bf16(GemmParams p) { gemm<bf16, 64, 64, 32, 32, false, false>(p); }
KERNEL(128, 4) gemm64_nt_bf16(GemmParams p) { gemm<bf16, 64, 64, 32, 32, false, true>(p); }
KERNEL(128, 4) gemm64_tn_bf16(GemmParams p) { gemm<bf16, 64, 64, 32, 32, true, false>(p); }
KERNEL(128, 4) gemm64_tt_bf16(GemmParams p) { gemm<bf16, 64, 64, 32, 32, true, true>(p); }

// The same with C in float32.
KERNEL(128, 2) gemm128_nn_mixed(GemmParams p) { gemm<f32, 128, 128, 64, 64, false, false>(p); }
KERNEL(128, 2) gemm128_nt_mixed(GemmParams p) { gemm<f32, 128, 128, 64, 64, false, true>(p); }
KERNEL(128, 2) gemm128_tn_mixed(GemmParams p) { gemm<f32, 128, 128, 64, 64, true, false>(p); }
KERNEL(128, 2) gemm128_tt_mixed(GemmParams p) { gemm<f32, 128, 128, 64, 64, true, true>(p); }
KERNEL(128, 4) gemm64_nn_mixed(GemmParams p) { gemm<f32, 64, 64, 32, 32, false, false>(p); }
KERNEL(128, 4) gemm64_nt_mixed(GemmParams p) { gemm<f32, 64, 64, 32, 32, false, true>(p); }
KERNEL(128, 4) gemm64_tn_mixed(GemmParams p) { gemm<f32, 64, 64, 32, 32, true, false>(p); }
KERNEL(128, 4) gemm64_tt_mixed(GemmParams p) { gemm<f32, 64, 64, 32, 32, true, true>(p); }

// gemm_sum for C in bf16.
KERNEL(256, 4) gemm_sum_bf16(GemmParams p) { finish_pieces<bf16>(p); }
