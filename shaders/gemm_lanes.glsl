// The matrix product for drivers that run a subgroup of LANES invocations as the lanes of
// the CPU's vectors. The including file defines LANES and SHUFFLES(X, i) = X(i, 0) .. X(i, LANES-1).
//
// There a load from a buffer is a loop over the lanes, a dozen times the cost of an
// arithmetic instruction, even if all lanes read the same element; a shuffle with constant
// lane numbers is one instruction. So a workgroup is one subgroup, every lane loads
// different elements of A as well as of B, and a row's element reaches all lanes by a
// shuffle. Loops are written out, since an index that is not a constant turns an array of
// registers into memory.
//
// A workgroup makes 4 LANES rows x 8 LANES columns of C, four k at a time: 16 + 32 vectors
// are loaded for 4 * 4 LANES * 8 products of vectors.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "gemm.glsl"

layout(constant_id = 10) const uint TAIL = 0; // 1: K is not divisible by 4

#define ROWS (4 * LANES)
#define COLUMNS (8 * LANES)

// Sums pass through shared memory on their way out (and in), where a loop can index them.
// Each lane reads only what it wrote, so there is no barrier. Sums of columns 4 lane ..
// 4 lane + 3 of half j of the columns, row r, are at (2 r + j) LANES + lane.
shared vec4 tile[ROWS * 2 * LANES];

vec4 sum[ROWS * 2];
vec4 a[4];    // element q of a[i]: op(A) in row 4 lane + i, column k + q
vec4 b[2][4]; // element c of b[j][q]: op(B) in row k + q, column 4 (j LANES + lane) + c

// Sum number i * LANES + l belongs to row 4 l + i.
#define ROW(r) (4 * ((r) % LANES) + (r) / LANES)

#define MULTIPLY(at, j) \
    sum[at] = fma(vec4(a3), b[j][3], fma(vec4(a2), b[j][2], fma(vec4(a1), b[j][1], fma(vec4(a0), b[j][0], sum[at]))));
#define MULTIPLY_ROW(i, l) { \
    float a0 = subgroupShuffle(a[i].x, l), a1 = subgroupShuffle(a[i].y, l), a2 = subgroupShuffle(a[i].z, l), a3 = subgroupShuffle(a[i].w, l); \
    MULTIPLY(2 * (i * LANES + l), 0) MULTIPLY(2 * (i * LANES + l) + 1, 1) }
#define CLEAR_ROW(i, l) sum[2 * (i * LANES + l)] = vec4(0.0); sum[2 * (i * LANES + l) + 1] = vec4(0.0);
#define LOAD_ROW(i, l) \
    sum[2 * (i * LANES + l)] = tile[2 * (i * LANES + l) * LANES + lane]; \
    sum[2 * (i * LANES + l) + 1] = tile[(2 * (i * LANES + l) + 1) * LANES + lane];
#define STORE_ROW(i, l) \
    tile[2 * (i * LANES + l) * LANES + lane] = sum[2 * (i * LANES + l)]; \
    tile[(2 * (i * LANES + l) + 1) * LANES + lane] = sum[2 * (i * LANES + l) + 1];
#define ALL(X) SHUFFLES(X, 0) SHUFFLES(X, 1) SHUFFLES(X, 2) SHUFFLES(X, 3)

