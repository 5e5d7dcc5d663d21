#ifndef SIFT_CUDA_ROWS_H
#define SIFT_CUDA_ROWS_H
#include "types.h"

// Tables are [size, cols]; indices outside are reported and leave their row alone. A thread takes a quad.
typedef struct EmbedParams {
	Matrix out, word, position, type; // type may be absent, and types then too
	u64 ids, positions, types;        // i32 [rows]
	u64 status;
	i32 words, places, kinds; // sizes of the tables
	u32 rows, cols, quads, wide, unused;
} EmbedParams;

typedef struct GatherParams {
	Matrix dst, src;
	u64 index, status; // i32 [rows]
	u32 rows, cols, quads, wide;
	i32 size;
	u32 unused;
} GatherParams;

// Scatter-add in two levels. Rows are cut into chunks of SCATTER_CHUNK. Within each, the first
// row with an index (a head) sums up the chunk's rows with it, along `next`; then the first head
// with an index adds up the heads' sums, along `nextHead`. So no chain is longer than the
// chunk, or than the number of chunks.
enum { SCATTER_CHUNK = 128, LINK_THREADS = SCATTER_CHUNK };

// next_i and nextHead_i: the row that follows i, or rows if none does; with FOLLOWS if one goes before.
#define FOLLOWS 0x80000000u

typedef struct LinkParams {
	u64 next, nextHead, index, status; // u32 [rows]; index i32 [rows]
	u32 rows;
	i32 size;
} LinkParams;

typedef struct ScatterParams {
	Matrix dst, src, sum; // sum f32 [rows, cols]
	u64 next, nextHead, index;
	u32 rows, cols, quads, wide;
} ScatterParams;

#endif
