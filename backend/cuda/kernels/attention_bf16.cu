// Attention and its gradients on tensor cores, between bf16 matrices, for heads of 32 and 64 columns; the formulas
// are those of attention_simt.h (Dao 2023 for the order of the work). Sums are float32; what is rounded to
// bf16 on the way are the operands of the second products: P, up to its row's sum, and dS.
//
// A warp owns 16 rows, or M times 16, of one head: queries, or keys for dk and dv. Its first products have their results
// where the second ones take their first operand: of the 16x8 tiles of mma, lane l holds rows l/4 and l/4 + 8,
// columns 2 (l%4) and the next, both as a result and, two tiles side by side, as an operand 16x16. So P and dS never
// leave the registers. For dk and dv the first products are the transposed ones, keys by queries. The other side comes in
// tiles of 64 rows, copied while the one before is worked on, in groups of 16, of which those beyond the sequence are
// left out.
//
// Tiles lie in shared memory as rows of 16-byte chunks, permuted so that the 8 rows which ldmatrix reads at a time
// lie in different banks.
#include "attention_rows.h"

constexpr u32 TILE = ATTENTION_TILE, THREADS = ATTENTION_THREADS;
constexpr f32 LOG2E = 1.44269504f;

struct alignas(16) Chunk {
	u32 w[4]; // 8 bf16
};

// CHUNKS is the size of a tile for heads of D columns, in chunks.
template <int D> constexpr u32 CHUNKS = TILE * D / 8;

// slot is where chunk c of row r of a tile lies. Rows of 32 columns share a line of banks by twos.
// It is that of (r % 16, c % 2), plus 16 D/8 for every 16 rows, and then ^ 2 (c / 2).
template <int D> DEVICE u32 slot(u32 r, u32 c) { return r * (D / 8) + (D == 32 ? c ^ r / 2 % 4 : c ^ r % 8); }

// Place is a lane's in the tiles of mma: rows quad and quad + 8, columns 2 t and the next.
struct Place {
	u32 quad, t;
};
DEVICE Place place() { return Place{lane() / 4, lane() % 4}; }

// load_tile copies 64 rows of a head, from row first on, zero where live(r) is false.
template <int D, class Live> DEVICE void load_tile(Chunk *to, Matrix from, i64 first, u32 column, bool vector, Live live) {
	constexpr u32 step = THREADS * 8 / D; // rows at a time
	u32 row = thread() / (D / 8), c = thread() % (D / 8);
	Chunk *dst = to + slot<D>(row, c); // the same for row % 8
	const bf16 *src = row_of<const bf16>(from, first + row) + column + 8 * c;
	ONE_BY_ONE for (u32 r = row; r < TILE; r += step, src += step * from.stride, dst += step * (D / 8)) {
		bool some = live(r);
		if (vector) {
			copy16(dst, src, some ? 16 : 0);
		} else {
			UNROLL for (u32 w = 0; w < 4; w++) dst->w[w] = some ? src[2 * w].bits | (u32)src[2 * w + 1].bits << 16 : 0;
		}
	}
}

// Operands reads second operands from the tile at c[first]: chunk by chunk, the lane's part of its first 16 rows and columns.
struct Operands {
	u32 rows, columns;
};

template <int D> DEVICE Operands operands_at(u32 first) {
	u32 l = lane();
	return Operands{first + slot<D>(l / 16 * 8 + l % 8, l / 8 % 2), first + slot<D>(l % 16, l / 16)};
}

// as_rows is rows 16 g .. 16 g + 15 of a tile, columns 16 k .. 16 k + 15, as the second operands of two mma that
// sum over the columns: r[0], r[1] give the products with rows 0 .. 7 of them, r[2], r[3] with rows 8 .. 15.
template <int D> DEVICE void as_rows(u32 r[4], const Chunk *c, Operands tile, u32 g, u32 k) {
	load_matrices(r, c + ((tile.rows ^ 2 * k) + 2 * D * g));
}

// as_columns is the same part as the second operands of two mma that sum over the rows: r[0], r[1] for columns
// 0 .. 7 of the 16, r[2], r[3] for columns 8 .. 15.
template <int D> DEVICE void as_columns(u32 r[4], const Chunk *c, Operands tile, u32 g, u32 k) {
	load_matrices_transposed(r, c + ((tile.columns ^ 2 * k) + 2 * D * g));
}

