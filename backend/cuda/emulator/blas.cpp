// cuBLAS on the processor: as much of it as package cuda calls. Products are queued like
// kernels. Sums are float32, in ascending k; a real cuBLAS adds in another order.
#include "driver.h"
#include <cstring>

using namespace emulator;

namespace {

// The numbers are those of NVIDIA's documentation of cuBLAS.
enum Status { DONE = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77, TF32_TENSOR_OP_MATH = 3 };

struct Handle {
	Context *context;
	CUstream stream = nullptr;
	int mathMode = 0;
};
std::set<Handle *> &handles = *new std::set<Handle *>;

// Product is C = alpha op(A) op(B) + beta C on column-major matrices, op(A) m x k, op(B) k x n, `count` times, strides
// apart.
struct Product {
	bool transA, transB, tf32;
	int m, n, k, typeA, typeB, typeC, lda, ldb, ldc, count;
	f32 alpha, beta;
	CUdeviceptr A, B, C;
	long long strideA, strideB, strideC;
};

size_t size_of(int type) { return type == R_32F ? 4 : 2; }

f32 get(CUdeviceptr p, int type, size_t i) {
	if (type == R_32F) return ((const f32 *)p)[i];
	return __builtin_bit_cast(f32, (u32)((const u16 *)p)[i] << 16);
}

void put(CUdeviceptr p, int type, size_t i, f32 v) {
	if (type == R_32F) {
		((f32 *)p)[i] = v;
		return;
	}
	u32 u = __builtin_bit_cast(u32, v);
	((u16 *)p)[i] = (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

// to_tf32 keeps 10 bits of the fraction, ties away from 0.
f32 to_tf32(f32 x) {
	u32 u = __builtin_bit_cast(u32, x);
	return (u & 0x7f800000) == 0x7f800000 ? x : __builtin_bit_cast(f32, (u + 0x1000) & 0xffffe000u);
}

typedef f32 F8 __attribute__((vector_size(32), aligned(4)));

// fits reports whether a matrix and those after it lie in device memory.
bool fits(CUdeviceptr p, int type, int rows, int cols, int ld, long long stride, int count) {
	if (!rows || !cols || !count) return true;
	size_t n = (size_t)(cols - 1) * ld + rows;
	for (int i = 0; i < count; i++)
		if (!inside(p + (CUdeviceptr)i * stride * size_of(type), n * size_of(type))) return false;
	return true;
}

void multiply(const Product &p, CUdeviceptr A, CUdeviceptr B, CUdeviceptr C) {
	// 16 rows of op(A) at a time, k after k, then 4 columns of op(B) at a time.
	std::vector<f32> a((size_t)16 * p.k), b((size_t)p.k * p.n);
	for (int j = 0; j < p.n; j++)
		for (int l = 0; l < p.k; l++) {
			f32 v = get(B, p.typeB, p.transB ? (size_t)l * p.ldb + j : (size_t)j * p.ldb + l);
			b[(size_t)j * p.k + l] = p.tf32 ? to_tf32(v) : v;
		}
	for (int i = 0; i < p.m; i += 16) {
		for (int l = 0; l < p.k; l++)
			for (int r = 0; r < 16; r++) {
				f32 v = i + r < p.m ? get(A, p.typeA, p.transA ? (size_t)(i + r) * p.lda + l : (size_t)l * p.lda + i + r) : 0;
				a[16 * (size_t)l + r] = p.tf32 ? to_tf32(v) : v;
			}
		for (int j = 0; j < p.n; j += 4) {
			F8 sum[4][2] = {};
			const f32 *column[4];
			for (int c = 0; c < 4; c++) column[c] = &b[(size_t)std::min(j + c, p.n - 1) * p.k];
			for (int l = 0; l < p.k; l++) {
				F8 low = *(const F8 *)&a[16 * (size_t)l], high = *(const F8 *)&a[16 * (size_t)l + 8];
#pragma GCC unroll 4
				for (int c = 0; c < 4; c++) {
					sum[c][0] += low * column[c][l];
					sum[c][1] += high * column[c][l];
				}
			}
			for (int c = 0; c < 4 && j + c < p.n; c++)
				for (int r = 0; r < 16 && i + r < p.m; r++) {
					size_t at = (size_t)(j + c) * p.ldc + i + r;
					put(C, p.typeC, at, p.alpha * sum[c][r / 8][r % 8] + (p.beta ? p.beta * get(C, p.typeC, at) : 0));
				}
		}
	}
}

// begin is what a function of cuBLAS returns before it does anything.
int begin(const char *function, void *h) {
	Handle *handle = (Handle *)h;
	if (!handles.count(handle)) return NOT_INITIALIZED;
	if (!contexts.count(handle->context)) return NOT_INITIALIZED;
	return injected(function, handle->context);
}

int queue(Handle *h, Product p, int compute) {
	bool same = p.typeA == p.typeB && (p.typeA == R_32F || p.typeA == R_16BF);
	if (!same || (p.typeC != R_32F && p.typeC != R_16BF) || (p.typeA == R_32F && p.typeC != R_32F)) return NOT_SUPPORTED;
	if (compute != COMPUTE_32F && !(compute == COMPUTE_32F_FAST_TF32 && p.typeA == R_32F)) return NOT_SUPPORTED;
	if (p.m < 0 || p.n < 0 || p.k < 0 || p.count < 0) return INVALID_VALUE;
	if (p.lda < std::max(1, p.transA ? p.k : p.m) || p.ldb < std::max(1, p.transB ? p.n : p.k) || p.ldc < std::max(1, p.m)) return INVALID_VALUE;
	p.tf32 = p.typeA == R_32F && (compute == COMPUTE_32F_FAST_TF32 || h->mathMode == TF32_TENSOR_OP_MATH);
	CUresult r = enqueue(h->context, h->stream, Command{[=] {
		if (!fits(p.A, p.typeA, p.transA ? p.k : p.m, p.transA ? p.m : p.k, p.lda, p.strideA, p.count) ||
			!fits(p.B, p.typeB, p.transB ? p.n : p.k, p.transB ? p.k : p.n, p.ldb, p.strideB, p.count) ||
			!fits(p.C, p.typeC, p.m, p.n, p.ldc, p.strideC, p.count)) {
			fprintf(stderr, "emulator: an operand of cuBLAS lies outside device memory\n");
			return CUDA_ERROR_ILLEGAL_ADDRESS;
		}
		for (CUdeviceptr i = 0; i < (CUdeviceptr)p.count; i++)
			multiply(p, p.A + i * p.strideA * size_of(p.typeA), p.B + i * p.strideB * size_of(p.typeB), p.C + i * p.strideC * size_of(p.typeC));
		return CUDA_SUCCESS;
	}, nullptr, nullptr, {"cublas", nullptr}});
	return r ? EXECUTION_FAILED : DONE;
}

}

extern "C" {

int cublasCreate_v2(void **h) {
	Hold hold(guard);
	Context *c;
	CUresult r = enter(__func__, &c);
	if (r) return (int)r < 20 ? (int)r : NOT_INITIALIZED;
	Handle *n = new Handle{c};
	handles.insert(n);
	*h = n;
	return DONE;
}
int cublasDestroy_v2(void *h) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	handles.erase((Handle *)h);
	delete (Handle *)h;
	return DONE;
}
int cublasSetStream_v2(void *h, CUstream s) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	((Handle *)h)->stream = s;
	return DONE;
}
int cublasSetWorkspace_v2(void *h, void *at, size_t n) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	return (CUdeviceptr)at % 256 || (n && !inside((CUdeviceptr)at, n)) ? INVALID_VALUE : DONE;
}
int cublasSetMathMode(void *h, int mode) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	((Handle *)h)->mathMode = mode & 15;
	return DONE;
}
int cublasGetVersion_v2(void *h, int *v) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	*v = 120405;
	return DONE;
}

