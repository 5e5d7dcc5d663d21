#version 450
// The matrix product for GPUs. A workgroup makes a block of BM x BN of C from blocks
// op(A) [BM,BK] and op(B) [BK,BN] in shared memory, of which there are two of each: while
// one is multiplied the next is on its way from memory to registers, and a single barrier
// a step suffices. Each invocation has TM x TN sums in registers, in squares of 4 x 4 that
// lie BM/(TM/4) rows and BN/(TN/4) columns apart, so that neighbouring invocations read
// neighbouring words of shared memory.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "gemm.glsl"

layout(constant_id = 7) const uint BM = 64;
layout(constant_id = 8) const uint BN = 64;
layout(constant_id = 9) const uint BK = 16;
layout(constant_id = 10) const uint TM = 4;
layout(constant_id = 11) const uint TN = 4;

const uint THREADS = gl_WorkGroupSize.x; // (BM / TM) * (BN / TN)
const uint FOURS_A = BM * BK / 4;
const uint FOURS_B = BN * BK / 4;
const uint EACH_A = (FOURS_A + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;
const uint EACH_B = (FOURS_B + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x;

// Element (k, i) of a block of op(A) is at k * BM + i, (k, j) of op(B) at k * BN + j.
shared float blockA[2 * BK * BM];
shared float blockB[2 * BK * BN];

vec4 nextA[EACH_A];
vec4 nextB[EACH_B];

// fetch brings k0 .. k0+BK-1 of the operands into registers, four neighbours in memory at a
// time. Rows and columns beyond the edges of C repeat what is there; nothing comes of them.
void fetch(uint m0, uint n0, uint k0) {
    [[unroll]] for (uint e = 0; e < EACH_A; e++) {
        uint g = e * THREADS + gl_LocalInvocationID.x;
        if (TRANS_A != 0u) {
            uint k = k0 + g / (BM / 4), i = min(m0 + g % (BM / 4) * 4, (p.M - 1) & ~3u);
            nextA[e] = padA(fourA(p.a.off + min(k, p.K - 1) * p.a.stride + i, p.M - 1 - i), uvec4(k));
        } else {
            uint k = k0 + g % (BK / 4) * 4, i = min(m0 + g / (BK / 4), p.M - 1), from = min(k, (p.K - 1) & ~3u);
            nextA[e] = padA(fourA(p.a.off + i * p.a.stride + from, p.K - 1 - from), k + uvec4(0, 1, 2, 3));
        }
    }
    [[unroll]] for (uint e = 0; e < EACH_B; e++) {
        uint g = e * THREADS + gl_LocalInvocationID.x;
        if (TRANS_B != 0u) {
            uint k = k0 + g % (BK / 4) * 4, j = min(n0 + g / (BK / 4), p.N - 1), from = min(k, (p.K - 1) & ~3u);
            nextB[e] = padB(fourB(p.b.off + j * p.b.stride + from, p.K - 1 - from), k + uvec4(0, 1, 2, 3));
        } else {
            uint k = k0 + g / (BN / 4), j = min(n0 + g % (BN / 4) * 4, (p.N - 1) & ~3u);
            nextB[e] = padB(fourB(p.b.off + min(k, p.K - 1) * p.b.stride + j, p.N - 1 - j), uvec4(k));
        }
    }
}

// put stores what fetch brought as block number which.
void put(uint which) {
    [[unroll]] for (uint e = 0; e < EACH_A; e++) {
        uint g = e * THREADS + gl_LocalInvocationID.x;
        if (g < FOURS_A) {
            uint at, apart;
            if (TRANS_A != 0u) {
                at = g / (BM / 4) * BM + g % (BM / 4) * 4;
                apart = 1;
            } else {
                at = g % (BK / 4) * 4 * BM + g / (BK / 4);
                apart = BM;
            }
            at += which * (BK * BM);
            blockA[at] = nextA[e].x;
            blockA[at + apart] = nextA[e].y;
            blockA[at + 2 * apart] = nextA[e].z;
            blockA[at + 3 * apart] = nextA[e].w;
        }
    }
    [[unroll]] for (uint e = 0; e < EACH_B; e++) {
        uint g = e * THREADS + gl_LocalInvocationID.x;
        if (g < FOURS_B) {
            uint at, apart;
            if (TRANS_B != 0u) {
                at = g % (BK / 4) * 4 * BN + g / (BK / 4);
                apart = BN;
            } else {
                at = g / (BN / 4) * BN + g % (BN / 4) * 4;
                apart = 1;
            }
            at += which * (BK * BN);
            blockB[at] = nextB[e].x;
            blockB[at + apart] = nextB[e].y;
            blockB[at + 2 * apart] = nextB[e].z;
            blockB[at + 3 * apart] = nextB[e].w;
        }
    }
}

vec4 sum[TM * TN / 4];

// multiply adds the products of one k, whose rows of the blocks begin at a and b.
void multiply(uint a, uint b) {
    float left[TM];
    vec4 right[TN / 4];
    [[unroll]] for (uint i = 0; i < TM; i++) {
        left[i] = blockA[a + i / 4 * (BM / (TM / 4)) + i % 4];
    }
    [[unroll]] for (uint j = 0; j < TN / 4; j++) {
        uint at = b + j * (BN / (TN / 4));
        right[j] = vec4(blockB[at], blockB[at + 1], blockB[at + 2], blockB[at + 3]);
    }
    [[unroll]] for (uint i = 0; i < TM; i++) {
        [[unroll]] for (uint j = 0; j < TN / 4; j++) {
            sum[i * (TN / 4) + j] = fma(vec4(left[i]), right[j], sum[i * (TN / 4) + j]);
        }
    }
}

void main() {
    uint group = groupIndex();
    uint m0 = group / p.across * BM, n0 = group % p.across * BN;
    if (m0 >= p.M) {
        return;
    }
    uint ti = gl_LocalInvocationID.x / (BN / TN) * 4, tj = gl_LocalInvocationID.x % (BN / TN) * 4;
    [[unroll]] for (uint i = 0; i < TM; i++) {
        [[unroll]] for (uint j = 0; j < TN; j++) {
            uint row = m0 + ti + i / 4 * (BM / (TM / 4)) + i % 4, col = n0 + tj + j / 4 * (BN / (TN / 4)) + j % 4;
            sum[(i * TN + j) / 4][j % 4] = CARRY != 0u && row < p.M && col < p.N ? begun(row, col) : 0.0;
        }
    }
    if (p.K > 0) {
        fetch(m0, n0, 0);
        put(0);
        barrier();
    }
    uint which = 0;
    for (uint k0 = 0; k0 < p.K; k0 += BK) {
        bool more = k0 + BK < p.K;
        if (more) {
            fetch(m0, n0, k0 + BK);
        }
        uint a = which * (BK * BM) + ti, b = which * (BK * BN) + tj;
        [[unroll]] for (uint k = 0; k < BK; k++) {
            multiply(a + k * BM, b + k * BN);
        }
        if (more) {
            put(1 - which);
            barrier();
        }
        which = 1 - which;
    }
    [[unroll]] for (uint i = 0; i < TM; i++) {
        uint row = m0 + ti + i / 4 * (BM / (TM / 4)) + i % 4;
        [[unroll]] for (uint j = 0; j < TN / 4; j++) {
            uint col = n0 + tj + j * (BN / (TN / 4));
            if (row < p.M && col < p.N) {
                finish4(row, col, sum[i * (TN / 4) + j]);
            }
        }
    }
}
