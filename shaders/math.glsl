// Elementary functions to about one unit in the last place. Vulkan allows the built-in
// ones, and even division and square root, errors that the conformance suite does not;
// these use only +, *, fma, rounding and bits. fma need not be fused, so nothing here
// relies on it. NaN in gives NaN out everywhere, although comparisons and clamps of the
// language may lose it: it is looked for by its bits.
#ifndef SIFT_MATH
#define SIFT_MATH

// Macros, since a constant may not be made from bits.
#define positiveInfinity uintBitsToFloat(0x7f800000u)
#define notANumber uintBitsToFloat(0x7fc00000u)

// isNaN looks at the bits: a compiler may assume that NaN does not occur.
bool isNaN(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

// isFinite is false for infinities and NaN.
bool isFinite(float x) { return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u; }

// divOf returns a / b with one Newton step on the remainder, where that is finite.
float divOf(float a, float b) {
    precise float q = a / b;
    precise float r = fma(-q, b, a);
    precise float d = r / b;
    precise float s = q + d;
    return isFinite(s) ? s : q;
}

// sqrtOf returns the square root of x >= 0 with one Newton step.
float sqrtOf(float x) {
    precise float y = sqrt(x);
    precise float r = fma(-y, y, x);
    precise float s = y + r * (0.5 / y);
    return isFinite(s) ? s : y;
}

// exp2Scale returns p 2^n for n in [-252, 254], in two steps so that neither factor overflows.
float exp2Scale(float p, int n) {
    int m = n >> 1;
    return p * intBitsToFloat((m + 127) << 23) * intBitsToFloat((n - m + 127) << 23);
}

// expOf returns e^x = 2^n e^r, n = round(x / ln 2), r in [-ln2/2, ln2/2], e^r by a polynomial of
// degree 6 (7e-9). Above 88.72 it is infinity; below -87.3 the result may be flushed to 0.
float expOf(float x) {
    float y = clamp(x, -105.0, 90.0);
    float n = floor(fma(y, 1.44269504, 0.5));
    // ln 2 in two parts, the first with so few bits that n times it is exact.
    precise float r = y - n * 0.693359375;
    r = r - n * -2.12194440e-4;
    float p = fma(0.00139012851, r, 0.00836315751);
    p = fma(p, r, 0.0416668542);
    p = fma(p, r, 0.166665778);
    p = fma(p, r, 0.5);
    precise float e = 1.0 + fma(p, r * r, r);
    return isNaN(x) ? x : exp2Scale(e, int(n));
}

// expNegative is expOf for x <= 0, minus infinity and NaN included: 0 below -87.33, where e^x ceases to be normal.
float expNegative(float x) {
    float y = max(x, -87.33);
    float n = floor(fma(y, 1.44269504, 0.5));
    precise float r = y - n * 0.693359375;
    r = r - n * -2.12194440e-4;
    float p = fma(0.00139012851, r, 0.00836315751);
    p = fma(p, r, 0.0416668542);
    p = fma(p, r, 0.166665778);
    p = fma(p, r, 0.5);
    precise float e = 1.0 + fma(p, r * r, r);
    e *= intBitsToFloat((int(n) + 127) << 23);
    return isNaN(x) ? x : (x < -87.33 ? 0.0 : e);
}

// logOf returns the natural logarithm: x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt 2), s = f / (2 + f) and
// log(1 + f) = f - f^2/2 + s (f^2/2 + R), R = s^2 (2/3 + 2/5 s^2 + 2/7 s^4 + 2/9 s^6).
// log 0 is minus infinity, of a negative number NaN. Denormal numbers may count as 0.
float logOf(float x) {
    float y = x;
    int k = 0;
    if (floatBitsToUint(x) < 0x00800000u) {
        y = x * 8388608.0;
        k = -23;
    }
    uint bits = floatBitsToUint(y);
    uint high = bits + (0x3f800000u - 0x3f3504f3u);
    k += int(high >> 23) - 127;
    precise float f = uintBitsToFloat((high & 0x007fffffu) + 0x3f3504f3u) - 1.0;
    float s = divOf(f, 2.0 + f);
    float z = s * s;
    float r = z * fma(fma(fma(0.222222222, z, 0.285714286), z, 0.4), z, 0.666666667);
    precise float h = 0.5 * f * f;
    precise float low = s * (h + r) + float(k) * -2.12194440e-4;
    precise float v = (low - h) + f;
    v = v + float(k) * 0.693359375;
    if (isNaN(x) || floatBitsToUint(x) == 0x7f800000u) {
        return x;
    }
    if ((floatBitsToUint(y) & 0x7fffffffu) == 0u) {
        return -positiveInfinity;
    }
    return (floatBitsToUint(x) >> 31) != 0u ? notANumber : v;
}

// tanhOf returns sign(x) (1 - 2e / (1 + e)), e = e^(-2|x|); below 0.6, where that cancels, the odd
// polynomial x + x^3 P(x^2), P of degree 4 (2e-8 of the whole).
float tanhOf(float x) {
    float a = abs(x);
    float t = x * x;
    float e = expNegative(-2.0 * a);
    precise float big = 1.0 - divOf(2.0 * e, 1.0 + e);
    float p = fma(-0.00604549889, t, 0.0209616031);
    p = fma(p, t, -0.0538433343);
    p = fma(p, t, 0.133327201);
    p = fma(p, t, -0.333333284);
    float small = fma(p * t, x, x);
    float y = a < 0.6 ? small : (x < 0.0 ? -big : big);
    return isNaN(x) ? x : y;
}

// erfOf returns x P(x^2) / Q(x^2), both of degree 5 (2e-8), on |x| <= 3.92, beyond which it is 1 or -1.
float erfOf(float x) {
    float y = clamp(x, -3.925, 3.925), t = y * y;
    float p = fma(2.03612035e-06, t, 0.000284743001);
    float q = fma(3.79401936e-05, t, 0.00116705801);
    p = fma(p, t, 0.00378939975);
    q = fma(q, t, 0.0150172282);
    p = fma(p, t, 0.0528194159);
    q = fma(q, t, 0.114362024);
    p = fma(p, t, 0.191049978);
    q = fma(q, t, 0.502646327);
    p = fma(p, t, 1.12837911);
    q = fma(q, t, 1.0);
    float r = clamp(y * p / q, -1.0, 1.0);
    return isNaN(x) ? x : r;
}

// erfcOf returns 1 - erf x, to about 2e-7 of 1, not of itself.
float erfcOf(float x) { return 1.0 - erfOf(x); }

// The numbers of backend.Activation.
const uint actLinear = 0u, actGeluErf = 1u, actGeluTanh = 2u;

// logistic returns 1 / (1 + e^(-2u)) and, in gap, its product with 1 minus itself, from
// e = e^(-2|u|), which does not overflow and keeps small values exact.
float logistic(float u, out float gap) {
    float e = expNegative(-2.0 * abs(u));
    float r = 1.0 / (1.0 + e);
    gap = e * r * r;
    return u < 0.0 ? e * r : r;
}

// activate returns act(x):
//
//   erf:  x/2 (1 + erf(x / sqrt 2))
//   tanh: x/2 (1 + tanh u) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
float activate(uint act, float x) {
    if (act == actGeluErf) {
        float h = 0.5 * x;
        return fma(h, erfOf(x * 0.707106781), h);
    }
    if (act == actGeluTanh) {
        float y = clamp(x, -50.0, 50.0), gap;
        float s = logistic(0.797884561 * fma(y * y * y, 0.044715, y), gap);
        return isNaN(x) ? x : x * s;
    }
    return x;
}

// slope returns act'(x):
//
//   erf:  (1 + erf(x / sqrt 2)) / 2 + x e^(-x^2/2) / sqrt(2 pi)
//   tanh: s + x 2 s (1-s) u', s = 1 / (1 + e^(-2u)), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)
//
// Beyond 50 both are 0 or 1, which keeps squares and cubes finite.
float slope(uint act, float x) {
    if (act == actLinear) {
        return 1.0;
    }
    float y = clamp(x, -50.0, 50.0), t = y * y, v;
    if (act == actGeluErf) {
        float density = expNegative(-0.5 * t) * 0.398942280;
        v = fma(y, density, fma(0.5, erfOf(y * 0.707106781), 0.5));
    } else {
        float gap;
        float s = logistic(0.797884561 * fma(y * t, 0.044715, y), gap);
        v = fma(y * gap, 1.595769122 * fma(t, 0.134145, 1.0), s);
    }
    return isNaN(x) ? x : v;
}

// loadFloat64 rounds the float64 with low word w.x and high word w.y to a float, to nearest, ties to
// even. What a float cannot represent normally becomes 0 or infinity.
float loadFloat64(uvec2 w) {
    uint sign = w.y & 0x80000000u, biased = (w.y >> 20) & 0x7ffu, rest = w.x & 0x1fffffffu;
    uint mantissa = ((w.y & 0xfffffu) << 3) | (w.x >> 29);
    if (biased == 0x7ffu) {
        bool nan = (w.y & 0xfffffu) != 0u || w.x != 0u;
        return uintBitsToFloat(sign | (nan ? 0x7fc00000u : 0x7f800000u));
    }
    int e = int(biased) - 1023 + 127;
    if (e <= 0) {
        return uintBitsToFloat(sign);
    }
    uint bits = (uint(e) << 23) | mantissa;
    if (rest > 0x10000000u || (rest == 0x10000000u && (mantissa & 1u) != 0u)) {
        bits++;
    }
    return uintBitsToFloat(sign | (e >= 255 || bits >= 0x7f800000u ? 0x7f800000u : bits));
}
#endif