// own_rows loads rows i .. i + 15 of a sequence as first operands, zero from row n on.
template <int D> DEVICE void own_rows(u32 (&a)[D / 16][4], Matrix from, i64 first, u32 i, u32 n, u32 column, bool vector) {
	Place at = place();
	UNROLL for (u32 half = 0; half < 2; half++) {
		u32 row = i + at.quad + 8 * half;
		const bf16 *src = row_of<const bf16>(from, first + least(row, n - 1)) + column + 2 * at.t;
		UNROLL for (u32 k = 0; k < D / 8; k++) {
			u32 pair = vector ? *(const u32 *)(src + 8 * k) : src[8 * k].bits | (u32)src[8 * k + 1].bits << 16;
			a[k / 2][half + 2 * (k % 2)] = row < n ? pair : 0;
		}
	}
}

// store_rows stores factor * sum, 16 rows from i on: factor[h] for rows quad + 8 h.
template <int D> DEVICE void store_rows(Matrix to, i64 first, u32 i, u32 n, u32 column, const f32 (&sum)[D / 8][4], const f32 (&factor)[2], bool vector) {
	Place at = place();
	UNROLL for (u32 half = 0; half < 2; half++) {
		u32 row = i + at.quad + 8 * half;
		if (row >= n) continue;
		bf16 *dst = row_of<bf16>(to, first + row) + column + 2 * at.t;
		UNROLL for (u32 k = 0; k < D / 8; k++) {
			u32 pair = pack(sum[k][2 * half] * factor[half], sum[k][2 * half + 1] * factor[half]);
			if (vector) {
				*(u32 *)(dst + 8 * k) = pair;
			} else {
				dst[8 * k] = bf16{(u16)pair};
				dst[8 * k + 1] = bf16{(u16)(pair >> 16)};
			}
		}
	}
}

// to_operand rounds two tiles of results side by side to a first operand.
DEVICE void to_operand(u32 (&a)[4], const f32 (&x)[4], const f32 (&y)[4]) {
	a[0] = pack(x[0], x[1]);
	a[1] = pack(x[2], x[3]);
	a[2] = pack(y[0], y[1]);
	a[3] = pack(y[2], y[3]);
}

DEVICE f32 quad_max(f32 v) {
	v = __builtin_fmaxf(v, shuffle_xor(v, 1));
	return __builtin_fmaxf(v, shuffle_xor(v, 2));
}
DEVICE f32 quad_sum(f32 v) {
	v += shuffle_xor(v, 1);
	return v + shuffle_xor(v, 2);
}

// Mask makes dropout's bits of the warp's queries against one tile of keys after the other. The elements of query i in a
// tile are 64 in a row from (head n + i) n + tile on: parts of 17 Philox blocks, or 16 where n is a multiple of
// 4. The last is the first of the next tile, so its four bits are kept: each of the 4 lanes of a row makes 4 blocks, and
// they exchange their 16 bits each.
template <int M> struct Mask {
	Sample sample;
	u32 row, n; // row: head n + the lane's first query
	u32 before[2 * M]; // bits of the last block, by rows quad + 8 x
};

DEVICE u64 element_of(u32 row, u32 n, u32 tile) { return (u64)row * n + tile; }

template <int M> DEVICE Mask<M> mask_of(const AttentionParams &p, const Block &b, u32 own) {
	Place at = place();
	Mask<M> m;
	m.sample = sample_of(p, b);
	m.row = b.head * b.n + own + at.quad;
	m.n = b.n;
	u32 bits = kept_nibble(p.drop, m.sample, (u32)(element_of(m.row + 8 * at.t, m.n, 0) >> 2));
	UNROLL for (u32 x = 0; x < 2 * M; x++) m.before[x] = shuffle(bits, 4 * at.quad + x);
	return m;
}

