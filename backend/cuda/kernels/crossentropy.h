#ifndef SIFT_CUDA_CROSSENTROPY_H
#define SIFT_CUDA_CROSSENTROPY_H
#include "types.h"

// A block of CROSS_THREADS takes a row.
enum { CROSS_THREADS = 256 };

// loss, entropy, lse and correct are f32 [rows, 1], labels i32 [rows].
typedef struct CrossEntropyParams {
	Matrix loss, entropy, lse, correct, x;
	u64 labels, status;
	u32 rows, cols, wide, unused;
} CrossEntropyParams;

// A thread takes a quad.
typedef struct CrossEntropyBackwardParams {
	Matrix dx, x, lse;
	u64 labels, status;
	u32 rows, cols, quads, wide;
	f32 scale;
	u32 unused;
} CrossEntropyBackwardParams;

#endif
