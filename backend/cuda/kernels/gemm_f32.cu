// Matrix products in float32 on the ordinary cores.
//
// A block of 256 threads makes a tile of SIDE x SIDE. Slices of 8 or 16 terms of A and B
// go through shared memory, two buffers of each: while one is multiplied, the next is on its way
// in registers. A thread sums up SIDE/16 x SIDE/16 elements of C in registers, in groups of four
// rows and four columns 64 apart, so that the lanes of a warp read shared memory without
// conflicts: for SIDE 128, 64 products for four reads of 16 bytes.
//
// Each element is one chain of fused multiply-adds in ascending k: its bits depend neither on the
// tile nor on m, n, strides or alignment.
#include "gemm_tile.h"

// slice_of is how many terms a slice has: each thread brings a quad of A and one of B.
template <int SIDE> constexpr int slice_of() { return 1024 / SIDE; }

template <int SIDE> struct alignas(16) Slices {
	f32 a[2][slice_of<SIDE>()][SIDE + 4], b[2][slice_of<SIDE>()][SIDE + 4];
};
template <int SIDE> union Shared {
	Slices<SIDE> slices;
	Strip<SIDE> strip;
};

// fetch reads this thread's quad of a slice that begins with term `first`, of SIDE rows or columns from
// `at` on. ALONG says that k runs along the rows of the operand as it lies in memory.
template <int SIDE, bool ALONG> DEVICE Four fetch(Matrix x, i32 at, i32 end, i32 first, i32 last, bool wide) {
	const int QUADS = ALONG ? slice_of<SIDE>() / 4 : SIDE / 4;
	i32 r = (i32)thread() / QUADS, c = (i32)thread() % QUADS * 4;
	i32 row = ALONG ? at + r : first + r, col = ALONG ? first + c : at + c;
	return row < (ALONG ? end : last) ? load_floats(row_of<const f32>(x, row) + col, (ALONG ? last : end) - col, wide) : Four{};
}

// keep writes it to shared memory, [k][row or column].
template <int SIDE, bool ALONG> DEVICE void keep(f32 (*to)[SIDE + 4], Four quad) {
	const u32 QUADS = ALONG ? slice_of<SIDE>() / 4 : SIDE / 4;
	u32 r = thread() / QUADS, c = thread() % QUADS * 4;
	UNROLL for (int e = 0; e < 4; e++) {
		if (ALONG) {
			to[c + e][r] = quad.v[e];
		} else {
			to[r][c + e] = quad.v[e];
		}
	}
}

template <int SIDE, bool TA, bool TB> DEVICE void gemm(const GemmParams &p) {
	SHARED(Shared<SIDE>, shared);
	Slices<SIDE> &s = shared.slices;
	const int GROUPS = SIDE / 64, PER = 4 * GROUPS, SLICE = slice_of<SIDE>();
	Tile t = tile_of<SIDE, SIDE>(p);
	i32 last = t.first + t.terms, slices = (t.terms + SLICE - 1) / SLICE;
	u32 x = thread() % 16, y = thread() / 16;

	f32 sum[PER][PER] = {};
	auto fetchA = [&](i32 first) { return fetch<SIDE, !TA>(p.a, t.row, p.m, first, last, p.wideA); };
	auto fetchB = [&](i32 first) { return fetch<SIDE, TB>(p.b, t.col, p.n, first, last, p.wideB); };
	Four nextA = fetchA(t.first), nextB = fetchB(t.first);
	keep<SIDE, !TA>(s.a[0], nextA);
	keep<SIDE, TB>(s.b[0], nextB);
	barrier();
	for (i32 i = 0; i < slices; i++) {
		bool more = i + 1 < slices;
		if (more) {
			nextA = fetchA(t.first + (i + 1) * SLICE);
			nextB = fetchB(t.first + (i + 1) * SLICE);
		}
		i32 now = i & 1, n = least(t.terms - i * SLICE, SLICE);
		// One after another: a term takes four warps of a scheduler 512 clocks, which hides the reads.
		// Terms beyond the end are zeros, and would make 0 of a sum of -0.
		ONE_BY_ONE for (i32 k = 0; k < n; k++) {
			Quad<f32> a[GROUPS], b[GROUPS];
			UNROLL for (int g = 0; g < GROUPS; g++) {
				a[g] = load(&s.a[now][k][64 * g + 4 * y], 4, true);
				b[g] = load(&s.b[now][k][64 * g + 4 * x], 4, true);
			}
			UNROLL for (int r = 0; r < PER; r++)
				UNROLL for (int c = 0; c < PER; c++) sum[r][c] = fmaf(a[r / 4].v[r % 4], b[c / 4].v[c % 4], sum[r][c]);
		}
		if (more) {
			keep<SIDE, !TA>(s.a[now ^ 1], nextA);
			keep<SIDE, TB>(s.b[now ^ 1], nextB);
		}
		barrier();
	}
	UNROLL for (int g = 0; g < GROUPS; g++) { // 64 columns of C
		UNROLL for (int r = 0; r < PER; r++)
			UNROLL for (int c = 0; c < 4; c++) shared.strip.v[r / 4 * 64 + 4 * y + r % 4][4 * x + c] = sum[r][4 * g + c];
		barrier();
		finish_strip<f32, SIDE, 256>(p, shared.strip, t.row, t.col + 64 * g);
		barrier();
	}
}

KERNEL(256, 2) gemm128_nn_f32(GemmParams p) { gemm<128, false, false>(p); }
KERNEL(256, 2) gemm128_nt_f32(GemmParams p) { gemm<128, false, true>(p); }
KERNEL(256, 2) gemm128_tn_f32(GemmParams p) { gemm<128, true, false>(p); }
KERNEL(256, 2) gemm128_tt_f32(GemmParams p) { gemm<128, true, true>(p); }
KERNEL(256, 4) gemm64_nn_f32(GemmParams p) { gemm<64, false, false>(p); }
KERNEL(256, 4) gemm64_nt_f32(GemmParams p) { gemm<64, false, true>(p); }
KERNEL(256, 4) gemm64_tn_f32(GemmParams p) { gemm<64, true, false>(p); }
KERNEL(256, 4) gemm64_tt_f32(GemmParams p) { gemm<64, true, true>(p); }

// gemm_sum: C from the sums of the pieces of k, in ascending order.
KERNEL(256, 4) gemm_sum_f32(GemmParams p) { finish_pieces<f32>(p); }
