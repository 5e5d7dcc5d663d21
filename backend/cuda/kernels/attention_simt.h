// Attention and its gradients by float32 arithmetic, for every size of head up to 256 and both types of storage. Per sequence and head, over
// the rows j that may be attended to (Vaswani et al. 2017, equation 1; tiles of keys as by Dao et al. 2022),
// with m_ij = 0 or 1/(1-P) from dropout:
//
//	s_ij = scale q_i.k_j,  LSE_i = log sum_j exp s_ij,  P_ij = exp(s_ij - LSE_i),  Out_i = sum_j m_ij P_ij v_j
//	Delta_i = DOut_i.Out_i,  dS_ij = P_ij (m_ij DOut_i.v_j - Delta_i)
//	dq_i = scale sum_j dS_ij k_j,  dk_j = scale sum_i dS_ij q_i,  dv_j = sum_i m_ij P_ij DOut_i
//
// No row to attend to: everything is 0. Every sum lies within one block, in a fixed order, so the gradients take
// two kernels: dq, and dk with dv, at the price of computing P twice. The bits of dropout are computed once
// for both: dq leaves them to the other.
//
// A block owns the queries (or keys) of one head, 8 * R rows of them, and meets the other side in tiles of 64 rows.
// 16 lanes share R rows; lane l has rows 4l .. 4l+3 of a tile, which is one Philox block or parts of two:
//
//	products:  s[r][t] = own row r . tile row 4l+t, over all columns
//	add_rows:  each lane has D/16 columns of sum_t weights[r][t] tile row t
//
// All matrices lie in shared memory in vectors of 4 columns, D/4 a row, the numbers of a row's vectors
// permuted (c ^ key) so that lanes which read different rows at the same time read different banks.
#ifndef SIFT_CUDA_ATTENTION_SIMT_H
#define SIFT_CUDA_ATTENTION_SIMT_H
#include "attention_rows.h"

typedef f32 F4 __attribute__((vector_size(16)));
typedef f32 F2 __attribute__((vector_size(8)));

constexpr u32 TILE = ATTENTION_TILE, THREADS = ATTENTION_THREADS;

// Sizes are those of a kernel for D columns.
template <int D> struct Sizes {
	static constexpr u32 rows = ATTENTION_ROWS(D), D4 = D / 4;
	static constexpr int R = rows / 8;
	static constexpr int columns = D / 16;                  // of a sum, per lane: runs of `vector`
	static constexpr int vector = columns < 4 ? columns : 4;
	static constexpr u32 own4 = rows * D4, tile4 = TILE * D4, weights4 = rows * TILE / 4; // vectors
	static constexpr u32 both4 = ATTENTION_MOST(tile4, weights4);    // of a tile that weights take the place of
};

// half is the number of this thread's 16 lanes in the block, and lane16 its place among them.
DEVICE u32 half() { return thread() / 16; }
DEVICE u32 lane16() { return thread() % 16; }

// load_rows starts copying COUNT rows of a head to shared memory: row r of them from row first + r of
// `from`, columns from `column` on, zero beyond column d and where live(r) is false. KEY rows in turn
// have the same permutation.
template <class T, int D, u32 COUNT, u32 KEY, class Live>
DEVICE void load_rows(F4 *to, Matrix from, i64 first, u32 column, const AttentionParams &p, Live live) {
	constexpr u32 D4 = D / 4;
	for (u32 at = thread(); at < COUNT * D4; at += THREADS) {
		u32 r = at / D4, c = at % D4;
		bool some = live(r);
		F4 *dst = to + r * D4 + (c ^ r / KEY % 8);
		const T *src = row_of<const T>(from, first + (some ? r : 0)) + column + 4 * c;
		if (sizeof(T) == 4 && p.vector) {
			copy16(dst, src, some && 4 * c < (u32)p.cols ? 16 : 0);
		} else {
			F4 v;
			UNROLL for (u32 e = 0; e < 4; e++) v[e] = some && 4 * c + e < (u32)p.cols ? to_float(src[e]) : 0.0f;
			*dst = v;
		}
	}
	copy_commit();
}

