// Needs a newer glslc than Debian 12's: GL_KHR_cooperative_matrix (scripts/vulkan/forky).
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#pragma use_vulkan_memory_model
layout(local_size_x_id = 0) in;
#include "common.glsl"
#include "math.glsl"

// C = act(alpha op(A) op(B) + beta C + bias) with the operands rounded to float16 and sums
// in float32, by the device's matrix unit (VK_KHR_cooperative_matrix). A workgroup makes
// a block of BM x BN of C; it brings blocks of op(A) [BM,BK] and op(B) [BK,BN] into shared
// memory as float16, zeros beyond the edges, and each subgroup multiplies PER tiles of
// TM x TN. The tiles pass through shared memory on their way out, since only loads and
// stores know which invocation holds which element.
layout(constant_id = 1) const uint TM = 16;
layout(constant_id = 2) const uint TN = 16;
layout(constant_id = 3) const uint TK = 16;
layout(constant_id = 4) const uint BM = 64;
layout(constant_id = 5) const uint BN = 64;
layout(constant_id = 6) const uint BK = 32;
layout(constant_id = 7) const uint SUBGROUPS = 4;
layout(constant_id = 8) const uint PER = 4;
layout(constant_id = 9) const uint TRANS_A = 0;
layout(constant_id = 10) const uint TRANS_B = 0;
layout(constant_id = 11) const uint BIAS = 0;
layout(constant_id = 12) const uint PRE = 0;
layout(constant_id = 13) const uint BETA = 0;
layout(constant_id = 14) const uint ACT = 0;

layout(std430, binding = 0) buffer C_ { float c[]; };
layout(std430, binding = 1) readonly buffer A_ { float a[]; };
layout(std430, binding = 2) readonly buffer B_ { float b[]; };
layout(std430, binding = 3) readonly buffer Bias_ { float bias[]; };
layout(std430, binding = 4) writeonly buffer Pre_ { float pre[]; };
layout(push_constant) uniform Push {
    Mat cm, am, bm, biasm, prem;
    uint m, n, k;
    float alpha, beta;
};

// Rows lie 8 elements further apart than they are long: 16 bytes, so that loads stay
// aligned and a column does not fall on one bank.
const uint PITCH_A = BK + 8, PITCH_B = BN + 8;
shared float16_t sa[BM * PITCH_A];
shared float16_t sb[BK * PITCH_B];
shared float sc[SUBGROUPS * TM * TN];

void main() {
    uint lane = gl_LocalInvocationID.x;
    uint m0 = gl_WorkGroupID.y * BM, n0 = gl_WorkGroupID.x * BN;
    uint across = BN / TN;
    coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator> sum[PER];
    for (uint i = 0; i < PER; i++) sum[i] = coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>(0.0);

    for (uint k0 = 0; k0 < k; k0 += BK) {
        for (uint e = lane; e < BM * BK; e += gl_WorkGroupSize.x) {
            // Neighbouring invocations read neighbouring elements of A.
            uint i = TRANS_A != 0 ? e % BM : e / BK, j = TRANS_A != 0 ? e / BM : e % BK;
            float v = 0.0;
            if (m0 + i < m && k0 + j < k)
                v = a[am.off + (TRANS_A != 0 ? (k0 + j) * am.stride + m0 + i : (m0 + i) * am.stride + k0 + j)];
            sa[i * PITCH_A + j] = float16_t(v);
        }
        for (uint e = lane; e < BK * BN; e += gl_WorkGroupSize.x) {
            uint i = TRANS_B != 0 ? e % BK : e / BN, j = TRANS_B != 0 ? e / BK : e % BN;
            float v = 0.0;
            if (k0 + i < k && n0 + j < n)
                v = b[bm.off + (TRANS_B != 0 ? (n0 + j) * bm.stride + k0 + i : (k0 + i) * bm.stride + n0 + j)];
            sb[i * PITCH_B + j] = float16_t(v);
        }
        barrier();
        if (gl_SubgroupID < SUBGROUPS) {
            for (uint i = 0; i < PER; i++) {
                uint t = gl_SubgroupID * PER + i, row = t / across * TM, col = t % across * TN;
                for (uint kk = 0; kk < BK; kk += TK) {
                    coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> left;
                    coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> right;
                    coopMatLoad(left, sa, row * PITCH_A + kk, PITCH_A, gl_CooperativeMatrixLayoutRowMajor);
                    coopMatLoad(right, sb, kk * PITCH_B + col, PITCH_B, gl_CooperativeMatrixLayoutRowMajor);
                    sum[i] = coopMatMulAdd(left, right, sum[i]);
                }
            }
        }
        barrier();
    }

    uint base = gl_SubgroupID * TM * TN;
    for (uint i = 0; i < PER; i++) {
        if (gl_SubgroupID < SUBGROUPS)
            coopMatStore(sum[i], sc, base, TN, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
        if (gl_SubgroupID < SUBGROUPS) {
            uint t = gl_SubgroupID * PER + i, row = m0 + t / across * TM, col = n0 + t % across * TN;
            for (uint e = gl_SubgroupInvocationID; e < TM * TN; e += gl_SubgroupSize) {
                uint r = row + e / TN, q = col + e % TN;
                if (r >= m || q >= n) continue;
                float s = alpha * sc[base + e];
                if (BETA != 0) s = fma(beta, c[cm.off + r * cm.stride + q], s);
                if (BIAS != 0) s += bias[biasm.off + q];
                if (PRE != 0) pre[prem.off + r * prem.stride + q] = s;
                c[cm.off + r * cm.stride + q] = activate(ACT, s);
            }
        }
        barrier();
    }
}