// next_bits sets bit j%32 of bits[x][j/32] for query quad + 8 x and key tile + j, 1 if it is kept. Tiles come in order.
template <int M> DEVICE void next_bits(u32 (&bits)[2 * M][2], Mask<M> &m, const AttentionParams &p, u32 tile) {
	u32 t = place().t;
	Drop d = p.drop;
	d.seedLow = opaque(d.seedLow), d.seedHigh = opaque(d.seedHigh);
	UNROLL for (u32 x = 0; x < 2 * M; x++) {
		u64 e = element_of(opaque(m.row + 8 * x), m.n, tile);
		u32 own = 0;
		UNROLL for (u32 k = 0; k < 4; k++) own |= kept_nibble(d, m.sample, (u32)(e >> 2) + 1 + 4 * t + k) << 4 * k;
		u32 other = shuffle_xor(own, 1);
		u32 word = t % 2 == 0 ? own | other << 16 : other | own << 16;
		u32 across = shuffle_xor(word, 2);
		u32 low = t < 2 ? word : across, high = t < 2 ? across : word, phase = (u32)e & 3;
		bits[x][0] = (u32)((m.before[x] | (u64)low << 4) >> phase);
		bits[x][1] = (u32)((low >> 28 | (u64)high << 4) >> phase);
		m.before[x] = high >> 28;
	}
}

// Keys are the two sides of a tile of keys.
template <int D> struct Keys {
	Chunk c[4 * CHUNKS<D>]; // keys, keys, values, values
	u32 valid[1];
};

// load_keys starts copying the keys and values from row `tile` on to buffer `to`.
template <int D> DEVICE void load_keys(Keys<D> &sh, u32 to, const AttentionParams &p, const Block &b, u32 tile) {
	u32 width = (u32)p.heads * D;
	auto live = [&](u32 r) { return bit_of(sh.valid, tile + r); };
	load_tile<D>(sh.c + to * CHUNKS<D>, p.qkv, b.first + tile, width + b.head * D, p.vector, live);
	load_tile<D>(sh.c + (2 + to) * CHUNKS<D>, p.qkv, b.first + tile, 2 * width + b.head * D, p.vector, live);
	copy_commit();
}

// live_bits is the word for keys tile + 32 w on, with bit 8 k + e for the lane's column e of tile k of mma.
DEVICE u32 live_bits(const u32 *valid, u32 tile, u32 w) { return valid[tile / 32 + w] >> 2 * place().t; }

