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

layout(constant_id = 6) const uint TAIL = 0; // 1: K is not divisible by 4

#define ROWS (4 * LANES)
#define COLUMNS (8 * LANES)

// Sums pass through shared memory on their way out (and in), where a loop can index them.
// Each lane reads only what it wrote, so there is no barrier. Sums of columns 4 lane ..
// 4 lane + 3 of half j of the columns, row r, are at (2 r + j) LANES + lane.
shared vec4 tile[ROWS * 2 * LANES];

// In the loop element q of a[i] is op(A) in row 4 lane + i and column k + q, element c of
// b[h][q] is op(B) in row k + q and column 4 (h LANES + lane) + c.

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

// A load from A brings four k of a row, or four rows of one k; so also with B.
#define FETCH_A(k) { \
    uint last = mix(p.K - 1u - k, lastA, TRANS_A != 0u); \
    vec4 v0 = fourA(fromA[0] + mix(k, min(k, top) * p.a.stride, TRANS_A != 0u), last); \
    vec4 v1 = fourA(fromA[1] + mix(k, min(k + 1u, top) * p.a.stride, TRANS_A != 0u), last); \
    vec4 v2 = fourA(fromA[2] + mix(k, min(k + 2u, top) * p.a.stride, TRANS_A != 0u), last); \
    vec4 v3 = fourA(fromA[3] + mix(k, min(k + 3u, top) * p.a.stride, TRANS_A != 0u), last); \
    bvec4 turn = bvec4(TRANS_A != 0u), end = bvec4(TAIL != 0u); \
    a[0] = mix(v0, vec4(v0.x, v1.x, v2.x, v3.x), turn); \
    a[1] = mix(v1, vec4(v0.y, v1.y, v2.y, v3.y), turn); \
    a[2] = mix(v2, vec4(v0.z, v1.z, v2.z, v3.z), turn); \
    a[3] = mix(v3, vec4(v0.w, v1.w, v2.w, v3.w), turn); \
    uvec4 each = k + uvec4(0, 1, 2, 3); \
    a[0] = mix(a[0], padA(a[0], each), end); \
    a[1] = mix(a[1], padA(a[1], each), end); \
    a[2] = mix(a[2], padA(a[2], each), end); \
    a[3] = mix(a[3], padA(a[3], each), end); }

#define FETCH_B(h, k) { \
    uint last = mix(lastB[h], p.K - 1u - k, TRANS_B != 0u); \
    vec4 v0 = fourB(fromB[4 * h] + mix(min(k, top) * p.b.stride, k, TRANS_B != 0u), last); \
    vec4 v1 = fourB(fromB[4 * h + 1] + mix(min(k + 1u, top) * p.b.stride, k, TRANS_B != 0u), last); \
    vec4 v2 = fourB(fromB[4 * h + 2] + mix(min(k + 2u, top) * p.b.stride, k, TRANS_B != 0u), last); \
    vec4 v3 = fourB(fromB[4 * h + 3] + mix(min(k + 3u, top) * p.b.stride, k, TRANS_B != 0u), last); \
    bvec4 turn = bvec4(TRANS_B != 0u), end = bvec4(TAIL != 0u); \
    b[h][0] = mix(v0, vec4(v0.x, v1.x, v2.x, v3.x), turn); \
    b[h][1] = mix(v1, vec4(v0.y, v1.y, v2.y, v3.y), turn); \
    b[h][2] = mix(v2, vec4(v0.z, v1.z, v2.z, v3.z), turn); \
    b[h][3] = mix(v3, vec4(v0.w, v1.w, v2.w, v3.w), turn); \
    b[h][0] = mix(b[h][0], padB(b[h][0], uvec4(k)), end); \
    b[h][1] = mix(b[h][1], padB(b[h][1], uvec4(k + 1u)), end); \
    b[h][2] = mix(b[h][2], padB(b[h][2], uvec4(k + 2u)), end); \
    b[h][3] = mix(b[h][3], padB(b[h][3], uvec4(k + 3u)), end); }

// begin returns where the i-th load of every four k begins: of the rows (or columns) n ..
// n+3 of C, of which there are count, the i-th, or all of them in one k.
uint begin(Mat x, uint n, uint i, uint count, bool across) {
    return x.off + mix(min(n + i, count - 1u) * x.stride, min(n, (count - 1u) & ~3u), across);
}

void main() {
    uint group = groupIndex();
    uint m0 = group / p.across * ROWS, n0 = group % p.across * COLUMNS;
    if (m0 >= p.M) {
        return;
    }
    uint lane = gl_SubgroupInvocationID;
    vec4 sum[ROWS * 2];
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
    uint fromA[4], lastA, fromB[8], lastB[2], top = p.K - 1u;
    uint m = m0 + 4 * lane;
    lastA = p.M - 1u - min(m, (p.M - 1u) & ~3u);
    for (uint i = 0; i < 4; i++) {
        fromA[i] = begin(p.a, m, i, p.M, TRANS_A != 0u);
    }
    for (uint h = 0; h < 2; h++) {
        uint n = n0 + 4 * (h * LANES + lane);
        lastB[h] = p.N - 1u - min(n, (p.N - 1u) & ~3u);
        for (uint i = 0; i < 4; i++) {
            fromB[4 * h + i] = begin(p.b, n, i, p.N, TRANS_B == 0u);
        }
    }
    for (uint k = 0; k < p.K; k += 4) {
        vec4 a[4], b[2][4];
        FETCH_A(k)
        FETCH_B(0, k)
        FETCH_B(1, k)
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
