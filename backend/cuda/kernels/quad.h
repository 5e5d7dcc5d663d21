// Four neighbouring elements, which is what a thread loads and stores at once where the
// addresses allow it. Whether they do changes nothing in the result.
#ifndef SIFT_CUDA_QUAD_H
#define SIFT_CUDA_QUAD_H
#include "device.h"

// Quad is four elements, of which the first n are in the row.
template <class T> struct Quad {
	T v[4];
};

struct alignas(16) Words16 {
	u32 w[4];
};
struct alignas(8) Words8 {
	u32 w[2];
};

// load reads the first n of four elements at p, and leaves the others 0. With wide, p is a
// multiple of four elements.
template <class T> DEVICE Quad<T> load(const T *p, i64 n, bool wide) {
	Quad<T> q;
	if (wide && n >= 4) {
		if constexpr (sizeof(T) == 4) {
			q = __builtin_bit_cast(Quad<T>, *(const Words16 *)p);
		} else {
			q = __builtin_bit_cast(Quad<T>, *(const Words8 *)p);
		}
		return q;
	}
	UNROLL for (int k = 0; k < 4; k++) q.v[k] = k < n ? p[k] : T{};
	return q;
}

// store writes the first n of four elements.
template <class T> DEVICE void store(T *p, Quad<T> q, i64 n, bool wide) {
	if (wide && n >= 4) {
		if constexpr (sizeof(T) == 4) {
			*(Words16 *)p = __builtin_bit_cast(Words16, q);
		} else {
			*(Words8 *)p = __builtin_bit_cast(Words8, q);
		}
		return;
	}
	UNROLL for (int k = 0; k < 4; k++)
		if (k < n) p[k] = q.v[k];
}

// Four floats of a quad of any type.
struct Four {
	f32 v[4];
};

template <class T> DEVICE Four floats(Quad<T> q) {
	Four f;
	UNROLL for (int k = 0; k < 4; k++) f.v[k] = to_float(q.v[k]);
	return f;
}

template <class T> DEVICE Quad<T> rounded(Four f) {
	Quad<T> q;
	UNROLL for (int k = 0; k < 4; k++) q.v[k] = round_to<T>(f.v[k]);
	return q;
}

template <class T> DEVICE Four load_floats(const T *p, i64 n, bool wide) { return floats(load(p, n, wide)); }
template <class T> DEVICE void store_floats(T *p, Four f, i64 n, bool wide) { store(p, rounded<T>(f), n, wide); }

DEVICE f32 across(Four f) { return (f.v[0] + f.v[2]) + (f.v[1] + f.v[3]); }

// warp_sum adds over the lanes, in a butterfly, and returns the sum to all.
DEVICE f32 warp_sum(f32 v) {
	UNROLL for (u32 mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
	return v;
}

// report leaves word of an index or label outside its table. Of several one stays; they may
// mix, since no atomic operation is worth it for a message.
enum Report : u32 { BAD_INDEX = 1, BAD_LABEL = 2, BAD_SEQUENCE = 3 };

DEVICE void report(u64 status, u32 code, u32 at, i32 value) {
	u32 *word = in_global<u32>(status);
	if (word[0] == 0) {
		word[1] = at;
		word[2] = (u32)value;
		word[0] = code;
	}
}

#endif
