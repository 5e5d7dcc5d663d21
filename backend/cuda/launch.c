//go:build cuda && cgo && linux

#include "launch.h"

CUresult sift_launch(CUcontext context, CUfunction f, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared,
	CUstream stream, void *params) {
	CUresult r = cuCtxSetCurrent(context);
	void *all[1] = {params};
	return r ? r : cuLaunchKernel(f, x, y, z, threads, 1, 1, shared, stream, all, 0);
}