template <int D, int M, bool DROP> DEVICE void forward(const AttentionParams &p) {
	using Shared = Keys<D>;
	static_assert(sizeof(Shared) == ATTENTION_BF16_SHARED(D) + 16, "");
	DYNAMIC(Shared, sh);
	Block b = block_of<64 * M>(p);
	if (b.n == 0) return;
	valid_keys(sh.valid, p, b);
	barrier();
	load_keys<D>(sh, 0, p, b, 0);

	Place at = place();
	u32 own = b.begin + 16 * M * warp();
	u32 q[M][D / 16][4];
	f32 out[M][D / 8][4], top[2 * M], total[2 * M], scale = p.scale * LOG2E;
	UNROLL for (u32 m = 0; m < M; m++) {
		own_rows<D>(q[m], p.qkv, b.first, own + 16 * m, b.n, b.head * D, p.vector);
		UNROLL for (u32 k = 0; k < D / 8; k++) {
			UNROLL for (u32 e = 0; e < 4; e++) out[m][k][e] = 0;
		}
	}
	UNROLL for (u32 x = 0; x < 2 * M; x++) {
		top[x] = -infinity();
		total[x] = 0;
	}
	Mask<M> mask;
	if (DROP) mask = mask_of<M>(p, b, own);

	u32 buffer = 0;
	for (u32 tile = 0; tile < b.n; tile += TILE, buffer ^= 1) {
		copy_wait<0>();
		barrier();
		if (tile + TILE < b.n) load_keys<D>(sh, buffer ^ 1, p, b, tile + TILE);
		if (own >= b.n) continue;
		Operands keys = operands_at<D>(buffer * CHUNKS<D>), values = operands_at<D>((2 + buffer) * CHUNKS<D>);
		u32 kept[2 * M][2];
		if (DROP) {
			next_bits<M>(kept, mask, p, tile);
			UNROLL for (u32 x = 0; x < 2 * M; x++) {
				UNROLL for (u32 w = 0; w < 2; w++) kept[x][w] >>= 2 * at.t;
			}
		}
		f32 s[M][8][4];
		UNROLL for (u32 m = 0; m < M; m++) {
			UNROLL for (u32 k = 0; k < 8; k++) {
				UNROLL for (u32 e = 0; e < 4; e++) s[m][k][e] = 0;
			}
		}
		UNROLL for (u32 g = 0; g < 4; g++) {
			if (tile + 16 * g >= b.n) break;
			UNROLL for (u32 k = 0; k < D / 16; k++) {
				u32 key[4];
				as_rows<D>(key, sh.c, keys, g, k);
				UNROLL for (u32 m = 0; m < M; m++) {
					mma(s[m][2 * g], q[m][k], key);
					mma(s[m][2 * g + 1], q[m][k], key + 2);
				}
			}
		}
		u32 live[2] = {live_bits(sh.valid, tile, 0), live_bits(sh.valid, tile, 1)};
		UNROLL for (u32 x = 0; x < 2 * M; x++) {
			f32 m = top[x];
			UNROLL for (u32 k = 0; k < 8; k++) {
				UNROLL for (u32 e = 0; e < 2; e++) {
					f32 &v = s[x / 2][k][2 * (x % 2) + e];
					v = live[k / 4] >> (8 * (k % 4) + e) & 1 ? v : -infinity();
					m = __builtin_fmaxf(m, v);
				}
			}
			m = quad_max(m);
			// While there is no key, differences are taken from 0, not from minus infinity.
			f32 base = m == -infinity() ? 0.0f : m * scale, shrink = exp2_fast(fmaf(top[x], scale, -base)), part = 0;
			top[x] = m;
			UNROLL for (u32 k = 0; k < 8; k++) {
				UNROLL for (u32 e = 0; e < 2; e++) {
					f32 &v = s[x / 2][k][2 * (x % 2) + e];
					v = exp2_fast(fmaf(v, scale, -base));
					part += v;
					if (DROP) v = kept[x][k / 4] >> (8 * (k % 4) + e) & 1 ? v : 0.0f;
				}
			}
			total[x] = fmaf(total[x], shrink, part);
			UNROLL for (u32 k = 0; k < D / 8; k++) {
				out[x / 2][k][2 * (x % 2)] *= shrink;
				out[x / 2][k][2 * (x % 2) + 1] *= shrink;
			}
		}
		UNROLL for (u32 g = 0; g < 4; g++) {
			if (tile + 16 * g >= b.n) break;
			u32 weights[M][4];
			UNROLL for (u32 m = 0; m < M; m++) to_operand(weights[m], s[m][2 * g], s[m][2 * g + 1]);
			UNROLL for (u32 k = 0; k < D / 16; k++) {
				u32 value[4];
				as_columns<D>(value, sh.c, values, g, k);
				UNROLL for (u32 m = 0; m < M; m++) {
					mma(out[m][2 * k], weights[m], value);
					mma(out[m][2 * k + 1], weights[m], value + 2);
				}
			}
		}
	}
	if (own >= b.n) return;
	UNROLL for (u32 m = 0; m < M; m++) {
		f32 factor[2];
		UNROLL for (u32 half = 0; half < 2; half++) {
			u32 x = 2 * m + half, i = own + at.quad + 8 * x;
			f32 all = quad_sum(total[x]);
			// Without any key it is 0; otherwise at least 1, or NaN.
			factor[half] = all == 0 ? 0.0f : 1.0f / all;
			if (DROP) factor[half] *= p.drop.kept;
			if (i < b.n && at.t == 0) row_of<f32>(p.lse, b.first + i)[b.head] = all == 0 ? 0.0f : fmaf(top[x], p.scale, log_of(all));
		}
		store_rows<D>(p.out, b.first, own + 16 * m, b.n, b.head * D, out[m], factor, p.vector);
	}
}

