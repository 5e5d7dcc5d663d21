#ifndef SIFT_CUDA_COLSUM_H
#define SIFT_CUDA_COLSUM_H
#include "types.h"

// COLSUM_CHUNK rows of src are summed upwards into a row of part, f32 [chunks, cols]. Threads take a column.
enum { COLSUM_CHUNK = 64 };

typedef struct ColSumParams {
	Matrix part, src;
	u32 rows, cols;
} ColSumParams;

// AddPartsParams: dst_j += part_0j + part_1j + ..., upwards; dst is f32 [cols].
typedef struct AddPartsParams {
	u64 dst;
	Matrix part;
	u32 parts, cols;
} AddPartsParams;

#endif
