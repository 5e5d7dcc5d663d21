//go:build cuda && cgo && linux

package cuda

/*
#include "blas.h"
#include "kernels/epilogue.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"sift/backend"
)

// blasWorkspace is what cuBLAS may use: as much as it asks for on sm_90.
const blasWorkspace = 32 << 20

// blas is an open cuBLAS. Which kernel it takes depends on all sizes of a product, so that a
// row's last bits may depend on how many rows there are: steps that reuse the prefix and
// steps that do not are then equal only up to rounding.
type blas struct {
	handle    unsafe.Pointer
	workspace *buffer
	product   C.sift_blas_product
	products  int // so far
}

// blasLibrary returns the name of the library, or why there is none.
func blasLibrary() (string, error) {
	var why [256]C.char
	if name := C.sift_blas_load(&why[0], C.int(len(why))); name != nil {
		return C.GoString(name), nil
	}
	return "", none("%w: %s", ErrCuBLAS, C.GoString(&why[0]))
}

// openBLAS makes the device's products go to cuBLAS.
func (d *device) openBLAS() error {
	name, err := blasLibrary()
	if err != nil {
		return err
	}
	b := &blas{}
	if b.workspace, err = d.newBuffer(blasWorkspace); err != nil {
		return err
	}
	if r := C.sift_blas_create(cContext(d.context), cStream(d.stream), C.CUdeviceptr(b.workspace.at), blasWorkspace, &b.handle); r != 0 {
		return none("%w: %s does not start: status %d", ErrCuBLAS, name, int(r))
	}
	var version C.int
	if r := C.sift_blas_version(cContext(d.context), b.handle, &version); r != 0 {
		return none("%w: %s does not start: status %d", ErrCuBLAS, name, int(r))
	}
	d.blasName = blasVersion(int(version))
	if d.tf32 {
		d.blasName += " in TF32"
	}
	d.blas = b
	return nil
}

// blasVersion writes 120405 as cuBLAS 12.4.5. Up to 11 the major version counted thousands: 12103
// is 11.11.3.
func blasVersion(v int) string {
	major, unit := v/10000, 10000
	if v < 120000 {
		major, unit = 11, 1000
	}
	v -= major * unit
	return fmt.Sprintf("cuBLAS %d.%d.%d", major, v/100, v%100)
}

func (b *blas) close(d *device) error {
	if r := C.sift_blas_destroy(cContext(d.context), b.handle); r != 0 {
		return none("close cuBLAS: status %d", int(r))
	}
	return nil
}

// takes reports whether cuBLAS makes a product. Those of bfloat16 that have a bias, an activation
// or Pre stay with own kernels, which do all that on the way: after cuBLAS it would be another
// pass over memory, which costs what cuBLAS gains.
func (b *blas) takes(a backend.GemmArgs) bool {
	return b != nil && (a.A.DType == backend.F32 || plain(a))
}

func plain(a backend.GemmArgs) bool {
	return a.Bias.Absent() && a.Pre.Absent() && a.Act == backend.Linear
}

// gemm is Gemm by cuBLAS. It works on columns: C^T = op(B)^T op(A)^T. Bias, activation and Pre
// come after. Gradients of weights are cut as piecesOf says: the
// pieces of equal length are one batch.
func (b *blas) gemm(d *device, a backend.GemmArgs) error {
	if err := d.usable(); err != nil {
		return err
	}
	m, n, k := a.C.Rows, a.C.Cols, a.A.Cols
	if a.TransA {
		k = a.A.Rows
	}
	if m == 0 || n == 0 {
		return nil
	}
	p := &b.product
	*p = C.sift_blas_product{transA: flag(a.TransB), transB: flag(a.TransA), m: C.int(n), n: C.int(m), k: C.int(k), count: 1,
		ab: blasType(a.A.DType), c: blasType(a.C.DType), alpha: C.float(a.Alpha), beta: C.float(a.Beta),
		A: C.CUdeviceptr(matrix(a.B).at), B: C.CUdeviceptr(matrix(a.A).at), C: C.CUdeviceptr(matrix(a.C).at),
		lda: C.int(max(a.B.Stride, 1)), ldb: C.int(max(a.A.Stride, 1)), ldc: C.int(a.C.Stride)}
	if d.tf32 && a.A.DType == backend.F32 {
		p.tf32 = 1
	}
	if a.TransA {
		if pieces, terms := piecesOf(m, n, k); pieces > 1 {
			return b.inPieces(d, a, k, pieces, terms)
		}
	}
	if err := b.multiply(d); err != nil || plain(a) {
		return err
	}
	e := (*C.EpilogueParams)(d.params())
	e.to, e.pre, e.bias = matrix(a.C), matrix(a.Pre), matrix(a.Bias).at
	e.rows, e.cols, e.act = C.i32(m), C.i32(n), C.u32(a.Act)
	return d.launch("epilogue", m, (n+255)/256, 1, 256, 0)
}

// inPieces makes sums of `terms` of the k rows of A and of op(B) each, in float32, and adds them up in
// ascending order with the rest of a.
func (b *blas) inPieces(d *device, a backend.GemmArgs, k, pieces, terms int) error {
	m, n := a.C.Rows, a.C.Cols
	part, err := d.scratch(4 * int64(pieces) * int64(m) * int64(n))
	if err != nil {
		return err
	}
	p := &b.product
	p.alpha, p.beta, p.c, p.C, p.ldc = 1, 0, C.SIFT_BLAS_F32, C.CUdeviceptr(part), C.int(n)
	p.strideA, p.strideB, p.strideC = C.longlong(terms)*C.longlong(p.lda), C.longlong(terms)*C.longlong(p.ldb), C.longlong(m)*C.longlong(n)
	if a.TransB {
		p.strideA = C.longlong(terms)
	}
	p.k, p.count = C.int(terms), C.int(k/terms)
	if err := b.multiply(d); err != nil {
		return err
	}
	if rest := k % terms; rest > 0 {
		size := C.CUdeviceptr(a.A.DType.Size())
		p.A += C.CUdeviceptr(p.count) * C.CUdeviceptr(p.strideA) * size
		p.B += C.CUdeviceptr(p.count) * C.CUdeviceptr(p.strideB) * size
		p.C += C.CUdeviceptr(p.count) * C.CUdeviceptr(p.strideC) * 4
		p.k, p.count = C.int(rest), 1
		if err := b.multiply(d); err != nil {
			return err
		}
	}
	d.gemmParams(a, m, n, k, pieces, terms, part)
	return d.launch(typed(a.C.DType, "gemm_sum_f32", "gemm_sum_bf16"), m, blocks256(quads(n)), 1, 256, 0)
}

// multiply enqueues b.product.
func (b *blas) multiply(d *device) error {
	if err := d.flush(); err != nil {
		return err
	}
	p, name := &b.product, "cublas_gemm"
	if p.count > 1 {
		name = "cublas_gemm_batched"
	}
	if d.profile != nil {
		if err := d.profile.begin(d, name); err != nil {
			return err
		}
	}
	if r := C.sift_blas_gemm(cContext(d.context), b.handle, p); r != 0 {
		return none("cuBLAS: product of %d x %d x %d: status %d", int(p.n), int(p.m), int(p.k), int(r))
	}
	b.products += int(p.count)
	if d.profile != nil {
		return d.profile.end(d)
	}
	return nil
}

func blasType(t backend.DType) C.int {
	if t == backend.BF16 {
		return C.SIFT_BLAS_BF16
	}
	return C.SIFT_BLAS_F32
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