DEVICE f32 dot4(F4 a, F4 b, f32 s) { return fmaf(a[3], b[3], fmaf(a[2], b[2], fmaf(a[1], b[1], fmaf(a[0], b[0], s)))); }

// products sets s[r][t] to own row 8r + half . tile row 4 lane16 + t.
template <int D, int R> DEVICE void products(f32 (&s)[R][4], const F4 *own, const F4 *tile) {
	constexpr u32 D4 = D / 4;
	u32 l = lane16(), h = half();
	UNROLL for (int r = 0; r < R; r++) {
		UNROLL for (int t = 0; t < 4; t++) s[r][t] = 0;
	}
	ONE_BY_ONE for (u32 c = 0; c < D4; c++) {
		F4 other[4];
		UNROLL for (int t = 0; t < 4; t++) other[t] = tile[(4 * l + t) * D4 + (c ^ l % 8)];
		UNROLL for (int r = 0; r < R; r++) {
			F4 mine = own[(8 * r + h) * D4 + (c ^ h)];
			UNROLL for (int t = 0; t < 4; t++) s[r][t] = dot4(mine, other[t], s[r][t]);
		}
	}
}

// put_weights stores a lane's 4 weights of each row for add_rows, by the same 16 lanes.
template <int R> DEVICE void put_weights(F4 *weights, const f32 (&w)[R][4]) {
	UNROLL for (int r = 0; r < R; r++) weights[(8 * r + half()) * (TILE / 4) + (lane16() ^ half())] = F4{w[r][0], w[r][1], w[r][2], w[r][3]};
}

// column_of is the first column of the lane's run u.
template <int D> DEVICE u32 column_of(u32 u) { return (16 * u + lane16()) * Sizes<D>::vector; }

// add_rows adds to each row of sum the weighted rows of the tile, of which `count` count.
template <int D, int R> DEVICE void add_rows(f32 (&sum)[R][Sizes<D>::columns], const F4 *weights, const F4 *tile, u32 count) {
	constexpr u32 D4 = D / 4, V = Sizes<D>::vector, U = Sizes<D>::columns / V;
	u32 l = lane16(), h = half();
	ONE_BY_ONE for (u32 j = 0; j < (count + 3) / 4; j++) {
		f32 v[4][U * V];
		UNROLL for (u32 t = 0; t < 4; t++) {
			const F4 *row = tile + (4 * j + t) * D4;
			UNROLL for (u32 u = 0; u < U; u++) {
				if constexpr (V == 4) {
					F4 x = row[(16 * u + l) ^ j % 8];
					UNROLL for (u32 e = 0; e < 4; e++) v[t][4 * u + e] = x[e];
				} else {
					F2 x = ((const F2 *)(row + (l / 2 ^ j % 8)))[l % 2];
					v[t][0] = x[0], v[t][1] = x[1];
				}
			}
		}
		UNROLL for (int r = 0; r < R; r++) {
			F4 w = weights[(8 * r + h) * (TILE / 4) + (j ^ h)];
			UNROLL for (int t = 0; t < 4; t++) {
				UNROLL for (u32 c = 0; c < U * V; c++) sum[r][c] = fmaf(w[t], v[t][c], sum[r][c]);
			}
		}
	}
}

// store_row stores the lane's columns of factor * sum to row i of a head that begins at `column`.
template <class T, int D> DEVICE void store_row(Matrix to, i64 i, u32 column, const f32 (&sum)[Sizes<D>::columns], f32 factor, const AttentionParams &p) {
	constexpr int V = Sizes<D>::vector;
	UNROLL for (int u = 0; u < Sizes<D>::columns / V; u++) {
		u32 c = column_of<D>(u);
		T *at = row_of<T>(to, i) + column + c;
		if (sizeof(T) == 4 && V == 4 && p.vector) {
			if (c < (u32)p.cols) *(F4 *)at = F4{sum[V * u] * factor, sum[V * u + 1] * factor, sum[V * u + 2] * factor, sum[V * u + 3] * factor};
		} else {
			UNROLL for (int e = 0; e < V; e++) {
				if (c + e < (u32)p.cols) at[e] = round_to<T>(sum[V * u + e] * factor);
			}
		}
	}
}