template <int D, int M, bool DROP> DEVICE void backward_dq(const AttentionParams &p) {
	using Shared = Keys<D>;
	DYNAMIC(Shared, sh);
	Block b = block_of<64 * M>(p);
	if (b.n == 0) return;
	valid_keys(sh.valid, p, b);
	barrier();
	load_keys<D>(sh, 0, p, b, 0);

	Place at = place();
	u32 own = b.begin + 16 * M * warp();
	u32 q[M][D / 16][4], dout[M][D / 16][4];
	f32 dq[M][D / 8][4], lse[2 * M], delta[2 * M], scale = p.scale * LOG2E;
	UNROLL for (u32 m = 0; m < M; m++) {
		own_rows<D>(dout[m], p.dout, b.first, own + 16 * m, b.n, b.head * D, p.vector);
		own_rows<D>(q[m], p.out, b.first, own + 16 * m, b.n, b.head * D, p.vector); // Out, until Delta is made; then the queries
		UNROLL for (u32 half = 0; half < 2; half++) {
			u32 x = 2 * m + half, i = own + at.quad + 8 * x;
			f32 part = 0;
			UNROLL for (u32 k = 0; k < D / 8; k++) {
				u32 o = q[m][k / 2][half + 2 * (k % 2)], d = dout[m][k / 2][half + 2 * (k % 2)];
				part = fmaf(high_of(d), high_of(o), fmaf(low_of(d), low_of(o), part));
			}
			delta[x] = quad_sum(part);
			lse[x] = row_of<const f32>(p.lse, b.first + least(i, b.n - 1))[b.head] * LOG2E;
			if (i < b.n && at.t == 0) row_of<f32>(p.delta, b.first + i)[b.head] = delta[x];
		}
		own_rows<D>(q[m], p.qkv, b.first, own + 16 * m, b.n, b.head * D, p.vector);
		UNROLL for (u32 k = 0; k < D / 8; k++) {
			UNROLL for (u32 e = 0; e < 4; e++) dq[m][k][e] = 0;
		}
	}
	Mask<M> mask;
	if (DROP) mask = mask_of<M>(p, b, own);

	u32 buffer = 0;
	for (u32 tile = 0; tile < b.n; tile += TILE, buffer ^= 1) {
		copy_wait<0>();
		barrier();
		if (tile + TILE < b.n) load_keys<D>(sh, buffer ^ 1, p, b, tile + TILE);
		if (own >= b.n) continue;
		Operands keys = operands_at<D>(buffer * CHUNKS<D>), values = operands_at<D>((2 + buffer) * CHUNKS<D>);
		u32 kept[2 * M][2];
		if (DROP) {
			next_bits<M>(kept, mask, p, tile);
			UNROLL for (u32 x = 0; x < 2 * M; x++) {
				u32 i = own + at.quad + 8 * x;
				if (i < b.n && at.t < 2) kept_words(p, b, i)[tile / 32 + at.t] = at.t == 0 ? kept[x][0] : kept[x][1];
				kept[x][0] = (u32)((kept[x][0] | (u64)kept[x][1] << 32) >> 2 * at.t);
				kept[x][1] >>= 2 * at.t;
			}
		}
		u32 groups = (least(b.n - tile, TILE) + 15) / 16;
		ONE_BY_ONE for (u32 g = 0; g < groups; g++) {
			f32 s[M][2][4], dp[M][2][4];
			UNROLL for (u32 m = 0; m < M; m++) {
				UNROLL for (u32 e = 0; e < 4; e++) s[m][0][e] = s[m][1][e] = dp[m][0][e] = dp[m][1][e] = 0;
			}
			UNROLL for (u32 k = 0; k < D / 16; k++) {
				u32 other[4];
				as_rows<D>(other, sh.c, keys, g, k);
				UNROLL for (u32 m = 0; m < M; m++) {
					mma(s[m][0], q[m][k], other);
					mma(s[m][1], q[m][k], other + 2);
				}
				as_rows<D>(other, sh.c, values, g, k);
				UNROLL for (u32 m = 0; m < M; m++) {
					mma(dp[m][0], dout[m][k], other);
					mma(dp[m][1], dout[m][k], other + 2);
				}
			}
			u32 live = live_bits(sh.valid, tile, g / 2) >> 16 * (g % 2), weights[M][4];
			UNROLL for (u32 m = 0; m < M; m++) {
				UNROLL for (u32 k = 0; k < 2; k++) {
					UNROLL for (u32 e = 0; e < 4; e++) {
						u32 x = 2 * m + e / 2;
						f32 weight = exp2_fast(fmaf(s[m][k][e], scale, -lse[x])), factor = 1;
						if (DROP) factor = kept[x][0] >> (8 * k + e % 2) & 1 ? p.drop.kept : 0.0f;
						s[m][k][e] = live >> (8 * k + e % 2) & 1 ? weight * fmaf(dp[m][k][e], factor, -delta[x]) : 0.0f;
					}
				}
				to_operand(weights[m], s[m][0], s[m][1]);
			}
			if (DROP) {
				UNROLL for (u32 x = 0; x < 2 * M; x++) {
					kept[x][0] = kept[x][0] >> 16 | kept[x][1] << 16;
					kept[x][1] >>= 16;
				}
			}
			UNROLL for (u32 k = 0; k < D / 16; k++) {
				u32 key[4];
				as_columns<D>(key, sh.c, keys, g, k);
				UNROLL for (u32 m = 0; m < M; m++) {
					mma(dq[m][2 * k], weights[m], key);
					mma(dq[m][2 * k + 1], weights[m], key + 2);
				}
			}
		}
	}
	if (own >= b.n) return;
	f32 factor[2] = {p.scale, p.scale};
	UNROLL for (u32 m = 0; m < M; m++) store_rows<D>(p.dqkv, b.first, own + 16 * m, b.n, b.head * D, dq[m], factor, p.vector);
}

