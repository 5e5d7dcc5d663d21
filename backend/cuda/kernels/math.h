// Elementary functions to about one unit in the last place, from +, *, /, fmaf and bits
// alone, so that they have the same bits on a GPU and in the emulator. NaN in gives NaN out.
#ifndef SIFT_CUDA_MATH_H
#define SIFT_CUDA_MATH_H
#include "device.h"

DEVICE f32 infinity() { return float_of(0x7f800000u); }
DEVICE bool is_nan(f32 x) { return (bits_of(x) & 0x7fffffffu) > 0x7f800000u; }
DEVICE f32 absolute(f32 x) { return float_of(bits_of(x) & 0x7fffffffu); }
DEVICE f32 clamp(f32 x, f32 low, f32 high) { return x < low ? low : x > high ? high : x; }
DEVICE f32 root(f32 x) { return __builtin_sqrtf(x); }

// exp_reduced returns e^(y - n ln 2), y - n ln 2 in [-ln2/2, ln2/2], by a polynomial of degree 6 (7e-9).
DEVICE f32 exp_reduced(f32 y, f32 n) {
	// ln 2 in two parts, the first with so few bits that n times it is exact.
	f32 r = y - n * 0.693359375f;
	r = r - n * -2.12194440e-4f;
	f32 p = fmaf(0.00139012851f, r, 0.00836315751f);
	p = fmaf(p, r, 0.0416668542f);
	p = fmaf(p, r, 0.166665778f);
	p = fmaf(p, r, 0.5f);
	return 1.0f + fmaf(p, r * r, r);
}

// exp_of is e^x: infinity above 88.72, 0 below -105.
DEVICE f32 exp_of(f32 x) {
	f32 y = clamp(x, -105.0f, 90.0f);
	f32 n = __builtin_floorf(fmaf(y, 1.44269504f, 0.5f));
	i32 k = (i32)n, half = k >> 1;
	f32 e = exp_reduced(y, n) * float_of((u32)(half + 127) << 23) * float_of((u32)(k - half + 127) << 23);
	return is_nan(x) ? x : e;
}

// exp_negative is exp_of for x <= 0, minus infinity and NaN included: 0 below -87.33, where e^x ceases to be normal.
DEVICE f32 exp_negative(f32 x) {
	f32 y = x > -87.33f ? x : -87.33f;
	f32 n = __builtin_floorf(fmaf(y, 1.44269504f, 0.5f));
	f32 e = exp_reduced(y, n) * float_of((u32)((i32)n + 127) << 23);
	return is_nan(x) ? x : x < -87.33f ? 0.0f : e;
}

