// Operations on each element alone, and dropout.
#include "each.h"
#include "math.h"
#include "quad.h"
#include "random.h"

// Spot is the place of a thread's quad.
struct Spot {
	i64 row, col, n; // n: elements from col to the end of the row
	bool here;
};

DEVICE Spot spot(const EachParams &p) {
	u64 q = (u64)block_x() * 256 + thread();
	Spot s;
	s.row = p.rows == 1 ? 0 : (i64)(q / p.quads);
	s.col = 4 * (i64)(q - (u64)s.row * p.quads);
	s.n = p.cols - s.col;
	s.here = s.row < p.rows && s.n > 0;
	return s;
}

template <class T> DEVICE void zero(const EachParams &p) {
	Spot s = spot(p);
	if (s.here) store(row_of<T>(p.y, s.row) + s.col, Quad<T>{}, s.n, p.wide);
}
KERNEL(256, 8) zero2(EachParams p) { zero<u16>(p); }
KERNEL(256, 8) zero4(EachParams p) { zero<u32>(p); }

template <class T> DEVICE void copy(const EachParams &p) {
	Spot s = spot(p);
	if (s.here) store(row_of<T>(p.y, s.row) + s.col, load(row_of<const T>(p.x, s.row) + s.col, s.n, p.wide), s.n, p.wide);
}
KERNEL(256, 8) copy2(EachParams p) { copy<u16>(p); }
KERNEL(256, 8) copy4(EachParams p) { copy<u32>(p); }

template <class To, class From> DEVICE void convert(const EachParams &p) {
	Spot s = spot(p);
	if (s.here) store_floats(row_of<To>(p.y, s.row) + s.col, load_floats(row_of<const From>(p.x, s.row) + s.col, s.n, p.wide), s.n, p.wide);
}
KERNEL(256, 8) convert_to_bf16(EachParams p) { convert<bf16, f32>(p); }
KERNEL(256, 8) convert_to_f32(EachParams p) { convert<f32, bf16>(p); }

// add: y += x.
template <class T> DEVICE void add(const EachParams &p) {
	Spot s = spot(p);
	if (!s.here) return;
	T *y = row_of<T>(p.y, s.row) + s.col;
	Four a = load_floats<T>(y, s.n, p.wide), b = load_floats(row_of<const T>(p.x, s.row) + s.col, s.n, p.wide);
	UNROLL for (int k = 0; k < 4; k++) a.v[k] += b.v[k];
	store_floats(y, a, s.n, p.wide);
}
KERNEL(256, 8) add_f32(EachParams p) { add<f32>(p); }
KERNEL(256, 8) add_bf16(EachParams p) { add<bf16>(p); }

// change: y = x after f(x, spot) has changed it, four elements a thread; y may be x.
template <class T, class F> DEVICE void change(const EachParams &p, F f) {
	Spot s = spot(p);
	if (!s.here) return;
	Four x = load_floats(row_of<const T>(p.x, s.row) + s.col, s.n, p.wide);
	f(x, s);
	store_floats(row_of<T>(p.y, s.row) + s.col, x, s.n, p.wide);
}

template <class T> DEVICE Four beside(const EachParams &p, const Spot &s) {
	return load_floats(row_of<const T>(p.z, s.row) + s.col, s.n, p.wide);
}

// gelu_backward: y = x act'(z).
template <class T> DEVICE void gelu_backward(const EachParams &p) {
	change<T>(p, [&](Four &g, const Spot &s) {
		Four z = beside<T>(p, s);
		UNROLL for (int k = 0; k < 4; k++) g.v[k] *= slope(p.act, z.v[k]);
	});
}
KERNEL(256, 4) gelu_backward_f32(EachParams p) { gelu_backward<f32>(p); }
KERNEL(256, 4) gelu_backward_bf16(EachParams p) { gelu_backward<bf16>(p); }

// tanh: y = tanh x.
template <class T> DEVICE void tanh_forward(const EachParams &p) {
	change<T>(p, [&](Four &x, const Spot &) {
		UNROLL for (int k = 0; k < 4; k++) x.v[k] = tanh_of(x.v[k]);
	});
}
KERNEL(256, 4) tanh_f32(EachParams p) { tanh_forward<f32>(p); }
KERNEL(256, 4) tanh_bf16(EachParams p) { tanh_forward<bf16>(p); }

// tanh_backward: y = x (1 - z^2).
template <class T> DEVICE void tanh_backward(const EachParams &p) {
	change<T>(p, [&](Four &g, const Spot &s) {
		Four z = beside<T>(p, s);
		UNROLL for (int k = 0; k < 4; k++) g.v[k] *= fmaf(-z.v[k], z.v[k], 1.0f);
	});
}
KERNEL(256, 8) tanh_backward_f32(EachParams p) { tanh_backward<f32>(p); }
KERNEL(256, 8) tanh_backward_bf16(EachParams p) { tanh_backward<bf16>(p); }

// dropout: y = x mask / (1-P). A quad begins at element 4 n of its row, but its row at any element
// of its sample.
template <class T> DEVICE void dropout(const EachParams &p) {
	change<T>(p, [&](Four &x, const Spot &s) {
		Four f = drop_factors(p.drop, key_of(p.drop, s.row), (u32)p.cols, (u32)s.col);
		UNROLL for (int k = 0; k < 4; k++) x.v[k] *= f.v[k];
	});
}
KERNEL(256, 8) dropout_f32(EachParams p) { dropout<f32>(p); }
KERNEL(256, 8) dropout_bf16(EachParams p) { dropout<bf16>(p); }