int cublasGemmEx(void *h, int transA, int transB, int m, int n, int k, const void *alpha, const void *A, int typeA, int lda, const void *B, int typeB, int ldb,
	const void *beta, void *C, int typeC, int ldc, int compute, int) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	return queue((Handle *)h, Product{transA != 0, transB != 0, false, m, n, k, typeA, typeB, typeC, lda, ldb, ldc, 1, *(const f32 *)alpha, *(const f32 *)beta,
		(CUdeviceptr)A, (CUdeviceptr)B, (CUdeviceptr)C, 0, 0, 0}, compute);
}
int cublasGemmStridedBatchedEx(void *h, int transA, int transB, int m, int n, int k, const void *alpha, const void *A, int typeA, int lda, long long strideA,
	const void *B, int typeB, int ldb, long long strideB, const void *beta, void *C, int typeC, int ldc, long long strideC, int count, int compute, int) {
	Hold hold(guard);
	if (int r = begin(__func__, h)) return r;
	return queue((Handle *)h, Product{transA != 0, transB != 0, false, m, n, k, typeA, typeB, typeC, lda, ldb, ldc, count, *(const f32 *)alpha,
		*(const f32 *)beta, (CUdeviceptr)A, (CUdeviceptr)B, (CUdeviceptr)C, strideA, strideB, strideC}, compute);
}
}
