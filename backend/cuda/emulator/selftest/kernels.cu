// Kernels that test the emulator: some right, others with one of the mistakes that it is to
// find.
#include "../../kernels/device.h"
#include "kernels.h"

// self_sum adds the n numbers of `in` by threads, warps, then the block: right in any order.
KERNEL(256, 1) self_sum(SelfParams p) {
	SHARED(f32[8], part);
	f32 s = 0;
	for (i32 i = thread(); i < p.n; i += 256) s += in_global<f32>(p.in)[i];
	for (u32 m = 16; m > 0; m /= 2) s += shuffle_xor(s, m);
	if (lane() == 0) part[warp()] = s;
	barrier();
	if (thread() == 0) {
		for (u32 i = 1; i < 8; i++) s += part[i];
		in_global<f32>(p.out)[block_x()] = s;
	}
}

// self_no_barrier turns a block's threads round without the barrier in between.
KERNEL(64, 1) self_no_barrier(SelfParams p) {
	SHARED(u32[64], v);
	v[thread()] = thread();
	if (p.which) barrier();
	in_global<u32>(p.out)[64 * block_x() + thread()] = v[63 - thread()];
}

// self_no_warp_barrier does so within a warp.
KERNEL(32, 1) self_no_warp_barrier(SelfParams p) {
	SHARED(u32[32], v);
	v[lane()] = lane();
	if (p.which) warp_barrier();
	in_global<u32>(p.out)[32 * block_x() + lane()] = v[31 - lane()];
}

// self_blocks leaves the number of the block that came last, which is nobody's to rely on.
KERNEL(32, 1) self_blocks(SelfParams p) {
	if (thread() == 0) in_global<u32>(p.out)[0] = block_x();
}

typedef f32 Vector __attribute__((vector_size(16)));

// self_mistake makes the mistake number `which`.
KERNEL(64, 1) self_mistake(SelfParams p) {
	SHARED(f32[256], v);
	f32 *out = in_global<f32>(p.out);
	u32 r[4];
	switch (p.which) {
	case 0: // half a block at a barrier
		if (thread() < 32) return;
		barrier();
		break;
	case 1: // half a warp at a shuffle
		if (lane() < 16) return;
		out[0] = shuffle_xor(1.0f, 1);
		break;
	case 2: // lanes at different operations
		if (lane() < 16) out[0] = shuffle_xor(1.0f, 1);
		else warp_barrier();
		break;
	case 3: // half a warp at a barrier, the other half at a shuffle
		if (lane() < 16) barrier();
		else out[0] = shuffle(1.0f, 0);
		break;
	case 4:
		copy16((char *)v + 4, in_global<f32>(p.in), 16);
		break;
	case 5:
		copy16(v, in_global<f32>(p.in) + 1, 16);
		break;
	case 6:
		load_matrices(r, (char *)v + 8);
		break;
	case 7: // not shared
		load_matrices(r, in_global<f32>(p.in));
		break;
	case 8: {
		SHARED(f32[12 << 10], large);
		large[thread()] = 1;
		break;
	}
	case 9: {
		DYNAMIC(f32[32], given);
		given[thread()] = 1;
		break;
	}
	case 10: // global memory that is nobody's
		out[(i64)1 << 30] = 1;
		break;
	case 11:
		out[p.n] = 1;
		break;
	case 12: // a vector at an address that is no multiple of its size
		*(Vector *)(out + p.n) = Vector{};
		break;
	case 13: { // behind the dynamic shared memory
		DYNAMIC(f32[1], given);
		given[p.n] = 1;
		break;
	}
	case 14: // behind a static shared variable: only the address checker sees it
		((f32 *)v)[p.n] = 1;
		break;
	case 15: // all of the stack and more
		for (volatile char *c = (char *)r;; c -= 1024) *c = 0;
	}
}

// self_copy copies 64 rows of 16 bytes, waiting for them as `which` says: 0 not at all, 1
// for all but the last group, 2 for all. Row i has i % 17 bytes; the rest is zero.
KERNEL(64, 1) self_copy(SelfParams p) {
	SHARED(u32[2][64][4], v);
	const u32 *in = in_global<const u32>(p.in);
	copy16(v[0][thread()], in + 4 * thread(), thread() % 17);
	copy_commit();
	copy16(v[1][thread()], in + 4 * thread(), 16);
	copy_commit();
	if (p.which == 1) copy_wait<1>();
	if (p.which == 2) copy_wait<0>();
	barrier();
	u32 *out = in_global<u32>(p.out);
	for (u32 i = 0; i < 4; i++) {
		out[4 * thread() + i] = v[0][63 - thread()][i];
		out[256 + 4 * thread() + i] = v[1][63 - thread()][i];
	}
}

// self_load stores what ldmatrix gives of a 32 x 8 array of 16-bit elements: registers of a lane.
KERNEL(32, 1) self_load(SelfParams p) {
	SHARED(u32[32][4], v);
	for (u32 i = 0; i < 4; i++) v[lane()][i] = in_global<u32>(p.in)[4 * lane() + i];
	warp_barrier();
	u32 r[4];
	if (p.which) load_matrices_transposed(r, v[lane()]);
	else load_matrices(r, v[lane()]);
	for (u32 i = 0; i < 4; i++) in_global<u32>(p.out)[4 * lane() + i] = r[i];
}

// self_mma stores D = A B + D of fragments in memory: A 4, B 2, D 4 words of each lane.
KERNEL(32, 1) self_mma(SelfParams p) {
	const u32 *in = in_global<const u32>(p.in) + 10 * lane();
	u32 a[4], b[2];
	f32 d[4];
	for (u32 i = 0; i < 4; i++) a[i] = in[i], d[i] = float_of(in[6 + i]);
	for (u32 i = 0; i < 2; i++) b[i] = in[4 + i];
	mma(d, a, b);
	for (u32 i = 0; i < 4; i++) in_global<f32>(p.out)[4 * lane() + i] = d[i];
}

// self_switch and self_products do n warp-wide operations, to be timed.
KERNEL(256, 1) self_switch(SelfParams p) {
	u32 v = lane();
	for (i32 i = 0; i < p.n; i++) v = shuffle_xor(v, 1) + 1;
	in_global<u32>(p.out)[thread()] = v;
}
KERNEL(256, 1) self_products(SelfParams p) {
	u32 a[4] = {lane(), 1, 2, 3}, b[2] = {4, 5};
	f32 d[4] = {};
	for (i32 i = 0; i < p.n; i++) mma(d, a, b);
	in_global<f32>(p.out)[thread()] = d[0] + d[1] + d[2] + d[3];
}

// self_place writes where each thread is, to see that all are run once.
KERNEL(64, 1) self_place(SelfParams p) {
	u32 *at = in_global<u32>(p.out) + ((block_z() * (u32)p.which + block_y()) * grid_x() + block_x()) * 64 + thread();
	__atomic_fetch_add(at, 1u, __ATOMIC_RELAXED);
}
