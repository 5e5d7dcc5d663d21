// cuBLAS, found at run time: the few functions that matrix products take.
#ifndef SIFT_CUDA_BLAS_H
#define SIFT_CUDA_BLAS_H
#include "cuda.h"

// sift_blas_load looks for the library once. It returns its name, or 0 with one line in why.
const char *sift_blas_load(char *why, int n);

// Results are cublasStatus_t: 0 is success.
int sift_blas_create(CUcontext context, CUstream stream, CUdeviceptr workspace, size_t bytes, void **handle);
int sift_blas_destroy(CUcontext context, void *handle);
int sift_blas_version(CUcontext context, void *handle, int *version);

// sift_blas_gemm is cublasGemmEx on column-major matrices with 32-bit floating-point sums: C = alpha op(A) op(B) +
// beta C, op(A) m x k, op(B) k x n. A and B are of type ab, C of type c (cudaDataType numbers below). With tf32
// float32 operands are rounded to 10 bits of fraction. With a count above 1 it is cublasGemmStridedBatchedEx: as
// many products, operands so many elements apart.
typedef struct sift_blas_product {
	int transA, transB, m, n, k, ab, c, tf32;
	float alpha, beta;
	CUdeviceptr A, B, C;
	int lda, ldb, ldc, count;
	long long strideA, strideB, strideC;
} sift_blas_product;

enum { SIFT_BLAS_F32 = 0, SIFT_BLAS_BF16 = 14 };

int sift_blas_gemm(CUcontext context, void *handle, const sift_blas_product *p);

#endif