// half_max and half_sum combine the values of the 16 lanes that share rows.
DEVICE f32 half_max(f32 v) {
	UNROLL for (u32 m = 1; m < 16; m *= 2) v = __builtin_fmaxf(v, shuffle_xor(v, m));
	return v;
}
DEVICE f32 half_sum(f32 v) {
	UNROLL for (u32 m = 1; m < 16; m *= 2) v += shuffle_xor(v, m);
	return v;
}

// Mask makes dropout's bits of the queries begin + 8r + half against one tile of keys after the other. The
// elements of a lane, 4 keys of query i from element e = (head n + i) n + tile + 4l on, are one Philox block
// if e is a multiple of 4 and lie in two otherwise, of which the next lane needs the second as its first. So
// each lane computes only the block after that of e, and has the one before from its neighbour, or, lane 0,
// from lane 15 of the tile before: as many blocks as there are elements for.
struct Mask {
	Sample sample;
	u32 row, n;  // row: head n + begin + half
	u32 before;  // lane 15: bits 4r .. 4r+3 are its block's of row r in the tile before
};

DEVICE u64 element_of(const Mask &m, u32 r, u32 tile) { return (u64)(m.row + 8 * r) * m.n + tile; }

template <int R> DEVICE Mask mask_of(const AttentionParams &p, const Block &b) {
	Mask m{sample_of(p, b), b.head * b.n + b.begin + half(), b.n, 0};
	if (lane16() < R) m.before = kept_nibble(p.drop, m.sample, (u32)(element_of(m, lane16(), 0) >> 2)) << 4 * lane16();
	UNROLL for (u32 x = 1; x < 8; x *= 2) m.before |= shuffle_xor(m.before, x);
	m.before = shuffle(m.before, lane() & 16);
	return m;
}

// next_bits returns bit 4r+t for query r and key tile + 4l + t, 1 if it is kept. Tiles come in order.
template <int R> DEVICE u32 next_bits(Mask &m, const AttentionParams &p, u32 tile) {
	u32 l = lane16(), own = 0, bits = 0;
	ONE_BY_ONE for (u32 r = 0; r < R; r++) own |= kept_nibble(p.drop, m.sample, (u32)(element_of(m, r, tile) >> 2) + l + 1) << 4 * r;
	u32 first = shuffle(l == 15 ? m.before : own, (lane() & 16) | ((l + 15) & 15));
	m.before = own;
	UNROLL for (u32 r = 0; r < R; r++) {
		u32 two = (first >> 4 * r & 15) | (own >> 4 * r & 15) << 4;
		bits |= (two >> ((u32)element_of(m, r, 0) & 3) & 15) << 4 * r;
	}
	return bits;
}

