// Cross-entropy and entropy of the softmax of logits, which are float32, and the gradient.
#include "crossentropy.h"
#include "math.h"
#include "quad.h"

enum { IGNORED = -100 };

// Sums are a maximum m of logits x, s = sum e^(x-m) and w = sum e^(x-m) (x-m).
struct Sums {
	f32 m, s, w;
};

// raised returns a's sums relative to m >= a.m. With no logit but minus infinity a.m is minus infinity
// and the sums are 0, or NaN if there is a NaN.
DEVICE Sums raised(Sums a, f32 m) {
	f32 shift = a.m == -infinity() ? 0.0f : most(a.m - m, -1e30f);
	f32 c = exp_negative(shift);
	return Sums{m, a.s * c, c * fmaf(a.s, shift, a.w)};
}

DEVICE Sums joined(Sums a, Sums b) {
	f32 m = most(a.m, b.m);
	a = raised(a, m);
	b = raised(b, m);
	return Sums{m, a.s + b.s, a.w + b.w};
}

// Of both lanes of a pair the lower comes first, so that both get the same bits.
DEVICE Sums joined_across(Sums a, u32 mask) {
	Sums b{shuffle_xor(a.m, mask), shuffle_xor(a.s, mask), shuffle_xor(a.w, mask)};
	return lane() & mask ? joined(b, a) : joined(a, b);
}

struct CrossShared {
	Sums sums[CROSS_THREADS / 32];
	u32 beaten[CROSS_THREADS / 32];
};

// Per row, in one pass over the logits:
//
//   lse = m + log s,  loss = m - x[label] + log s,  entropy = log s - w / s
//
// A thread reads eight quads, raises its running maximum once and rescales its sums so far; the
// eight are summed by themselves, which keeps the error of long rows small. correct says whether
// the label is the first index of the largest logit: no logit exceeds its own or equals it further left.
KERNEL(256, 4) crossentropy(CrossEntropyParams p) {
	SHARED(CrossShared, s);
	const int BLOCK = 8;
	i64 row = block_x();
	const f32 *x = row_of<const f32>(p.x, row);
	u32 quads = (p.cols + 3) / 4;
	i32 label = in_global<const i32>(p.labels)[row];
	bool labelled = label != IGNORED;
	if (labelled && (label < 0 || (u32)label >= p.cols)) {
		if (thread() == 0) report(p.status, BAD_LABEL, (u32)row, label);
		labelled = false;
	}
	u32 place = labelled ? (u32)label : 0;
	f32 own = x[place];

	Sums total{-infinity(), 0, 0};
	bool beaten = false;
	for (u32 q0 = thread(); q0 < quads; q0 += CROSS_THREADS * BLOCK) {
		Four v[BLOCK];
		f32 m = total.m;
		UNROLL for (int b = 0; b < BLOCK; b++) {
			u32 j = 4 * (q0 + b * CROSS_THREADS);
			i64 n = (i64)p.cols - j;
			Four q = load_floats(x + (n > 0 ? j : 0), n, p.wide);
			UNROLL for (int k = 0; k < 4; k++) {
				f32 e = k < n ? q.v[k] : -infinity();
				v[b].v[k] = e;
				m = e > m ? e : m;
				beaten = beaten || e > own || (e == own && j + k < place);
			}
		}
		f32 top = m == -infinity() ? 0.0f : m;
		Four s4 = {}, w4 = {};
		UNROLL for (int b = 0; b < BLOCK; b++)
			UNROLL for (int k = 0; k < 4; k++) {
				f32 d = v[b].v[k] - top, e = exp_negative(d);
				s4.v[k] += e;
				// A logit of minus infinity adds 0, not NaN.
				w4.v[k] = fmaf(e, e == 0.0f ? 0.0f : d, w4.v[k]);
			}
		Sums before = raised(total, m);
		total = Sums{m, before.s + across(s4), before.w + across(w4)};
	}

	UNROLL for (u32 mask = 1; mask < 32; mask *= 2) {
		total = joined_across(total, mask);
		beaten = ((u32)beaten | shuffle_xor((u32)beaten, mask)) != 0;
	}
	if (lane() == 0) {
		s.sums[warp()] = total;
		s.beaten[warp()] = beaten;
	}
	barrier();
	if (thread() != 0) return;
	for (u32 i = 1; i < CROSS_THREADS / 32; i++) {
		total = joined(total, s.sums[i]);
		beaten = beaten || s.beaten[i];
	}
	// Nothing but minus infinity has no softmax.
	f32 sum = total.s == 0.0f ? float_of(0x7fc00000u) : total.s;
	f32 logS = log_of(sum);
	*row_of<f32>(p.entropy, row) = logS - total.w / sum;
	*row_of<f32>(p.lse, row) = total.m + logS;
	*row_of<f32>(p.loss, row) = labelled ? (total.m - own) + logS : 0.0f;
	*row_of<f32>(p.correct, row) = labelled && !beaten ? 1.0f : 0.0f;
}

// dx = scale (e^(x - lse) - onehot(label)), 0 in rows labelled -100; dx may be x.
template <class T> DEVICE void crossentropy_backward(const CrossEntropyBackwardParams &p) {
	u64 q = (u64)block_x() * 256 + thread();
	i64 row = (i64)(q / p.quads);
	if (row >= p.rows) return;
	u32 j = 4 * (u32)(q - (u64)row * p.quads);
	i64 n = (i64)p.cols - j;
	i32 label = in_global<const i32>(p.labels)[row];
	f32 lse = *row_of<const f32>(p.lse, row);
	if (j == 0 && label != IGNORED && (label < 0 || (u32)label >= p.cols)) report(p.status, BAD_LABEL, (u32)row, label);
	Four v = load_floats(row_of<const f32>(p.x, row) + j, n, p.wide);
	UNROLL for (int k = 0; k < 4; k++) {
		f32 e = exp_of(v.v[k] - lse);
		e = (i32)j + k == label ? e - 1.0f : e;
		v.v[k] = label == IGNORED ? 0.0f : p.scale * e;
	}
	store_floats(row_of<T>(p.dx, row) + j, v, n, p.wide);
}
KERNEL(256, 6) crossentropy_backward_f32(CrossEntropyBackwardParams p) { crossentropy_backward<f32>(p); }
KERNEL(256, 6) crossentropy_backward_bf16(CrossEntropyBackwardParams p) { crossentropy_backward<bf16>(p); }
