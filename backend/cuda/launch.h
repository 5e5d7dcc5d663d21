// What package cuda calls the driver for beside gorgonia.org/cu: launches, which there
// copy their arguments through the heap and take no structs, and function attributes.
#ifndef SIFT_CUDA_LAUNCH_H
#define SIFT_CUDA_LAUNCH_H
#include "cuda.h"
#include "kernels/types.h"

// sift_launch makes the context current on the calling thread and launches f with one
// parameter struct.
CUresult sift_launch(CUcontext context, CUfunction f, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared,
	CUstream stream, void *params);

#endif