template <class T, int D> DEVICE void forward(const AttentionParams &p) {
	using Z = Sizes<D>;
	constexpr int R = Z::R;
	// Weights take the place of the keys, which are done with by then; where keys and values take turns, they
	// have a place of their own.
	constexpr bool ONE = D == 256;
	struct Shared {
		F4 own[Z::own4], keys[ONE ? Z::tile4 : Z::both4], values[ONE ? Z::weights4 : Z::tile4];
		u32 valid[1];
	};
	static_assert(sizeof(Shared) == ATTENTION_SHARED(D) + 16, "");
	DYNAMIC(Shared, sh);
	F4 *values = ONE ? sh.keys : sh.values, *weights = ONE ? sh.values : sh.keys;
	Block b = block_of<Z::rows>(p);
	if (b.n == 0) return;
	bool drop = p.drop.threshold != 0;
	u32 h = half(), l = lane16(), column = b.head * (u32)p.cols, width = (u32)(p.heads * p.cols);

	auto load = [&](F4 *to, u32 part, u32 tile) {
		load_rows<T, D, TILE, 4>(to, p.qkv, b.first + tile, part * width + column, p, [&](u32 r) { return bit_of(sh.valid, tile + r); });
	};
	load_rows<T, D, Z::rows, 1>(sh.own, p.qkv, b.first + b.begin, column, p, [&](u32 r) { return b.begin + r < b.n; });
	valid_keys(sh.valid, p, b);
	barrier();

	Mask mask{};
	if (drop) mask = mask_of<R>(p, b);
	f32 sum[R][Z::columns], top[R], total[R];
	UNROLL for (int r = 0; r < R; r++) {
		top[r] = -infinity();
		total[r] = 0;
		UNROLL for (int c = 0; c < Z::columns; c++) sum[r][c] = 0;
	}
	for (u32 tile = 0; tile < b.n; tile += TILE) {
		load(sh.keys, 1, tile);
		if (!ONE) load(values, 2, tile);
		u32 kept = 0;
		if (drop) kept = next_bits<R>(mask, p, tile);
		if (ONE) copy_wait<0>();
		else copy_wait<1>();
		barrier();
		f32 s[R][4];
		products<D, R>(s, sh.own, sh.keys);
		if (ONE) {
			barrier();
			load(values, 2, tile);
		}
		u32 live = sh.valid[tile / 32 + l / 8] >> 4 * l % 32;
		UNROLL for (int r = 0; r < R; r++) {
			f32 m = top[r];
			UNROLL for (int t = 0; t < 4; t++) {
				s[r][t] = live >> t & 1 ? p.scale * s[r][t] : -infinity();
				m = __builtin_fmaxf(m, s[r][t]);
			}
			m = half_max(m);
			// While there is no key, differences are taken from 0, not from minus infinity.
			f32 base = m == -infinity() ? 0.0f : m, shrink = exp_negative(top[r] - base), part = 0;
			top[r] = m;
			UNROLL for (int t = 0; t < 4; t++) {
				s[r][t] = exp_negative(s[r][t] - base);
				part += s[r][t];
				if (drop && !(kept >> (4 * r + t) & 1)) s[r][t] = 0;
			}
			total[r] = fmaf(total[r], shrink, part);
			UNROLL for (int c = 0; c < Z::columns; c++) sum[r][c] *= shrink;
		}
		copy_wait<0>();
		barrier();
		put_weights<R>(weights, s);
		warp_barrier();
		add_rows<D, R>(sum, weights, values, least(b.n - tile, TILE));
		barrier();
	}
	UNROLL for (int r = 0; r < R; r++) {
		u32 i = b.begin + 8 * r + h;
		f32 all = half_sum(total[r]);
		// Without any key it is 0; otherwise at least 1, or NaN.
		f32 factor = all == 0 ? 0.0f : 1.0f / all;
		if (drop) factor *= p.drop.kept;
		if (i < b.n) {
			store_row<T, D>(p.out, b.first + i, column, sum[r], factor, p);
			if (l == 0) row_of<f32>(p.lse, b.first + i)[b.head] = all == 0 ? 0.0f : top[r] + log_of(all);
		}
	}
}