// log_of is the natural logarithm: x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt 2), s = f / (2 + f) and
// log(1 + f) = f - f^2/2 + s (f^2/2 + R), R = s^2 (2/3 + 2/5 s^2 + 2/7 s^4 + 2/9 s^6).
DEVICE f32 log_of(f32 x) {
	f32 y = x;
	i32 k = 0;
	if (bits_of(x) < 0x00800000u) {
		y = x * 8388608.0f;
		k = -23;
	}
	u32 high = bits_of(y) + (0x3f800000u - 0x3f3504f3u);
	k += (i32)(high >> 23) - 127;
	f32 f = float_of((high & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
	f32 s = f / (2.0f + f), z = s * s;
	f32 r = z * fmaf(fmaf(fmaf(0.222222222f, z, 0.285714286f), z, 0.4f), z, 0.666666667f);
	f32 h = 0.5f * f * f;
	f32 low = s * (h + r) + (f32)k * -2.12194440e-4f;
	f32 v = ((low - h) + f) + (f32)k * 0.693359375f;
	if (is_nan(x) || bits_of(x) == 0x7f800000u) return x;
	if ((bits_of(y) & 0x7fffffffu) == 0) return -infinity();
	return bits_of(x) >> 31 ? float_of(0x7fc00000u) : v;
}

// tanh_of is sign(x) (1 - 2e / (1 + e)), e = e^(-2|x|); below 0.6, where that cancels, the odd
// polynomial x + x^3 P(x^2), P of degree 4 (2e-8 of the whole).
DEVICE f32 tanh_of(f32 x) {
	f32 a = absolute(x), t = x * x;
	f32 e = exp_negative(-2.0f * a);
	f32 big = 1.0f - 2.0f * e / (1.0f + e);
	f32 p = fmaf(-0.00604549889f, t, 0.0209616031f);
	p = fmaf(p, t, -0.0538433343f);
	p = fmaf(p, t, 0.133327201f);
	p = fmaf(p, t, -0.333333284f);
	f32 small = fmaf(p * t, x, x);
	f32 y = a < 0.6f ? small : x < 0.0f ? -big : big;
	return is_nan(x) ? x : y;
}

// erf_of is x P(x^2) / Q(x^2), both of degree 5 (2e-8), on |x| <= 3.92, beyond which it is 1 or -1.
DEVICE f32 erf_of(f32 x) {
	f32 y = clamp(x, -3.925f, 3.925f), t = y * y;
	f32 p = fmaf(2.03612035e-06f, t, 0.000284743001f);
	f32 q = fmaf(3.79401936e-05f, t, 0.00116705801f);
	p = fmaf(p, t, 0.00378939975f);
	q = fmaf(q, t, 0.0150172282f);
	p = fmaf(p, t, 0.0528194159f);
	q = fmaf(q, t, 0.114362024f);
	p = fmaf(p, t, 0.191049978f);
	q = fmaf(q, t, 0.502646327f);
	p = fmaf(p, t, 1.12837911f);
	q = fmaf(q, t, 1.0f);
	return is_nan(x) ? x : clamp(y * p / q, -1.0f, 1.0f);
}

// Acts are the numbers of backend.Activation.
enum Act : u32 { LINEAR = 0, GELU_ERF = 1, GELU_TANH = 2 };

// logistic is 1 / (1 + e^(-2u)) and, in gap, its product with 1 minus itself, from
// e = e^(-2|u|), which does not overflow and keeps small values exact.
DEVICE f32 logistic(f32 u, f32 &gap) {
	f32 e = exp_negative(-2.0f * absolute(u));
	f32 r = 1.0f / (1.0f + e);
	gap = e * r * r;
	return u < 0.0f ? e * r : r;
}

// activate is act(x):
//
//   erf:  x/2 (1 + erf(x / sqrt 2))
//   tanh: x/2 (1 + tanh u) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
DEVICE f32 activate(u32 act, f32 x) {
	if (act == GELU_ERF) {
		f32 h = 0.5f * x;
		return fmaf(h, erf_of(x * 0.707106781f), h);
	}
	if (act == GELU_TANH) {
		f32 y = clamp(x, -50.0f, 50.0f), gap;
		f32 s = logistic(0.797884561f * fmaf(y * y * y, 0.044715f, y), gap);
		return is_nan(x) ? x : x * s;
	}
	return x;
}

// slope is act'(x):
//
//   erf:  (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2/2) / sqrt(2 pi)
//   tanh: s + x 2 s (1-s) u', s = 1 / (1 + e^(-2u)), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)
//
// Beyond 50 both are 0 or 1, which keeps squares and cubes finite.
DEVICE f32 slope(u32 act, f32 x) {
	if (act == LINEAR) return 1.0f;
	f32 y = clamp(x, -50.0f, 50.0f), t = y * y, v;
	if (act == GELU_ERF) {
		f32 density = exp_negative(-0.5f * t) * 0.398942280f;
		v = fmaf(y, density, fmaf(0.5f, erf_of(y * 0.707106781f), 0.5f));
	} else {
		f32 gap;
		f32 s = logistic(0.797884561f * fmaf(y * t, 0.044715f, y), gap);
		v = fmaf(y * gap, 1.595769122f * fmaf(t, 0.134145f, 1.0f), s);
	}
	return is_nan(x) ? x : v;
}

#endif
