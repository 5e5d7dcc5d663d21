// What the matrix products share: C = act(alpha op(A) op(B) + beta C + bias).
//
// Every element is one chain of fma over k upwards from 0, whichever kernel, tile or cut
// of the operands computes it, so that all of them give the same bits on a device.
#include "common.glsl"
#include "math.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint TRANS_A = 0; // 1: A is stored as [K,M]
layout(constant_id = 2) const uint TRANS_B = 0; // 1: B is stored as [N,K]
layout(constant_id = 3) const uint VECTOR = 0;  // 1: offsets and strides of A and B are divisible by 4
layout(constant_id = 4) const uint HALF = 0;    // 1: elements of A and B are rounded to float16
layout(constant_id = 5) const uint CARRY = 0;   // 1: sums begin with those in Partial; 2: they go there; 3: both

// What follows the sum. As a constant it costs large kernels no registers for what is not
// asked for; as a number of the call it saves compiling for each combination.
#ifdef LANES
#define FLAGS p.flags
#else
layout(constant_id = 6) const uint FIXED = 0xffffffffu; // 0xffffffff: the number of the call
#define FLAGS (FIXED == 0xffffffffu ? p.flags : FIXED)
#endif
const uint addBias = 1u, writePre = 2u, addC = 4u, fours = 8u; // fours: offsets and strides of C and Pre are divisible by 4
#define ACT (FLAGS >> 4)

layout(set = 0, binding = 0, std430) buffer C_ { float C[]; };
layout(set = 0, binding = 0, std430) buffer C4_ { vec4 C4[]; };
layout(set = 0, binding = 1, std430) readonly buffer A_ { float A[]; };
layout(set = 0, binding = 1, std430) readonly buffer A4_ { vec4 A4[]; };
layout(set = 0, binding = 2, std430) readonly buffer B_ { float B[]; };
layout(set = 0, binding = 2, std430) readonly buffer B4_ { vec4 B4[]; };
layout(set = 0, binding = 3, std430) readonly buffer Bias_ { float Bias[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Pre_ { float Pre[]; };
layout(set = 0, binding = 4, std430) writeonly buffer Pre4_ { vec4 Pre4[]; };
layout(set = 0, binding = 5, std430) buffer Partial_ { float Partial[]; };

layout(push_constant, std430) uniform Push {
    Mat c, a, b, bias, pre, partial;
    uint M, N, K;
    uint across; // blocks along N
    float alpha, beta;
    uint flags;
} p;

// The functions of the loop over k have no branch, not even on a specialisation constant
// (what is not asked for disappears with the mix that it is an argument of): some
// drivers copy every sum at a branch.

// halfOf rounds to float16, to nearest, ties to even, overflow to infinity. packHalf2x16 may
// round otherwise (towards zero on some GPUs) and may lose small numbers.
vec4 halfOf(vec4 x) {
    uvec4 u = floatBitsToUint(x), size = u & 0x7fffffffu;
    uvec4 r = (size + 0xfffu + ((size >> 13) & 1u)) & ~0x1fffu;
    r = mix(r, uvec4(0x7f800000u), greaterThan(r, uvec4(0x477fe000u)));
    // Below 2^-14 multiples of 2^-24, which is what the last bit of 0.5 + |x| counts.
    precise vec4 y = uintBitsToFloat(size) + 0.5;
    y = y - 0.5;
    r = mix(r, floatBitsToUint(y), lessThan(size, uvec4(0x38800000u)));
    r = mix(r, size, greaterThanEqual(size, uvec4(0x7f800000u)));
    return uintBitsToFloat(r | (u & 0x80000000u));
}
vec4 operand(vec4 v) { return mix(v, halfOf(v), bvec4(HALF != 0u)); }

// fourA and fourB read the elements at .. at+3 of the stored operands, at divisible by 4 if
// VECTOR says so, of which those up to at + last are meant.
vec4 fourA(uint at, uint last) {
    vec4 v = vec4(A[at], A[at + min(1u, last)], A[at + min(2u, last)], A[at + min(3u, last)]);
    return operand(mix(v, A4[at / 4u], bvec4(VECTOR != 0u)));
}
vec4 fourB(uint at, uint last) {
    vec4 v = vec4(B[at], B[at + min(1u, last)], B[at + min(2u, last)], B[at + min(3u, last)]);
    return operand(mix(v, B4[at / 4u], bvec4(VECTOR != 0u)));
}

// padA and padB replace what lies beyond K by 0 and -0: adding their product, -0, changes no
// sum, not even the sign of a zero.
vec4 padA(vec4 v, uvec4 k) { return mix(vec4(0.0), v, lessThan(k, uvec4(p.K))); }
vec4 padB(vec4 v, uvec4 k) { return mix(vec4(-0.0), v, lessThan(k, uvec4(p.K))); }

// begun returns where the sum of an element begins.
float begun(uint i, uint j) {
    return (CARRY & 1u) != 0u ? Partial[p.partial.off + i * p.partial.stride + j] : 0.0;
}

// finish makes element (i, j) of C from its sum.
void finish(uint i, uint j, float sum) {
    if ((CARRY & 2u) != 0u) {
        Partial[p.partial.off + i * p.partial.stride + j] = sum;
        return;
    }
    uint at = p.c.off + i * p.c.stride + j;
    precise float s = p.alpha * sum;
    if ((FLAGS & addC) != 0u) {
        s = fma(p.beta, C[at], s);
    }
    if ((FLAGS & addBias) != 0u) {
        s = s + Bias[p.bias.off + j];
    }
    if ((FLAGS & writePre) != 0u) {
        Pre[p.pre.off + i * p.pre.stride + j] = s;
    }
    C[at] = activate(ACT, s);
}

// finish4 makes elements (i, j .. j+3).
void finish4(uint i, uint j, vec4 sum) {
    if ((FLAGS & fours) == 0u || (CARRY & 2u) != 0u || j + 4u > p.N) {
        finish(i, j, sum.x);
        if (j + 1u < p.N) {
            finish(i, j + 1u, sum.y);
        }
        if (j + 2u < p.N) {
            finish(i, j + 2u, sum.z);
        }
        if (j + 3u < p.N) {
            finish(i, j + 3u, sum.w);
        }
        return;
    }
    uint at = (p.c.off + i * p.c.stride + j) / 4u;
    precise vec4 s = p.alpha * sum;
    if ((FLAGS & addC) != 0u) {
        s = fma(vec4(p.beta), C4[at], s);
    }
    if ((FLAGS & addBias) != 0u) {
        uint b = p.bias.off + j;
        s = s + vec4(Bias[b], Bias[b + 1u], Bias[b + 2u], Bias[b + 3u]);
    }
    if ((FLAGS & writePre) != 0u) {
        Pre4[(p.pre.off + i * p.pre.stride + j) / 4u] = s;
    }
    C4[at] = vec4(activate(ACT, s.x), activate(ACT, s.y), activate(ACT, s.z), activate(ACT, s.w));
}
