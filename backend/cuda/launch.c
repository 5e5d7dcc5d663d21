//go:build cuda && cgo && linux

#include "launch.h"

static CUresult launch(CUstream stream, sift_work *work, int n, int *at) {
	CUresult r = CUDA_SUCCESS;
	for (*at = 0; *at < n; ++*at) {
		sift_work *w = work + *at;
		void *all[1] = {w->params};
		if ((r = cuLaunchKernel(w->f, w->x, w->y, w->z, w->threads, 1, 1, w->shared, stream, all, 0))) break;
	}
	return r;
}

CUresult sift_launch(CUcontext context, CUstream stream, sift_work *work, int n, int *at) {
	*at = 0;
	CUresult r = cuCtxSetCurrent(context);
	return r ? r : launch(stream, work, n, at);
}

CUresult sift_graph(CUcontext context, CUstream stream, sift_work *work, int n, CUgraphExec *graph) {
	int at;
	CUgraph captured = 0;
	CUresult r = cuCtxSetCurrent(context);
	if (!r) r = cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	if (r) return r;
	CUresult launched = launch(stream, work, n, &at);
	r = cuStreamEndCapture(stream, &captured);
	if (launched) r = launched;
	if (!r && *graph) {
		CUgraphNode node;
		CUgraphExecUpdateResult how;
		if (cuGraphExecUpdate(*graph, captured, &node, &how)) { // the kernels are others
			r = cuGraphExecDestroy(*graph);
			*graph = 0;
		}
	}
	if (!r && !*graph) r = cuGraphInstantiate(graph, captured, 0);
	if (captured) {
		CUresult e = cuGraphDestroy(captured);
		if (!r) r = e;
	}
	return r;
}

CUresult sift_graph_launch(CUcontext context, CUstream stream, CUgraphExec graph) {
	CUresult r = cuCtxSetCurrent(context);
	return r ? r : cuGraphLaunch(graph, stream);
}
