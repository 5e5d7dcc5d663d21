#version 450
// dst_i = src[index_i], of the i whose index lies in the bound part of src.
#include "tensor.glsl"
#define STATUS 3
#include "status.glsl"

OUT_FLOATS(dst, 0)
IN_FLOATS(src, 1)
layout(set = 0, binding = 2, std430) readonly buffer Index { int index[]; };

layout(push_constant, std430) uniform Push {
    Mat dst, src, index, status;
    uint first, count, size; // rows bound, rows of src
    uint row0;
    uint rows, units, chunks, repeat;
} p;

void unit(uint row, uint u) {
    int k = index[p.index.off + row];
    if (k < 0 || uint(k) >= p.size) {
        if (gl_LocalInvocationID.x == 0u) {
            report(p.status.off, badIndex, p.row0 + row, k);
        }
        return;
    }
    if (uint(k) < p.first || uint(k) - p.first >= p.count) {
        return;
    }
    uint to = at(p.dst, row, u), from = at(p.src, uint(k) - p.first, u);
    if (WIDTH == 4u) {
        dst4[to] = src4[from];
    } else {
        dst1[to] = src1[from];
    }
}

#include "each.glsl"
