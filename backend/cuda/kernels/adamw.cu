// The optimiser: the norm of all gradients, and AdamW over flat vectors.
#include "adamw.h"
#include "math.h"
#include "quad.h"

// block_sum adds over the 256 threads of a block, in a tree; thread 0 gets the sum.
DEVICE f64 block_sum(f64 v) {
	SHARED(f64[256], tree);
	tree[thread()] = v;
	for (u32 span = 128; span > 0; span /= 2) {
		barrier();
		if (thread() < span) tree[thread()] += tree[thread() + span];
	}
	return tree[0];
}

KERNEL(256, 8) squares(SquaresParams p) {
	const f32 *x = in_global<const f32>(p.x);
	i64 first = (i64)block_x() * SQUARE_CHUNK, end = least<i64>(first + SQUARE_CHUNK, p.n);
	f64 sum = 0;
	for (i64 i = first + thread(); i < end; i += 256) sum += (f64)x[i] * (f64)x[i];
	sum = block_sum(sum);
	if (thread() == 0) in_global<f64>(p.part)[block_x()] = sum;
}

KERNEL(256, 1) squares_sum(SquaresSumParams p) {
	const f64 *part = in_global<const f64>(p.part);
	f64 sum = 0;
	for (u32 i = thread(); i < p.parts; i += 256) sum += part[i];
	sum = block_sum(sum);
	if (thread() == 0) *in_global<f32>(p.dst) = (f32)sum;
}

// sum_of is the sum of squares of all gradients, 0 if it is absent.
DEVICE f32 sum_of(const AdamWParams &p) {
	return p.norm == 0 ? 0.0f : p.norm == 2 ? (f32)*in_global<const f64>(p.sumSq) : *in_global<const f32>(p.sumSq);
}

// scale is gradScale * min(1, clip / (gradScale * sqrt(sum) + 1e-6)), NaN if the sum is.
DEVICE f32 scale(const AdamWParams &p, f32 sum) {
	if (p.clip == 0) return p.gradScale;
	f32 share = p.clip / fmaf(p.gradScale, root(sum), 1e-6f);
	return share > 1.0f ? p.gradScale : p.gradScale * share;
}

// adamw is one step, as backend.AdamWArgs writes it out:
//
//   g = grad * scale;  m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2
//   param -= decay param;  param -= rate m / (sqrt(v correct) + eps);  grad = 0;  half = param
//
// The host computes decay = lr * weight decay, rate = lr / (1 - beta1^step) and
// correct = 1 / (1 - beta2^step) in float64.
KERNEL(256, 4) adamw(AdamWParams p) {
	i64 i = 4 * ((i64)block_x() * 256 + thread()), n = p.n - i;
	if (n <= 0) return;
	f32 sum = sum_of(p), by = scale(p, sum);
	f32 *grad = in_global<f32>(p.grad) + i;
	if (p.guard && !(sum < infinity())) {
		store_floats(grad, Four{}, n, p.wide);
		return;
	}
	f32 *param = in_global<f32>(p.param) + i, *mp = in_global<f32>(p.m) + i, *vp = in_global<f32>(p.v) + i;
	Four x = load_floats<f32>(param, n, p.wide), g = load_floats<f32>(grad, n, p.wide), m = load_floats<f32>(mp, n, p.wide), v = load_floats<f32>(vp, n, p.wide);
	UNROLL for (int k = 0; k < 4; k++) {
		f32 d = g.v[k] * by;
		m.v[k] = fmaf(p.beta1, m.v[k], p.rest1 * d);
		v.v[k] = fmaf(p.beta2, v.v[k], p.rest2 * d * d);
		f32 y = fmaf(-p.decay, x.v[k], x.v[k]);
		x.v[k] = fmaf(-p.rate, m.v[k] / (root(v.v[k] * p.correct) + p.eps), y);
	}
	store_floats(param, x, n, p.wide);
	store_floats(mp, m, n, p.wide);
	store_floats(vp, v, n, p.wide);
	store_floats(grad, Four{}, n, p.wide);
	if (p.half) store_floats(in_global<bf16>(p.half) + i, x, n, p.wide);
}