template <class T, int D> DEVICE void backward_dq(const AttentionParams &p) {
	using Z = Sizes<D>;
	constexpr int R = Z::R;
	constexpr bool ONE = D == 256;
	// Weights take the place of the values; where keys and values take turns, they have their own.
	struct Shared {
		F4 own[Z::own4], douts[Z::own4], keys[Z::tile4], values[ONE ? Z::weights4 : Z::both4];
		u32 valid[1];
	};
	static_assert(sizeof(Shared) == ATTENTION_DQ_SHARED(D) + 16, "");
	DYNAMIC(Shared, sh);
	F4 *values = ONE ? sh.keys : sh.values, *weights = sh.values;
	Block b = block_of<Z::rows>(p);
	if (b.n == 0) return;
	bool drop = p.drop.threshold != 0;
	u32 h = half(), l = lane16(), column = b.head * (u32)p.cols, width = (u32)(p.heads * p.cols);

	auto load = [&](F4 *to, u32 part, u32 tile) {
		load_rows<T, D, TILE, 4>(to, p.qkv, b.first + tile, part * width + column, p, [&](u32 r) { return bit_of(sh.valid, tile + r); });
	};
	auto mine = [&](u32 r) { return b.begin + r < b.n; };
	load_rows<T, D, Z::rows, 1>(sh.own, p.qkv, b.first + b.begin, column, p, mine);
	load_rows<T, D, Z::rows, 1>(sh.douts, p.dout, b.first + b.begin, column, p, mine);
	valid_keys(sh.valid, p, b);
	copy_wait<0>();
	barrier();

	Mask mask{};
	if (drop) mask = mask_of<R>(p, b);
	f32 sum[R][Z::columns], lse[R], delta[R];
	UNROLL for (int r = 0; r < R; r++) {
		u32 i = least(b.begin + 8 * r + h, b.n - 1);
		const T *out = row_of<const T>(p.out, b.first + i) + column;
		f32 part = 0;
		UNROLL for (u32 c = 4 * l; c < D; c += 64) {
			F4 o = sh.douts[(8 * r + h) * Z::D4 + (c / 4 ^ h)];
			UNROLL for (u32 e = 0; e < 4; e++) {
				if (c + e < (u32)p.cols) part = fmaf(o[e], to_float(out[c + e]), part);
			}
		}
		delta[r] = half_sum(part);
		lse[r] = row_of<const f32>(p.lse, b.first + i)[b.head];
		if (b.begin + 8 * r + h < b.n && l == 0) row_of<f32>(p.delta, b.first + i)[b.head] = delta[r];
		UNROLL for (int c = 0; c < Z::columns; c++) sum[r][c] = 0;
	}
	for (u32 tile = 0; tile < b.n; tile += TILE) {
		load(values, 2, tile);
		if (!ONE) load(sh.keys, 1, tile);
		u32 kept = 0;
		if (drop) {
			kept = next_bits<R>(mask, p, tile);
			u32 other = shuffle_xor(kept, 1);
			if (l % 2 == 0) {
				UNROLL for (int r = 0; r < R; r++) {
					u32 i = b.begin + 8 * r + h;
					if (i < b.n) ((unsigned char *)kept_words(p, b, i))[(tile + 4 * l) / 8] = (unsigned char)((kept >> 4 * r & 15) | (other >> 4 * r & 15) << 4);
				}
			}
		}
		if (ONE) copy_wait<0>();
		else copy_wait<1>();
		barrier();
		f32 s[R][4], dp[R][4];
		products<D, R>(dp, sh.douts, values);
		if (ONE) {
			barrier();
			load(sh.keys, 1, tile);
		}
		copy_wait<0>();
		barrier();
		products<D, R>(s, sh.own, sh.keys);
		u32 live = sh.valid[tile / 32 + l / 8] >> 4 * l % 32;
		UNROLL for (int r = 0; r < R; r++) {
			UNROLL for (int t = 0; t < 4; t++) {
				f32 weight = exp_of(fmaf(p.scale, s[r][t], -lse[r])), factor = 1;
				if (drop) factor = kept >> (4 * r + t) & 1 ? p.drop.kept : 0.0f;
				s[r][t] = live >> t & 1 ? weight * (dp[r][t] * factor - delta[r]) : 0.0f;
			}
		}
		put_weights<R>(weights, s);
		warp_barrier();
		add_rows<D, R>(sum, weights, sh.keys, least(b.n - tile, TILE));
		barrier();
	}
	UNROLL for (int r = 0; r < R; r++) {
		u32 i = b.begin + 8 * r + h;
		if (i < b.n) store_row<T, D>(p.dqkv, b.first + i, column, sum[r], p.scale, p);
	}
}

