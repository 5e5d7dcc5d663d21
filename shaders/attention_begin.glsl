// The beginning of the attention kernels. A workgroup has LANES invocations beside each
// other for every ROWS of its BLOCK rows (the queries of one head, or its keys), and meets
// the other side of the sequence in tiles of TILE rows, in ascending order. Two kinds of
// small matrix product, each with its result in registers, do all the work:
//
//   row x tile:     each lane has the products of its group's rows with SIDE rows of the
//                   tile, tileIndex(t, lane) for t < SIDE, over all columns of the head;
//   weights x tile: each lane has COLS * 4 columns of the sums over the tile's rows,
//                   columns 4 (u * LANES + lane) .. + 3 for u < COLS.
//
// The block's own rows and the weights lie in shared memory. A tile does too, unless DIRECT
// says to read it where it is: the better choice where a group is the whole workgroup.
// Either way the sums are the same, in the same order.
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"
#include "math.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint D = 64; // columns of a head
layout(constant_id = 2) const uint ROWS = 4; // a multiple of 4
layout(constant_id = 3) const uint SIDE4 = 1;
layout(constant_id = 4) const bool VECTOR = true; // rows and heads begin at multiples of 4
layout(constant_id = 5) const bool DROPOUT = false;
layout(constant_id = 6) const bool DIRECT = false;

const uint LANES = 8;
const uint D4 = (D + 3) / 4;
const uint COLS = (D4 + LANES - 1) / LANES;
const uint SIDE = 4 * SIDE4;
const uint TILE = SIDE * LANES;
const uint BLOCK = ROWS * (gl_WorkGroupSize.x / LANES);
const uint STRIDE4 = D4 + 1;     // of rows in shared memory, against bank conflicts
const uint WEIGHTS4 = TILE / 4 + 1;
const uint NONE = 0xffffffffu;   // the row of a key that may not be attended to

#define UNROLL [[unroll]]

// SHARE shares at = 0 .. count - 1, count a constant, among the invocations; a second brace
// ends it. Its control is uniform, which software drivers turn into much better code.
#define SHARE(at, count) \
    for (uint at##0 = 0; at##0 < (count); at##0 += gl_WorkGroupSize.x) { \
        uint at = at##0 + gl_LocalInvocationID.x; \
        if ((count) % gl_WorkGroupSize.x == 0 || at < (count))

// tileIndex numbers the rows of a tile that a lane has: runs of four, which are one vector
// of weights and lie in at most two Philox blocks.
uint tileIndex(uint t, uint lane) { return t / 4 * (4 * LANES) + 4 * lane + t % 4; }

// tileSlot is where row t of a tile lies in shared memory: lanes read rows 4 apart at the
// same time, which come to lie beside each other, in different banks.
uint tileSlot(uint t) { return t / (4 * LANES) * (4 * LANES) + t % 4 * LANES + t / 4 % LANES; }

// LOAD4 is the body of a function that returns columns 4c .. 4c+3 of a head, the first of
// them element at of a buffer, and 0 beyond column D.
#define LOAD4(name, at, c) \
    if (VECTOR) return name##4[(at) >> 2]; \
    return vec4(name[at], 4 * (c) + 1 < D ? name[(at) + 1] : 0.0, 4 * (c) + 2 < D ? name[(at) + 2] : 0.0, 4 * (c) + 3 < D ? name[(at) + 3] : 0.0);

// STORE4 is the body of one that stores them.
#define STORE4(name, at, c, v) \
    if (VECTOR) { name##4[(at) >> 2] = v; return; } \
    name[at] = v.x; \
    if (4 * (c) + 1 < D) name[(at) + 1] = v.y; \
    if (4 * (c) + 2 < D) name[(at) + 2] = v.z; \
    if (4 * (c) + 3 < D) name[(at) + 3] = v.w;

// dot4 continues the sum s with a.b, in the order of the columns.
float dot4(vec4 a, vec4 b, float s) { return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, s)))); }

// nibble returns one bit for each element of a Philox block: 1 if it is kept.
uint nibble(Drop d, uint sampleLo, uint sampleHi, uint block) {
    uvec4 w = dropBlock(d, sampleLo, sampleHi, block);
    return (w.x < d.threshold ? 0u : 1u) | (w.y < d.threshold ? 0u : 2u) | (w.z < d.threshold ? 0u : 4u) | (w.w < d.threshold ? 0u : 8u);
}

// factors returns 0 or kept for elements phase .. phase + 3 of the blocks with nibbles a, b.
vec4 factors(uint a, uint b, uint phase, float kept) {
    uint bits = (a | b << 4) >> phase;
    return vec4((bits & 1u) != 0u ? kept : 0.0, (bits & 2u) != 0u ? kept : 0.0, (bits & 4u) != 0u ? kept : 0.0, (bits & 8u) != 0u ? kept : 0.0);
}
