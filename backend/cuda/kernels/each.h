#ifndef SIFT_CUDA_EACH_H
#define SIFT_CUDA_EACH_H
#include "types.h"

// EachParams is of a kernel that computes element by element: y from x and z, [rows, cols]. A
// thread takes a quad of neighbours; a row has `quads` of them, the last perhaps not full.
// wide: all rows begin at multiples of four elements.
typedef struct EachParams {
	Matrix y, x, z;
	Drop drop;
	i64 cols;
	u32 rows, quads, wide, act;
} EachParams;

#endif