template <class T, int D> DEVICE void backward_dkv(const AttentionParams &p) {
	using Z = Sizes<D>;
	constexpr int R = Z::R;
	constexpr bool ONE = D >= 128; // queries and gradients take turns
	struct Shared {
		F4 keys[Z::own4], values[Z::own4], queries[Z::tile4], douts[ONE ? 0 : Z::tile4], weights[Z::weights4];
	};
	static_assert(sizeof(Shared) == ATTENTION_DKV_SHARED(D), "");
	DYNAMIC(Shared, sh);
	F4 *douts = ONE ? sh.queries : sh.douts;
	Block b = block_of<Z::rows>(p);
	if (b.n == 0) return;
	bool drop = p.drop.threshold != 0;
	u32 h = half(), l = lane16(), column = b.head * (u32)p.cols, width = (u32)(p.heads * p.cols);

	auto load = [&](F4 *to, Matrix from, u32 tile) {
		load_rows<T, D, TILE, 4>(to, from, b.first + tile, column, p, [&](u32 r) { return tile + r < b.n; });
	};
	const i32 *valid = in_global<const i32>(p.layout.keyValid) + b.first;
	auto mine = [&](u32 r) { return b.begin + r < b.n && valid[b.begin + r] != 0; };
	load_rows<T, D, Z::rows, 1>(sh.keys, p.qkv, b.first + b.begin, width + column, p, mine);
	load_rows<T, D, Z::rows, 1>(sh.values, p.qkv, b.first + b.begin, 2 * width + column, p, mine);
	bool live[R];
	f32 dk[R][Z::columns], dv[R][Z::columns];
	UNROLL for (int r = 0; r < R; r++) {
		live[r] = mine(8 * r + h);
		UNROLL for (int c = 0; c < Z::columns; c++) dk[r][c] = dv[r][c] = 0;
	}
	for (u32 tile = 0; tile < b.n; tile += TILE) {
		load(sh.queries, p.qkv, tile);
		if (!ONE) load(douts, p.dout, tile);
		f32 lse[4], delta[4];
		u32 kept[4][(R + 3) / 4];
		UNROLL for (u32 t = 0; t < 4; t++) {
			u32 i = least(tile + 4 * l + t, b.n - 1);
			lse[t] = row_of<const f32>(p.lse, b.first + i)[b.head];
			delta[t] = row_of<const f32>(p.delta, b.first + i)[b.head];
			if (drop) {
				UNROLL for (u32 w = 0; w < (R + 3) / 4; w++) kept[t][w] = kept_words(p, b, i)[b.begin / 32 + w] >> (b.begin % 32 + h);
			}
		}
		if (ONE) copy_wait<0>();
		else copy_wait<1>();
		barrier();
		f32 s[R][4], dp[R][4];
		products<D, R>(s, sh.keys, sh.queries);
		if (ONE) {
			barrier();
			load(douts, p.dout, tile);
		}
		copy_wait<0>();
		barrier();
		products<D, R>(dp, sh.values, douts);
		UNROLL for (int r = 0; r < R; r++) {
			UNROLL for (u32 t = 0; t < 4; t++) {
				f32 weight = exp_of(fmaf(p.scale, s[r][t], -lse[t])), factor = 1;
				if (!live[r] || tile + 4 * l + t >= b.n) weight = 0;
				if (drop) factor = kept[t][r / 4] >> 8 * (r % 4) & 1 ? p.drop.kept : 0.0f;
				dp[r][t] = weight * (dp[r][t] * factor - delta[t]);
				s[r][t] = weight * factor;
			}
		}
		u32 count = least(b.n - tile, TILE);
		put_weights<R>(sh.weights, s);
		warp_barrier();
		add_rows<D, R>(dv, sh.weights, douts, count);
		warp_barrier();
		put_weights<R>(sh.weights, dp);
		if (ONE) {
			barrier();
			load(sh.queries, p.qkv, tile);
			copy_wait<0>();
			barrier();
		} else {
			warp_barrier();
		}
		add_rows<D, R>(dk, sh.weights, sh.queries, count);
		barrier();
	}
	UNROLL for (int r = 0; r < R; r++) {
		u32 j = b.begin + 8 * r + h;
		if (j >= b.n) continue;
		if (!live[r]) {
			UNROLL for (int c = 0; c < Z::columns; c++) dk[r][c] = dv[r][c] = 0;
		}
		store_row<T, D>(p.dqkv, b.first + j, width + column, dk[r], p.scale, p);
		store_row<T, D>(p.dqkv, b.first + j, 2 * width + column, dv[r], 1, p);
	}
}

// ATTENTION_KERNELS defines the kernels for heads of up to D columns of type T, `name`.
#define ATTENTION_KERNELS(D, T, name) \
	KERNEL(THREADS, 1) attention##D##_##name(AttentionParams p) { forward<T, D>(p); } \
	KERNEL(THREADS, 1) attention_dq##D##_##name(AttentionParams p) { backward_dq<T, D>(p); } \
	KERNEL(THREADS, 1) attention_dkv##D##_##name(AttentionParams p) { backward_dkv<T, D>(p); }

#endif
