#ifndef SIFT_CUDA_EPILOGUE_H
#define SIFT_CUDA_EPILOGUE_H
#include "types.h"

// EpilogueParams: v = from_ij + bias_j; pre_ij = v; to_ij = act(v), on a grid of rows x ceil(cols / 256) blocks of 256.
// bias and pre may be absent; from is float32 and may be `to`.
typedef struct EpilogueParams {
	Matrix to, pre, from;
	u64 bias; // f32 [cols]
	i32 rows, cols;
	u32 act, unused;
} EpilogueParams;

#endif
