//go:build cuda && cgo && linux

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "blas.h"

// The types and numbers are those of NVIDIA's documentation of cuBLAS.
enum { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77, DEFAULT_ALGORITHM = -1, SUMS_IN_COMPUTE_TYPE = 16, NOT_FOUND = 1 };

static void *library;
static char name[256], reason[256];
static int (*create)(void **), (*destroy)(void *), (*setStream)(void *, CUstream), (*setWorkspace)(void *, void *, size_t), (*getVersion)(void *, int *);
static int (*setMathMode)(void *, int);
static int (*gemmEx)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int, const void *, void *, int, int, int, int);
static int (*gemmBatched)(void *, int, int, int, int, int, const void *, const void *, int, int, long long, const void *, int, int, long long, const void *, void *,
	int, int, long long, int, int, int);

static void load(void) {
	const char *given = getenv("SIFT_CUDA_CUBLAS");
	const char *list[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"};
	int n = 3;
	if (given && *given) {
		list[0] = given;
		n = 1;
	}
	struct stat found;
	if (n == 1 && strchr(given, '/') && !stat(given, &found) && !S_ISREG(found.st_mode)) { // a pipe would be waited for
		snprintf(reason, sizeof reason, "%s: not a regular file", given);
		return;
	}
	for (int i = 0; i < n && !library; i++) {
		library = dlopen(list[i], RTLD_NOW | RTLD_LOCAL);
		snprintf(name, sizeof name, "%s", list[i]);
	}
	if (!library) {
		snprintf(reason, sizeof reason, "%s", n == 1 ? dlerror() : "none of libcublas.so.13, .12 and .11 is there");
		return;
	}
	create = (int (*)(void **))dlsym(library, "cublasCreate_v2");
	destroy = (int (*)(void *))dlsym(library, "cublasDestroy_v2");
	setStream = (int (*)(void *, CUstream))dlsym(library, "cublasSetStream_v2");
	setWorkspace = (int (*)(void *, void *, size_t))dlsym(library, "cublasSetWorkspace_v2");
	getVersion = (int (*)(void *, int *))dlsym(library, "cublasGetVersion_v2");
	setMathMode = (int (*)(void *, int))dlsym(library, "cublasSetMathMode");
	gemmEx = (int (*)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int, const void *, void *, int, int, int,
		int))dlsym(library, "cublasGemmEx");
	gemmBatched = (int (*)(void *, int, int, int, int, int, const void *, const void *, int, int, long long, const void *, int, int, long long, const void *,
		void *, int, int, long long, int, int, int))dlsym(library, "cublasGemmStridedBatchedEx");
	if (!create || !destroy || !setStream || !setWorkspace || !getVersion || !setMathMode || !gemmEx || !gemmBatched) {
		snprintf(reason, sizeof reason, "%s lacks functions of cuBLAS 11.2", name);
		library = 0;
	}
}

const char *sift_blas_load(char *why, int n) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	if (library) return name;
	snprintf(why, n, "%s", reason);
	for (char *c = why; *c; c++)
		if (*c == '\n') *c = ' ';
	return 0;
}

int sift_blas_create(CUcontext context, CUstream stream, CUdeviceptr workspace, size_t bytes, void **handle) {
	int r = cuCtxSetCurrent(context) || !library ? NOT_FOUND : create(handle);
	if (!r) r = setStream(*handle, stream);
	// With a workspace of the caller's one stream's results are the same at every run.
	if (!r) r = setWorkspace(*handle, (void *)workspace, bytes);
	// Otherwise cuBLAS may add up parts of a sum in C's type.
	return r ? r : setMathMode(*handle, SUMS_IN_COMPUTE_TYPE);
}

int sift_blas_destroy(CUcontext context, void *handle) { return cuCtxSetCurrent(context) ? NOT_FOUND : destroy(handle); }

int sift_blas_version(CUcontext context, void *handle, int *version) { return cuCtxSetCurrent(context) ? NOT_FOUND : getVersion(handle, version); }

int sift_blas_gemm(CUcontext context, void *handle, const sift_blas_product *p) {
	int compute = p->tf32 ? COMPUTE_32F_FAST_TF32 : COMPUTE_32F;
	if (cuCtxSetCurrent(context)) return NOT_FOUND;
	if (p->count > 1)
		return gemmBatched(handle, p->transA, p->transB, p->m, p->n, p->k, &p->alpha, (const void *)p->A, p->ab, p->lda, p->strideA, (const void *)p->B, p->ab,
			p->ldb, p->strideB, &p->beta, (void *)p->C, p->c, p->ldc, p->strideC, p->count, compute, DEFAULT_ALGORITHM);
	return gemmEx(handle, p->transA, p->transB, p->m, p->n, p->k, &p->alpha, (const void *)p->A, p->ab, p->lda, (const void *)p->B, p->ab, p->ldb, &p->beta,
		(void *)p->C, p->c, p->ldc, compute, DEFAULT_ALGORITHM);
}
