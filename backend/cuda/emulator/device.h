// The words of kernels/device.h for a processor: a kernel compiled with these runs in the
// emulator, one fibre for each thread of a block. See engine.cpp for how, and for what is
// checked.
#ifndef SIFT_EMULATOR_DEVICE_H
#define SIFT_EMULATOR_DEVICE_H
#include <stddef.h>

#ifdef EMULATOR_NAMES
// scripts/cuda/emulator finds the kernels of a source in what the preprocessor makes of it.
#define KERNEL(threads, blocks) @kernel threads @
#else
#define KERNEL(threads, blocks) static void
#endif
#define DEVICE [[maybe_unused]] static inline
#define SHARED(T, name) \
	static char name##_key; \
	type_of<T> &name = *(type_of<T> *)emulator::shared_memory(&name##_key, sizeof(type_of<T>), alignof(type_of<T>))
#define DYNAMIC(T, name) type_of<T> &name = *(type_of<T> *)emulator::dynamic_memory(sizeof(type_of<T>))
#define UNROLL
#define UNROLL_BY_8
#define ONE_BY_ONE

namespace emulator {

struct Place {
	u32 thread, x, y, z, grid;
};

// where is the place of the running thread.
extern thread_local Place *where __attribute__((tls_model("initial-exec")));

// shared_memory is the block's variable that key stands for; dynamic_memory what the launch gave.
void *shared_memory(const void *key, size_t bytes, size_t align);
void *dynamic_memory(size_t bytes);

void block_barrier();

// What a warp does together. Each lane leaves its operands on its own stack.
enum Kind : u32 { SYNC, SHUFFLE_XOR, SHUFFLE, LOAD, LOAD_TRANSPOSED, MMA };
struct Operands {
	Kind kind;
	u32 in, which, out; // shuffles
	u32 *r;             // loads: four registers
	const void *row;    // loads
	f32 *d;             // mma
	const u32 *a, *b;   // mma
};
void warp_together(Operands *o);

void copy_later(void *to, const void *from, u32 bytes);
void close_group();
void wait_groups(int most);

}

DEVICE u32 thread() { return emulator::where->thread; }
DEVICE u32 block_x() { return emulator::where->x; }
DEVICE u32 block_y() { return emulator::where->y; }
DEVICE u32 block_z() { return emulator::where->z; }
DEVICE u32 grid_x() { return emulator::where->grid; }
DEVICE void barrier() { emulator::block_barrier(); }
DEVICE void warp_barrier() {
	emulator::Operands o;
	o.kind = emulator::SYNC;
	emulator::warp_together(&o);
}
DEVICE u32 shuffle_xor(u32 v, u32 mask) {
	emulator::Operands o;
	o.kind = emulator::SHUFFLE_XOR;
	o.in = v;
	o.which = mask;
	emulator::warp_together(&o);
	return o.out;
}
DEVICE u32 shuffle(u32 v, u32 from) {
	emulator::Operands o;
	o.kind = emulator::SHUFFLE;
	o.in = v;
	o.which = from;
	emulator::warp_together(&o);
	return o.out;
}
// Numbers below the normal ones count as 0, as ex2.approx.ftz has it.
DEVICE f32 exp2_fast(f32 x) {
	f32 y = __builtin_exp2f(x);
	return y < 1.17549435e-38f ? 0 : y;
}
DEVICE void copy16(void *shared, const void *global, u32 bytes) { emulator::copy_later(shared, global, bytes); }
DEVICE void copy_commit() { emulator::close_group(); }
template <int N> DEVICE void copy_wait() { emulator::wait_groups(N); }
DEVICE void load_matrices(u32 r[4], const void *row) {
	emulator::Operands o;
	o.kind = emulator::LOAD;
	o.r = r;
	o.row = row;
	emulator::warp_together(&o);
}
DEVICE void load_matrices_transposed(u32 r[4], const void *row) {
	emulator::Operands o;
	o.kind = emulator::LOAD_TRANSPOSED;
	o.r = r;
	o.row = row;
	emulator::warp_together(&o);
}
DEVICE void mma(f32 d[4], const u32 a[4], const u32 b[2]) {
	emulator::Operands o;
	o.kind = emulator::MMA;
	o.d = d;
	o.a = a;
	o.b = b;
	emulator::warp_together(&o);
}

#endif