void fetchA(uint m, uint k) {
    if (TRANS_A != 0u) {
        uint j = m < p.M ? m : (p.M - 1u) & ~3u;
        vec4 v0 = fourA(k, j, p.M), v1 = fourA(min(k + 1u, p.K - 1u), j, p.M);
        vec4 v2 = fourA(min(k + 2u, p.K - 1u), j, p.M), v3 = fourA(min(k + 3u, p.K - 1u), j, p.M);
        a[0] = vec4(v0.x, v1.x, v2.x, v3.x);
        a[1] = vec4(v0.y, v1.y, v2.y, v3.y);
        a[2] = vec4(v0.z, v1.z, v2.z, v3.z);
        a[3] = vec4(v0.w, v1.w, v2.w, v3.w);
    } else {
        a[0] = fourA(min(m, p.M - 1u), k, p.K);
        a[1] = fourA(min(m + 1u, p.M - 1u), k, p.K);
        a[2] = fourA(min(m + 2u, p.M - 1u), k, p.K);
        a[3] = fourA(min(m + 3u, p.M - 1u), k, p.K);
    }
    if (TAIL != 0u) {
        uvec4 each = k + uvec4(0, 1, 2, 3);
        a[0] = padA(a[0], each);
        a[1] = padA(a[1], each);
        a[2] = padA(a[2], each);
        a[3] = padA(a[3], each);
    }
}

#define FETCH_B(h, n, k) { \
    if (TRANS_B != 0u) { \
        vec4 v0 = fourB(min(n, p.N - 1u), k, p.K), v1 = fourB(min(n + 1u, p.N - 1u), k, p.K); \
        vec4 v2 = fourB(min(n + 2u, p.N - 1u), k, p.K), v3 = fourB(min(n + 3u, p.N - 1u), k, p.K); \
        b[h][0] = vec4(v0.x, v1.x, v2.x, v3.x); \
        b[h][1] = vec4(v0.y, v1.y, v2.y, v3.y); \
        b[h][2] = vec4(v0.z, v1.z, v2.z, v3.z); \
        b[h][3] = vec4(v0.w, v1.w, v2.w, v3.w); \
    } else { \
        uint j = n < p.N ? n : (p.N - 1u) & ~3u; \
        b[h][0] = fourB(k, j, p.N); \
        b[h][1] = fourB(min(k + 1u, p.K - 1u), j, p.N); \
        b[h][2] = fourB(min(k + 2u, p.K - 1u), j, p.N); \
        b[h][3] = fourB(min(k + 3u, p.K - 1u), j, p.N); \
    } \
    if (TAIL != 0u) { \
        b[h][0] = padB(b[h][0], uvec4(k)); \
        b[h][1] = padB(b[h][1], uvec4(k + 1u)); \
        b[h][2] = padB(b[h][2], uvec4(k + 2u)); \
        b[h][3] = padB(b[h][3], uvec4(k + 3u)); \
    } }

void main() {
    uint group = groupIndex();
    uint m0 = group / p.across * ROWS, n0 = group % p.across * COLUMNS;
    if (m0 >= p.M) {
        return;
    }
    uint lane = gl_SubgroupInvocationID;
    if ((CARRY & 1u) != 0u) {
        for (uint r = 0; r < ROWS; r++) {
            uint i = min(m0 + ROW(r), p.M - 1u);
            for (uint h = 0; h < 2; h++) {
                uint j = n0 + 4 * (h * LANES + lane);
                tile[(2 * r + h) * LANES + lane] = vec4(begun(i, min(j, p.N - 1u)), begun(i, min(j + 1u, p.N - 1u)),
                    begun(i, min(j + 2u, p.N - 1u)), begun(i, min(j + 3u, p.N - 1u)));
            }
        }
        ALL(LOAD_ROW)
    } else {
        ALL(CLEAR_ROW)
    }
    uint m = m0 + 4 * lane, n1 = n0 + 4 * lane, n2 = n1 + 4 * LANES;
    for (uint k = 0; k < p.K; k += 4) {
        fetchA(m, k);
        FETCH_B(0, n1, k)
        FETCH_B(1, n2, k)
        ALL(MULTIPLY_ROW)
    }
    ALL(STORE_ROW)
    for (uint r = 0; r < ROWS; r++) {
        uint i = m0 + ROW(r);
        for (uint h = 0; h < 2; h++) {
            uint j = n0 + 4 * (h * LANES + lane);
            if (i < p.M && j < p.N) {
                finish4(i, j, tile[(2 * r + h) * LANES + lane]);
            }
        }
    }
}
