//go:build cuda && cgo && linux

package cuda

/*
#include "kernels/gemm.h"

static int gemm_shared(int side) { return GEMM_SHARED(side, side); }
*/
import "C"

import (
	"sift/backend"
	"sift/fault"
)

// gemmKernels are the kernels of one tile size, by whether A and B are transposed.
type gemmKernels [2][2]string

// gemmSet are the kernels of one choice of types, for large tiles and for small ones.
type gemmSet struct {
	large, small gemmKernels
	sum          string
	threads      [2]int // of a large and of a small tile
	shared       [2]int // bytes of dynamic shared memory
}

var (
	gemmF32 = gemmSet{
		large:   gemmKernels{{"gemm128_nn_f32", "gemm128_nt_f32"}, {"gemm128_tn_f32", "gemm128_tt_f32"}},
		small:   gemmKernels{{"gemm64_nn_f32", "gemm64_nt_f32"}, {"gemm64_tn_f32", "gemm64_tt_f32"}},
		sum:     "gemm_sum_f32",
		threads: [2]int{256, 256},
	}
	gemmBF16 = gemmSet{
		large:   gemmKernels{{"gemm128_nn_bf16", "gemm128_nt_bf16"}, {"gemm128_tn_bf16", "gemm128_tt_bf16"}},
		small:   gemmKernels{{"gemm64_nn_bf16", "gemm64_nt_bf16"}, {"gemm64_tn_bf16", "gemm64_tt_bf16"}},
		sum:     "gemm_sum_bf16",
		threads: [2]int{128, 128}, shared: [2]int{int(C.gemm_shared(128)), int(C.gemm_shared(64))},
	}
	gemmMixed = gemmSet{ // of bf16, into float32
		large:   gemmKernels{{"gemm128_nn_mixed", "gemm128_nt_mixed"}, {"gemm128_tn_mixed", "gemm128_tt_mixed"}},
		small:   gemmKernels{{"gemm64_nn_mixed", "gemm64_nt_mixed"}, {"gemm64_tn_mixed", "gemm64_tt_mixed"}},
		sum:     "gemm_sum_f32",
		threads: [2]int{128, 128}, shared: [2]int{int(C.gemm_shared(128)), int(C.gemm_shared(64))},
	}
)

// Gradients of weights sum over all rows of a batch and have few tiles. Where they would leave
// places idle, of which an A100 has two for a large tile on each of 108 multiprocessors, the sum is
// cut into pieces, whose sums are added in ascending order. That depends on the size of the weight
// and on k alone, not on the GPU, as it must: of a product without transposed A, k is a width of the
// model, and is never cut.
const (
	places      = 216
	leastTerms  = 1024 // of a piece
	mostPieces  = 16
	fullEnough  = 0.9
	termsModulo = 64 // a multiple of what a kernel takes at a time
)

// piecesOf returns into how many pieces a sum of k terms is cut for an m x n weight, and how many
// terms each but the last has: the fewest that keep places busy.
func piecesOf(m, n, k int) (pieces, terms int) {
	tiles := (m + 127) / 128 * ((n + 127) / 128)
	best, fullest := 1, 0.0
	for p := 1; p <= mostPieces && (p == 1 || k >= p*leastTerms) && fullest < fullEnough; p++ {
		waves := (tiles*p + places - 1) / places
		if full := float64(tiles*p) / float64(waves*places); full > fullest {
			best, fullest = p, full
		}
	}
	terms = max((k+best-1)/best, 1)
	terms = (terms + termsModulo - 1) / termsModulo * termsModulo
	return max((k+terms-1)/terms, 1), terms
}

// Gemm sets C to act(Alpha op(A) op(B) + Beta C + bias).
func (d *device) Gemm(a backend.GemmArgs) error { return d.gemm(a, 0) }

// gemm is Gemm with tiles of a side, 64 or 128; 0 chooses. The choice changes no bits.
func (d *device) gemm(a backend.GemmArgs, side int) error {
	if err := d.own("gemm", a.C, a.A, a.B, a.Bias, a.Pre); err != nil {
		return err
	}
	if d.blas.takes(a) {
		return d.blas.gemm(d, a)
	}
	m, n, k := a.C.Rows, a.C.Cols, a.A.Cols
	if a.TransA {
		k = a.A.Rows
	}
	if m == 0 || n == 0 {
		return nil
	}
	var set *gemmSet
	switch in, out := a.A.DType, a.C.DType; {
	case in == backend.F32 && out == backend.F32:
		set = &gemmF32
	case in == backend.BF16 && out == backend.BF16:
		set = &gemmBF16
	case in == backend.BF16 && out == backend.F32:
		set = &gemmMixed
	default:
		return fault.New(fault.Internal, "cuda: no product of %s into %s", in, out)
	}
	pieces, terms := 1, max(k, 1)
	if a.TransA {
		pieces, terms = piecesOf(m, n, k)
	}
	tiles := func(side int) int { return ((m + side - 1) / side) * ((n + side - 1) / side) }
	if side == 0 {
		side = 128
		if tiles(128)*pieces < d.multiprocessors {
			side = 64
		}
	}
	kernels, threads, shared := &set.large, set.threads[0], set.shared[0]
	if side == 64 {
		kernels, threads, shared = &set.small, set.threads[1], set.shared[1]
	}
	var part C.u64
	if pieces > 1 {
		at, err := d.scratch(4 * int64(pieces) * int64(m) * int64(n))
		if err != nil {
			return err
		}
		part = at
	}
	d.gemmParams(a, m, n, k, pieces, terms, part)
	if err := d.launch(kernels[flag(a.TransA)][flag(a.TransB)], tiles(side), 1, pieces, threads, shared); err != nil || pieces == 1 {
		return err
	}
	d.gemmParams(a, m, n, k, pieces, terms, part)
	return d.launch(set.sum, m, blocks256(quads(n)), 1, 256, 0)
}

// gemmParams fills in the parameters of the next launch.
func (d *device) gemmParams(a backend.GemmArgs, m, n, k, pieces, terms int, part C.u64) {
	p := (*C.GemmParams)(d.params())
	p.a, p.b, p.c, p.pre = matrix(a.A), matrix(a.B), matrix(a.C), matrix(a.Pre)
	p.bias, p.part = matrix(a.Bias).at, part
	p.m, p.n, p.k, p.chunk = C.i32(m), C.i32(n), C.i32(k), C.i32(terms)
	p.alpha, p.beta, p.act, p.pieces = C.f32(a.Alpha), C.f32(a.Beta), C.u32(a.Act), C.u32(pieces)
	p.wideA, p.wideB, p.wideC = vectors(a.A), vectors(a.B), wide(a.C, a.Pre, a.Bias)
}

// vectors reports whether every row of t begins at a multiple of 16 bytes.
func vectors(t backend.Tensor) C.u32 {
	n := 16 / t.DType.Size()
	if t.Off%n != 0 || t.Rows > 1 && t.Stride%n != 0 {
		return 0
	}
	return 1
}
