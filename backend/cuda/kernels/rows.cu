// Rows of tables: embeddings, gathers, scatter-additions.
#include "rows.h"
#include "quad.h"

struct RowSpot {
	i64 row, col, n;
	bool here;
};

DEVICE RowSpot row_spot(u32 rows, u32 cols, u32 quads) {
	u64 q = (u64)block_x() * 256 + thread();
	RowSpot s;
	s.row = (i64)(q / quads);
	s.col = 4 * (i64)(q - (u64)s.row * quads);
	s.n = cols - s.col;
	s.here = s.row < rows;
	return s;
}

// known reports whether index k is in a table, and tells the host if it is not.
DEVICE bool known(i32 k, i32 size, const RowSpot &s, u64 status) {
	if (k >= 0 && k < size) return true;
	if (s.col == 0) report(status, BAD_INDEX, (u32)s.row, k);
	return false;
}

// out_t = word[ids_t] + position[positions_t] + type[types_t]; the tables are float32.
template <class T> DEVICE void embed(const EmbedParams &p) {
	RowSpot s = row_spot(p.rows, p.cols, p.quads);
	if (!s.here) return;
	i32 id = in_global<const i32>(p.ids)[s.row], place = in_global<const i32>(p.positions)[s.row];
	i32 kind = p.type.at ? in_global<const i32>(p.types)[s.row] : 0;
	if (!known(id, p.words, s, p.status) || !known(place, p.places, s, p.status) || (p.type.at && !known(kind, p.kinds, s, p.status))) return;
	Four v = load_floats(row_of<const f32>(p.word, id) + s.col, s.n, p.wide), w = load_floats(row_of<const f32>(p.position, place) + s.col, s.n, p.wide);
	UNROLL for (int k = 0; k < 4; k++) v.v[k] += w.v[k];
	if (p.type.at) {
		w = load_floats(row_of<const f32>(p.type, kind) + s.col, s.n, p.wide);
		UNROLL for (int k = 0; k < 4; k++) v.v[k] += w.v[k];
	}
	store_floats(row_of<T>(p.out, s.row) + s.col, v, s.n, p.wide);
}
KERNEL(256, 6) embed_f32(EmbedParams p) { embed<f32>(p); }
KERNEL(256, 6) embed_bf16(EmbedParams p) { embed<bf16>(p); }

// dst_i = src[index_i], whatever the elements mean.
template <class T> DEVICE void gather(const GatherParams &p) {
	RowSpot s = row_spot(p.rows, p.cols, p.quads);
	if (!s.here) return;
	i32 k = in_global<const i32>(p.index)[s.row];
	if (known(k, p.size, s, p.status)) store(row_of<T>(p.dst, s.row) + s.col, load(row_of<const T>(p.src, k) + s.col, s.n, p.wide), s.n, p.wide);
}
KERNEL(256, 8) gather2(GatherParams p) { gather<u16>(p); }
KERNEL(256, 8) gather4(GatherParams p) { gather<u32>(p); }

// Finds for each row the next one with its index: within its chunk, and beyond it, where only the
// first of a chunk counts. The whole list goes by in shared memory, a piece at a time.
KERNEL(128, 8) scatter_links(LinkParams p) {
	SHARED(i32[LINK_THREADS], piece);
	const i32 *index = in_global<const i32>(p.index);
	u32 i = block_x() * LINK_THREADS + thread();
	bool here = i < p.rows;
	i32 mine = here ? index[i] : 0;
	u32 next = p.rows, beyond = p.rows;
	bool follows = false, earlier = false;
	for (u32 first = 0; first < p.rows; first += LINK_THREADS) {
		barrier();
		piece[thread()] = first + thread() < p.rows ? index[first + thread()] : 0;
		barrier();
		u32 n = least<u32>(LINK_THREADS, p.rows - first);
		bool chunk = first == block_x() * LINK_THREADS; // chunks are as long as blocks
		for (u32 k = 0; k < n; k++) {
			if (piece[k] != mine) continue;
			u32 at = first + k;
			if (chunk) {
				follows = follows || at < i;
				if (at > i) next = least(next, at);
			} else {
				earlier = earlier || at < i;
				if (at > i) beyond = least(beyond, at);
			}
		}
	}
	if (!here) return;
	if (mine < 0 || mine >= p.size) {
		report(p.status, BAD_INDEX, i, mine);
		follows = earlier = true;
	}
	in_global<u32>(p.next)[i] = next | (follows ? FOLLOWS : 0);
	in_global<u32>(p.nextHead)[i] = beyond | (earlier ? FOLLOWS : 0);
}

// sum_i = src_i + the rows of its chunk that follow i, for the first of each index in a chunk.
template <class T> DEVICE void scatter_chunks(const ScatterParams &p) {
	RowSpot s = row_spot(p.rows, p.cols, p.quads);
	if (!s.here) return;
	const u32 *next = in_global<const u32>(p.next);
	u32 k = next[s.row];
	if (k & FOLLOWS) return;
	Four sum = load_floats(row_of<const T>(p.src, s.row) + s.col, s.n, p.wide);
	while (k < p.rows) {
		Four v = load_floats(row_of<const T>(p.src, k) + s.col, s.n, p.wide);
		k = next[k] & ~FOLLOWS;
		UNROLL for (int e = 0; e < 4; e++) sum.v[e] += v.v[e];
	}
	store_floats(row_of<f32>(p.sum, s.row) + s.col, sum, s.n, p.wide);
}
KERNEL(256, 8) scatter_chunks_f32(ScatterParams p) { scatter_chunks<f32>(p); }
KERNEL(256, 8) scatter_chunks_bf16(ScatterParams p) { scatter_chunks<bf16>(p); }

// dst[index_i] += sum_i + the sums of the heads that follow i, for the first head of each index.
template <class T> DEVICE void scatter_heads(const ScatterParams &p) {
	RowSpot s = row_spot(p.rows, p.cols, p.quads);
	if (!s.here) return;
	const u32 *nextHead = in_global<const u32>(p.nextHead);
	u32 k = nextHead[s.row];
	if ((in_global<const u32>(p.next)[s.row] | k) & FOLLOWS) return;
	T *dst = row_of<T>(p.dst, in_global<const i32>(p.index)[s.row]) + s.col;
	Four sum = load_floats<T>(dst, s.n, p.wide), v = load_floats(row_of<const f32>(p.sum, s.row) + s.col, s.n, p.wide);
	UNROLL for (int e = 0; e < 4; e++) sum.v[e] += v.v[e];
	while (k < p.rows) {
		v = load_floats(row_of<const f32>(p.sum, k) + s.col, s.n, p.wide);
		k = nextHead[k] & ~FOLLOWS;
		UNROLL for (int e = 0; e < 4; e++) sum.v[e] += v.v[e];
	}
	store_floats(dst, sum, s.n, p.wide);
}
KERNEL(256, 8) scatter_heads_f32(ScatterParams p) { scatter_heads<f32>(p); }
KERNEL(256, 8) scatter_heads_bf16(ScatterParams p) { scatter_heads<bf16>(p); }