// Queries are a tile of queries with what belongs to them; lse is in powers of 2.
template <int D> struct Queries {
	Chunk c[4 * CHUNKS<D>]; // queries, queries, DOut, DOut
	f32 lse[2][TILE], delta[2][TILE];
	u32 kept[2][TILE][2];
};

// Row is what a thread fetches of the tile to come: lse or delta of a query, and a word of bits.
struct Row {
	f32 value;
	u32 kept;
};

template <bool DROP> DEVICE Row fetch_row(const AttentionParams &p, const Block &b, u32 tile) {
	u32 id = thread(), i = least(tile + id % TILE, b.n - 1);
	Row r{row_of<const f32>(id < TILE ? p.lse : p.delta, b.first + i)[b.head], 0};
	if (id < TILE) r.value *= LOG2E;
	if (DROP) r.kept = kept_words(p, b, least(tile + id / 2, b.n - 1))[b.begin / 32 + id % 2];
	return r;
}

template <int D> DEVICE void put_row(Queries<D> &sh, u32 to, Row r) {
	u32 id = thread();
	(id < TILE ? sh.lse : sh.delta)[to][id % TILE] = r.value;
	sh.kept[to][id / 2][id % 2] = r.kept;
}

template <int D> DEVICE void load_queries(Queries<D> &sh, u32 to, const AttentionParams &p, const Block &b, u32 tile) {
	auto live = [&](u32 r) { return tile + r < b.n; };
	load_tile<D>(sh.c + to * CHUNKS<D>, p.qkv, b.first + tile, b.head * D, p.vector, live);
	load_tile<D>(sh.c + (2 + to) * CHUNKS<D>, p.dout, b.first + tile, b.head * D, p.vector, live);
	copy_commit();
}

