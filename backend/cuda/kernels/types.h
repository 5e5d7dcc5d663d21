// What parameter structs are made of: plain C, since Go fills them through cgo.
#ifndef SIFT_CUDA_TYPES_H
#define SIFT_CUDA_TYPES_H
#include <stdint.h>

typedef uint64_t u64;
typedef int64_t i64;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint16_t u16;
typedef float f32;
typedef double f64;

// Matrix is a strided view in device memory: element (i, j) is at + (i * stride + j) elements.
// at is 0 where an operand is absent.
typedef struct Matrix {
	u64 at;
	i64 stride;
} Matrix;

// Drop is backend.Drop: an element is dropped if its word is below threshold and otherwise
// multiplied by kept = 1 / (1 - P). threshold 0 drops nothing; then rowKey may be absent. The number of
// the update lies in memory, so that launches of successive updates have the same parameters.
typedef struct Drop {
	u32 threshold;
	f32 kept;
	u32 seedLow, seedHigh, site, unused;
	u64 update; // u32
	Matrix rowKey; // i32 [T, 4]: sequence, row within it, sample id low and high
} Drop;

// PackedLayout is backend.Layout without RowKey: sequence s has the rows offsets[s] .. offsets[s+1].
typedef struct PackedLayout {
	u64 offsets;  // i32 [seqs + 1]
	u64 keyValid; // i32 [rows]
	i32 seqs, rows;
} PackedLayout;

#endif
