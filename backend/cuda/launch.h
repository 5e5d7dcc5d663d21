// What package cuda calls the driver for beside gorgonia.org/cu: launches, which there
// copy their arguments through the heap and take no structs, and graphs of them.
#ifndef SIFT_CUDA_LAUNCH_H
#define SIFT_CUDA_LAUNCH_H
#include "cuda.h"
#include "kernels/types.h"

enum { LAUNCH_WORDS = 64 };

// A launch of f with one parameter struct of at most LAUNCH_WORDS words.
typedef struct sift_work {
	CUfunction f;
	u32 x, y, z, threads, shared, unused;
	u64 params[LAUNCH_WORDS];
} sift_work;

// sift_launch makes the context current on the calling thread and enqueues n launches.
// Of a launch that fails *at is the index.
CUresult sift_launch(CUcontext context, CUstream stream, sift_work *work, int n, int *at);

// sift_graph makes *graph the n launches, by updating it if it is not null: then most of
// it stays as it was.
CUresult sift_graph(CUcontext context, CUstream stream, sift_work *work, int n, CUgraphExec *graph);

// sift_graph_launch enqueues all launches of a graph at once.
CUresult sift_graph_launch(CUcontext context, CUstream stream, CUgraphExec graph);

#endif
