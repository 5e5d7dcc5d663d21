// What kernels are written in. One source has two compilers: clang makes PTX of it, and a
// C++ compiler makes the code that the emulator runs (emulator/device.h defines the same
// names there). Nothing else of CUDA may be used in a kernel, so that what is tested on a
// processor is what is compiled for the GPU.
//
//   KERNEL(threads, blocks) name(Params p)  a kernel for blocks of `threads` threads, of which a
//                                           multiprocessor should hold at least `blocks` at once
//   SHARED(Type, name)                      a variable shared by a block, not initialised, up to 48 KiB in all
//   DYNAMIC(Type, name)                     the same, of the size that the launch gives
//   thread() block_x() block_y() block_z() grid_x()
//   lane() warp()                           thread() % 32, thread() / 32
//   barrier()                               all threads of the block
//   warp_barrier()                          all lanes of the warp
//   shuffle_xor(v, mask)                    v (f32 or u32) of the lane whose number differs by mask
//   shuffle(v, from)                        v of lane `from`
//   copy16(shared, global, bytes)           asynchronous: copies 16 bytes of which all beyond the first
//                                           `bytes` (0 to 16) are zero; both addresses are multiples of 16
//   copy_commit(), copy_wait<N>()           closes a group of copies; waits until at most N groups are
//                                           under way. Other threads see the bytes after the next barrier
//   load_matrices(r, row)                   ldmatrix.x4: lane l names with `row` one row of 16 bytes in shared
//                                           memory, row l%8 of matrix l/8; r[i] receives two elements of matrix i:
//                                           row lane/4, columns 2 (lane%4) and the next
//   load_matrices_transposed(r, row)        the same of the transposed matrices
//   mma(d, a, b)                            d += a b in float32 on 16x16 by 16x8 tiles of bf16 (m16n8k16), fragments as
//                                           PTX lays them out
//   exp2_fast(x)                            2^x to about 2 units in the last place (ex2.approx.ftz); not the same
//                                           bits on a GPU and in the emulator
//
// The lanes of a warp call warp-wide operations together, all 32 of them.
#ifndef SIFT_CUDA_DEVICE_H
#define SIFT_CUDA_DEVICE_H
#include "types.h"

// type_of lets an array type stand before a name.
template <class T> using type_of = T;

#ifdef __CUDA__

#define KERNEL(threads, blocks) extern "C" __attribute__((global, launch_bounds(threads, blocks))) void
#define DEVICE static inline __attribute__((device, always_inline))
#define SHARED(T, name) __attribute__((shared)) type_of<T> name
#define DYNAMIC(T, name) type_of<T> &name = *(type_of<T> *)dynamic_shared
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_8 _Pragma("unroll 8")
#define ONE_BY_ONE _Pragma("unroll 1") // a loop that only takes registers when it is unrolled

extern __attribute__((shared, aligned(16))) unsigned char dynamic_shared[];

DEVICE u32 thread() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE u32 block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE u32 block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEVICE u32 block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEVICE u32 grid_x() { return __nvvm_read_ptx_sreg_nctaid_x(); }
DEVICE void barrier() { __nvvm_bar_sync(0); }
DEVICE void warp_barrier() { __nvvm_bar_warp_sync(~0u); }
DEVICE u32 shuffle_xor(u32 v, u32 mask) { return __nvvm_shfl_sync_bfly_i32(~0u, v, mask, 31); }
DEVICE u32 shuffle(u32 v, u32 from) { return __nvvm_shfl_sync_idx_i32(~0u, v, from, 31); }
DEVICE f32 exp2_fast(f32 x) { return __nvvm_ex2_approx_ftz_f(x); }

DEVICE u32 shared_address(const void *p) {
	return (u32)(u64)(__attribute__((address_space(3))) const void *)p;
}

DEVICE void copy16(void *shared, const void *global, u32 bytes) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
		"l"((__attribute__((address_space(1))) const void *)global), "r"(bytes) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

DEVICE void load_matrices(u32 r[4], const void *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		: "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void load_matrices_transposed(u32 r[4], const void *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		: "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void mma(f32 d[4], const u32 a[4], const u32 b[2]) {
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		: "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else
#include "../emulator/device.h"
#endif

DEVICE u32 lane() { return thread() & 31; }
DEVICE u32 warp() { return thread() >> 5; }
DEVICE u32 bits_of(f32 x) { return __builtin_bit_cast(u32, x); }
DEVICE f32 float_of(u32 x) { return __builtin_bit_cast(f32, x); }
DEVICE f32 shuffle_xor(f32 v, u32 mask) { return float_of(shuffle_xor(bits_of(v), mask)); }
DEVICE f32 shuffle(f32 v, u32 from) { return float_of(shuffle(bits_of(v), from)); }
DEVICE f32 fmaf(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
template <class T> DEVICE T least(T a, T b) { return a < b ? a : b; }
template <class T> DEVICE T most(T a, T b) { return a > b ? a : b; }

// bf16 is how a bfloat16 lies in memory: the upper half of a float32.
struct bf16 {
	u16 bits;
};

DEVICE f32 to_float(f32 x) { return x; }
DEVICE f32 to_float(bf16 x) { return float_of((u32)x.bits << 16); }

// round_to rounds to nearest, ties to even; every NaN becomes one, as cvt.rn.bf16 has it.
template <class T> DEVICE T round_to(f32 x) {
	if constexpr (sizeof(T) == sizeof(f32)) {
		return x;
	} else {
		u32 u = bits_of(x);
		if ((u & 0x7fffffffu) > 0x7f800000u) return T{0x7fff};
		return T{(u16)((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
	}
}

// pack rounds two floats to the two bf16 of a word, low first.
DEVICE u32 pack(f32 low, f32 high) {
#ifdef __CUDA__
	u32 r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
#else
	return round_to<bf16>(low).bits | (u32)round_to<bf16>(high).bits << 16;
#endif
}
DEVICE f32 low_of(u32 two) { return float_of(two << 16); }
DEVICE f32 high_of(u32 two) { return float_of(two & 0xffff0000u); }

// in_global is the pointer to device memory at an address, of a kind that the compiler knows to be
// global.
template <class T> DEVICE T *in_global(u64 at) {
#ifdef __CUDA__
	return (T *)(__attribute__((address_space(1))) T *)at;
#else
	return (T *)at;
#endif
}

// row_of is row i of a matrix.
template <class T> DEVICE T *row_of(Matrix m, i64 i) { return in_global<T>(m.at) + i * m.stride; }

#endif
