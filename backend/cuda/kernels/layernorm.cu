// LayerNorm with dropout and residual, and its backward pass.
#include "layernorm.h"
#include "math.h"
#include "quad.h"
#include "random.h"

// z = dropout(x) + residual, y = (z - mean) rstd gamma + beta.
//
// A first mean carries the rounding of the whole sum. The deviations from it are small, so their
// mean corrects it, and the variance about it, almost exactly. A row is read three times, but only
// once from beyond the cache.
template <class T> DEVICE void layernorm(const LayerNormParams &p) {
	i64 row = (i64)block_x() * NORM_WARPS + warp();
	if (row >= p.rows) return;
	bool stored = p.z.at != 0, drops = p.drop.threshold != 0, wide = p.wide != 0;
	const T *x = row_of<const T>(p.x, row), *residual = p.residual.at ? row_of<const T>(p.residual, row) : nullptr;
	T *z = stored ? row_of<T>(p.z, row) : nullptr, *y = row_of<T>(p.y, row);
	const T *input = stored ? z : x;
	const f32 *gamma = in_global<const f32>(p.gamma), *beta = in_global<const f32>(p.beta);
	RowKey key = drops ? key_of(p.drop, row) : RowKey{};

	Four sum = {};
	for (u32 j = 4 * lane(); j < p.cols; j += 128) {
		i64 n = p.cols - j;
		Four v = load_floats(x + j, n, wide);
		if (stored) {
			if (drops) {
				Four f = drop_factors(p.drop, key, p.cols, j);
				UNROLL for (int k = 0; k < 4; k++) v.v[k] *= f.v[k];
			}
			if (residual) {
				Four r = load_floats(residual + j, n, wide);
				UNROLL for (int k = 0; k < 4; k++) v.v[k] += r.v[k];
			}
			Quad<T> q = rounded<T>(v);
			store(z + j, q, n, wide);
			v = floats(q);
		}
		UNROLL for (int k = 0; k < 4; k++) sum.v[k] += k < n ? v.v[k] : 0.0f;
	}
	f32 mean = warp_sum(across(sum)) * p.share;

	Four square = {};
	sum = {};
	for (u32 j = 4 * lane(); j < p.cols; j += 128) {
		i64 n = p.cols - j;
		Four v = load_floats(input + j, n, wide);
		UNROLL for (int k = 0; k < 4; k++) {
			f32 d = k < n ? v.v[k] - mean : 0.0f;
			sum.v[k] += d;
			square.v[k] = fmaf(d, d, square.v[k]);
		}
	}
	f32 shift = warp_sum(across(sum)) * p.share;
	f32 variance = fmaf(-shift, shift, warp_sum(across(square)) * p.share);
	variance = variance < 0.0f ? 0.0f : variance;
	f32 rstd = 1.0f / root(variance + p.eps);
	mean += shift;

	for (u32 j = 4 * lane(); j < p.cols; j += 128) {
		i64 n = p.cols - j;
		Four v = load_floats(input + j, n, wide), g = load_floats(gamma + j, n, wide), b = load_floats(beta + j, n, wide);
		UNROLL for (int k = 0; k < 4; k++) v.v[k] = fmaf((v.v[k] - mean) * rstd, g.v[k], b.v[k]);
		store_floats(y + j, v, n, wide);
	}
	if (lane() == 0) {
		*row_of<f32>(p.mean, row) = mean;
		*row_of<f32>(p.rstd, row) = rstd;
	}
}
KERNEL(256, 3) layernorm_f32(LayerNormParams p) { layernorm<f32>(p); }
KERNEL(256, 3) layernorm_bf16(LayerNormParams p) { layernorm<bf16>(p); }

// With n = (z - mean) rstd and g = dy gamma:
//
//   dz = rstd (g - mean_j g_j - n mean_j (g_j n_j)),  dx = dz mask / (1-P)
template <class T> DEVICE void layernorm_backward(const LayerNormBackwardParams &p) {
	i64 row = (i64)block_x() * NORM_WARPS + warp();
	if (row >= p.rows) return;
	bool drops = p.drop.threshold != 0, wide = p.wide != 0;
	const T *dy = row_of<const T>(p.dy, row), *z = row_of<const T>(p.z, row);
	T *dz = row_of<T>(p.dz, row), *dx = p.dx.at ? row_of<T>(p.dx, row) : nullptr;
	const f32 *gamma = in_global<const f32>(p.gamma);
	f32 mean = *row_of<const f32>(p.mean, row), rstd = *row_of<const f32>(p.rstd, row);
	RowKey key = drops && dx ? key_of(p.drop, row) : RowKey{};

	Four s1 = {}, s2 = {};
	for (u32 j = 4 * lane(); j < p.cols; j += 128) {
		i64 n = p.cols - j;
		Four d = load_floats(dy + j, n, wide), g = load_floats(gamma + j, n, wide), v = load_floats(z + j, n, wide);
		UNROLL for (int k = 0; k < 4; k++) {
			f32 a = k < n ? d.v[k] * g.v[k] : 0.0f, h = k < n ? (v.v[k] - mean) * rstd : 0.0f;
			s1.v[k] += a;
			s2.v[k] = fmaf(a, h, s2.v[k]);
		}
	}
	f32 c1 = warp_sum(across(s1)) * p.share, c2 = warp_sum(across(s2)) * p.share;

	for (u32 j = 4 * lane(); j < p.cols; j += 128) {
		i64 n = p.cols - j;
		Four d = load_floats(dy + j, n, wide), g = load_floats(gamma + j, n, wide), v = load_floats(z + j, n, wide);
		UNROLL for (int k = 0; k < 4; k++) v.v[k] = rstd * fmaf(-((v.v[k] - mean) * rstd), c2, d.v[k] * g.v[k] - c1);
		store_floats(dz + j, v, n, wide);
		if (dx) {
			if (drops) {
				Four f = drop_factors(p.drop, key, p.cols, j);
				UNROLL for (int k = 0; k < 4; k++) v.v[k] *= f.v[k];
			}
			store_floats(dx + j, v, n, wide);
		}
	}
}
KERNEL(256, 4) layernorm_backward_f32(LayerNormBackwardParams p) { layernorm_backward<f32>(p); }
KERNEL(256, 4) layernorm_backward_bf16(LayerNormBackwardParams p) { layernorm_backward<bf16>(p); }

// Chunk sums of dy n and dy over rows, upwards.
template <class T> DEVICE void layernorm_gradient(const LayerNormGradientParams &p) {
	u32 j = block_x() * 128 + thread();
	if (j >= p.cols) return;
	i64 i = (i64)block_y() * NORM_CHUNK, end = least<i64>(i + NORM_CHUNK, p.rows);
	f32 gamma = 0, beta = 0;
	UNROLL_BY_8 for (; i < end; i++) {
		f32 d = to_float(row_of<const T>(p.dy, i)[j]);
		f32 n = (to_float(row_of<const T>(p.z, i)[j]) - *row_of<const f32>(p.mean, i)) * *row_of<const f32>(p.rstd, i);
		gamma = fmaf(d, n, gamma);
		beta += d;
	}
	f32 *part = row_of<f32>(p.part, block_y());
	part[j] = gamma;
	part[p.cols + j] = beta;
}
KERNEL(128, 8) layernorm_gradient_f32(LayerNormGradientParams p) { layernorm_gradient<f32>(p); }
KERNEL(128, 8) layernorm_gradient_bf16(LayerNormGradientParams p) { layernorm_gradient<bf16>(p); }
