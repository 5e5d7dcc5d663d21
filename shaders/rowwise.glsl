// The kernels that reduce over a row. LANES invocations share one row: the whole workgroup on a
// GPU, a single one on a CPU driver, where a barrier costs more than it brings and a workgroup
// then takes as many rows as it has invocations.
//
// A row is cut into quads of four columns; lane l takes quads l, l + LANES, ... and keeps four
// running sums, one for each place in the quad. So what is added to what, and in which order,
// depends on the number of columns alone, not on how a quad is loaded.
#include "common.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint LANES = 64; // a power of two: 1 or the local size
layout(constant_id = 2) const uint WIDTH = 4;  // elements of a load: what offsets and strides are divisible by: 4, 2 or 1
layout(constant_id = 3) const uint TAIL = 0;   // 1: the last quad is not full

#define IN_QUADS(NAME, b) \
    layout(set = 0, binding = b, std430) readonly buffer NAME##Scalars { float NAME##1[]; }; \
    layout(set = 0, binding = b, std430) readonly buffer NAME##Pairs { vec2 NAME##2[]; }; \
    layout(set = 0, binding = b, std430) readonly buffer NAME##Vectors { vec4 NAME##4[]; }; \
    LOAD_QUAD(NAME)
#define OUT_QUADS(NAME, b) \
    layout(set = 0, binding = b, std430) writeonly buffer NAME##Scalars { float NAME##1[]; }; \
    layout(set = 0, binding = b, std430) writeonly buffer NAME##Pairs { vec2 NAME##2[]; }; \
    layout(set = 0, binding = b, std430) writeonly buffer NAME##Vectors { vec4 NAME##4[]; }; \
    STORE_QUAD(NAME)
#define UPDATED_QUADS(NAME, b) \
    layout(set = 0, binding = b, std430) buffer NAME##Scalars { float NAME##1[]; }; \
    layout(set = 0, binding = b, std430) buffer NAME##Pairs { vec2 NAME##2[]; }; \
    layout(set = 0, binding = b, std430) buffer NAME##Vectors { vec4 NAME##4[]; }; \
    LOAD_QUAD(NAME) \
    STORE_QUAD(NAME)

// NAMELoad returns four elements from i on, of which the first n >= 1 are in the row and the rest 0.
// A vector may be read to its end: bindings end at a multiple of 16 bytes.
#define LOAD_QUAD(NAME) \
    vec4 NAME##Load(uint i, uint n) { \
        vec4 v; \
        uint last = TAIL != 0u ? min(n, 4u) - 1u : 3u; \
        if (WIDTH == 4u) { \
            v = NAME##4[i >> 2]; \
        } else if (WIDTH == 2u) { \
            v = vec4(NAME##2[i >> 1], NAME##2[(i + min(last, 2u)) >> 1]); \
        } else { \
            v = vec4(NAME##1[i], NAME##1[i + min(last, 1u)], NAME##1[i + min(last, 2u)], NAME##1[i + last]); \
        } \
        return TAIL != 0u ? masked(v, n, 0.0) : v; \
    }

// NAMEStore stores the first n of four elements from i on.
#define STORE_QUAD(NAME) \
    void NAME##Store(uint i, uint n, vec4 v) { \
        if (TAIL != 0u) { \
            for (uint k = 0u; k < min(n, 4u); k++) { \
                NAME##1[i + k] = v[k]; \
            } \
        } else if (WIDTH == 4u) { \
            NAME##4[i >> 2] = v; \
        } else if (WIDTH == 2u) { \
            NAME##2[i >> 1] = v.xy; \
            NAME##2[(i >> 1) + 1u] = v.zw; \
        } else { \
            NAME##1[i] = v.x; \
            NAME##1[i + 1u] = v.y; \
            NAME##1[i + 2u] = v.z; \
            NAME##1[i + 3u] = v.w; \
        } \
    }

// masked returns v with everything from place n on replaced by fill.
vec4 masked(vec4 v, uint n, float fill) {
    return vec4(v.x, n > 1u ? v.y : fill, n > 2u ? v.z : fill, n > 3u ? v.w : fill);
}

uint lane() { return LANES == 1u ? 0u : gl_LocalInvocationID.x; }

// rowIndex numbers the rows; a kernel leaves at once if there is no such row, which is so for
// a whole workgroup if LANES is not 1.
uint rowIndex() { return LANES == 1u ? groupIndex() * gl_WorkGroupSize.x + gl_LocalInvocationID.x : groupIndex(); }

float across(vec4 v) { return (v.x + v.z) + (v.y + v.w); }

shared vec2 tree[LANES];

// rowSum adds v over the lanes of a row, in a binary tree, and returns the sum to all.
vec2 rowSum(vec2 v) {
    if (LANES == 1u) {
        return v;
    }
    uint l = lane();
    tree[l] = v;
    for (uint span = LANES / 2u; span > 0u; span /= 2u) {
        barrier();
        if (l < span) {
            tree[l] += tree[l + span];
        }
    }
    barrier();
    v = tree[0];
    barrier();
    return v;
}