template <int D, bool DROP> DEVICE void backward_dkv(const AttentionParams &p) {
	using Shared = Queries<D>;
	static_assert(sizeof(Shared) == ATTENTION_BF16_DKV_SHARED(D), "");
	DYNAMIC(Shared, sh);
	Block b = block_of<TILE>(p);
	if (b.n == 0) return;
	load_queries<D>(sh, 0, p, b, 0);
	put_row<D>(sh, 0, fetch_row<DROP>(p, b, 0));

	Place at = place();
	u32 own = b.begin + 16 * warp(), width = (u32)p.heads * D;
	u32 key[D / 16][4], value[D / 16][4];
	own_rows<D>(key, p.qkv, b.first, own, b.n, width + b.head * D, p.vector);
	own_rows<D>(value, p.qkv, b.first, own, b.n, 2 * width + b.head * D, p.vector);
	f32 dk[D / 8][4], dv[D / 8][4], scale = p.scale * LOG2E;
	UNROLL for (u32 k = 0; k < D / 8; k++) {
		UNROLL for (u32 e = 0; e < 4; e++) dk[k][e] = dv[k][e] = 0;
	}
	const i32 *valid = in_global<const i32>(p.layout.keyValid) + b.first;
	bool live[2];
	UNROLL for (u32 half = 0; half < 2; half++) {
		u32 j = own + at.quad + 8 * half;
		live[half] = j < b.n && valid[j] != 0;
	}

	u32 buffer = 0;
	for (u32 tile = 0; tile < b.n; tile += TILE, buffer ^= 1) {
		copy_wait<0>();
		barrier();
		bool more = tile + TILE < b.n;
		Row next{};
		if (more) {
			load_queries<D>(sh, buffer ^ 1, p, b, tile + TILE);
			next = fetch_row<DROP>(p, b, tile + TILE);
		}
		Operands queries = operands_at<D>(buffer * CHUNKS<D>), douts = operands_at<D>((2 + buffer) * CHUNKS<D>);
		u32 groups = own < b.n ? (least(b.n - tile, TILE) + 15) / 16 : 0;
		ONE_BY_ONE for (u32 g = 0; g < groups; g++) {
			f32 s[2][4], dp[2][4];
			UNROLL for (u32 e = 0; e < 4; e++) s[0][e] = s[1][e] = dp[0][e] = dp[1][e] = 0;
			UNROLL for (u32 k = 0; k < D / 16; k++) {
				u32 other[4];
				as_rows<D>(other, sh.c, queries, g, k);
				mma(s[0], key[k], other);
				mma(s[1], key[k], other + 2);
				as_rows<D>(other, sh.c, douts, g, k);
				mma(dp[0], value[k], other);
				mma(dp[1], value[k], other + 2);
			}
			// Now s becomes P without what is dropped, which weighs DOut, and dp becomes dS, which weighs the queries.
			UNROLL for (u32 k = 0; k < 2; k++) {
				UNROLL for (u32 c = 0; c < 2; c++) {
					u32 row = 16 * g + 8 * k + 2 * at.t + c, word = 0;
					f32 lse = sh.lse[buffer][row], delta = sh.delta[buffer][row];
					if (DROP) word = sh.kept[buffer][row][warp() / 2] >> (16 * (warp() % 2) + at.quad);
					UNROLL for (u32 half = 0; half < 2; half++) {
						u32 e = 2 * half + c;
						bool some = live[half] && tile + row < b.n, keep = !DROP || (word >> 8 * half & 1);
						f32 weight = exp2_fast(fmaf(s[k][e], scale, -lse)), factor = DROP ? (keep ? p.drop.kept : 0.0f) : 1.0f;
						dp[k][e] = some ? weight * fmaf(dp[k][e], factor, -delta) : 0.0f;
						s[k][e] = some && keep ? weight : 0.0f;
					}
				}
			}
			u32 weights[4], slopes[4];
			to_operand(weights, s[0], s[1]);
			to_operand(slopes, dp[0], dp[1]);
			UNROLL for (u32 k = 0; k < D / 16; k++) {
				u32 other[4];
				as_columns<D>(other, sh.c, douts, g, k);
				mma(dv[2 * k], weights, other);
				mma(dv[2 * k + 1], weights, other + 2);
				as_columns<D>(other, sh.c, queries, g, k);
				mma(dk[2 * k], slopes, other);
				mma(dk[2 * k + 1], slopes, other + 2);
			}
		}
		if (more) put_row<D>(sh, buffer ^ 1, next);
	}
	if (own >= b.n) return;
	f32 scales[2] = {p.scale, p.scale}, kept[2] = {DROP ? p.drop.kept : 1.0f, DROP ? p.drop.kept : 1.0f};
	store_rows<D>(p.dqkv, b.first, own, b.n, width + b.head * D, dk, scales, p.vector);
	store_rows<D>(p.dqkv, b.first, own, b.n, 2 * width + b.head * D, dv, kept, p.vector);
}

// The first number in a name is the columns of a head; the second, the queries of a block of the forward pass.
#define FORWARD(D, M, rows, blocks) \
	KERNEL(THREADS, blocks) attention##D##_##rows##_bf16(AttentionParams p) { forward<D, M, false>(p); } \
	KERNEL(THREADS, blocks) attention_dropout##D##_##rows##_bf16(AttentionParams p) { forward<D, M, true>(p); }
#define BACKWARD(D, blocks) \
	KERNEL(THREADS, blocks) attention_dq##D##_bf16(AttentionParams p) { backward_dq<D, 1, false>(p); } \
	KERNEL(THREADS, blocks) attention_dq_dropout##D##_bf16(AttentionParams p) { backward_dq<D, 1, true>(p); } \
	KERNEL(THREADS, blocks) attention_dkv##D##_bf16(AttentionParams p) { backward_dkv<D, false>(p); } \
	KERNEL(THREADS, blocks) attention_dkv_dropout##D##_bf16(AttentionParams p) { backward_dkv<D, true>(p); }

FORWARD(32, 1, 64, 4)
FORWARD(32, 2, 128, 2)
FORWARD(64, 1, 64, 3)
FORWARD(64, 2, 128, 2)
BACKWARD(32, 3)
BACKWARD(64, 2)
