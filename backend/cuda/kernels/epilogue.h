#ifndef SIFT_CUDA_EPILOGUE_H
#define SIFT_CUDA_EPILOGUE_H
#include "types.h"

// EpilogueParams: v = to_ij + bias_j; pre_ij = v; to_ij = act(v), on a grid of rows x ceil(cols / 256) blocks of 256.
// bias and pre may be absent; all are float32.
typedef struct EpilogueParams {
	Matrix to, pre;
	u64 bias; // [cols]
	i32 rows, cols;
	u32 act, unused;
} EpilogueParams;

#endif
