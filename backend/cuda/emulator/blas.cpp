// cuBLAS on the processor: as much of it as package cuda calls. Products are queued like
// kernels. Sums are float32, in ascending k; a real cuBLAS adds in another order.
#include "../driver/cuda.h"
#include "../kernels/types.h"
#include "driver.h"
#include <vector>

namespace {

struct Handle {
	CUstream stream = nullptr;
};

f32 element(const void *p, int type, size_t i) {
	if (type == 0) return ((const f32 *)p)[i];
	return __builtin_bit_cast(f32, (u32)((const u16 *)p)[i] << 16);
}

void put(void *p, int type, size_t i, f32 v) {
	if (type == 0) {
		((f32 *)p)[i] = v;
		return;
	}
	u32 u = __builtin_bit_cast(u32, v);
	((u16 *)p)[i] = (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

}

extern "C" {

int cublasCreate_v2(void **h) {
	*h = new Handle;
	return 0;
}
int cublasDestroy_v2(void *h) {
	delete (Handle *)h;
	return 0;
}
int cublasSetStream_v2(void *h, CUstream s) {
	((Handle *)h)->stream = s;
	return 0;
}
int cublasSetWorkspace_v2(void *, void *, size_t) { return 0; }
int cublasGetVersion_v2(void *, int *v) {
	*v = 120405;
	return 0;
}

int cublasGemmEx(void *h, int transA, int transB, int m, int n, int k, const void *alpha, const void *A, int typeA, int lda, const void *B, int typeB, int ldb,
	const void *beta, void *C, int typeC, int ldc, int compute, int) {
	if (typeA != typeB || (typeA != 0 && typeA != 14) || (typeC != 0 && typeC != 14) || compute != 68) return 15;
	if (lda < (transA ? k : m) || ldb < (transB ? n : k) || ldc < m) return 7;
	f32 by = *(const f32 *)alpha, keep = *(const f32 *)beta;
	return emulator_queue(((Handle *)h)->stream, [=] {
		std::vector<f32> sum(m);
		for (int j = 0; j < n; j++) {
			for (int i = 0; i < m; i++) sum[i] = 0;
			for (int l = 0; l < k; l++) {
				f32 b = element(B, typeB, transB ? (size_t)l * ldb + j : (size_t)j * ldb + l);
				for (int i = 0; i < m; i++) sum[i] += element(A, typeA, transA ? (size_t)i * lda + l : (size_t)l * lda + i) * b;
			}
			for (int i = 0; i < m; i++) {
				size_t at = (size_t)j * ldc + i;
				put(C, typeC, at, by * sum[i] + (keep ? keep * element(C, typeC, at) : 0));
			}
		}
	}) ? 13 : 0;
}
}
