#version 450
// dst[index_i] += src_i, i ascending: the first i with an index adds the rows of all, along the
// links of scatter_links, to one running sum; the others leave.
#include "tensor.glsl"

UPDATED_FLOATS(dst, 0)
IN_FLOATS(src, 1)
layout(set = 0, binding = 2, std430) readonly buffer Index { int index[]; };
layout(set = 0, binding = 3, std430) readonly buffer Links { uint link[]; };

layout(push_constant, std430) uniform Push {
    Mat dst, src, index, link;
    uint first, count; // rows of dst that are bound
    uint rows, units, chunks, repeat;
} p;

void unit(uint row, uint u) {
    uint next = link[p.link.off + row];
    uint to = uint(index[p.index.off + row]) - p.first; // huge if it is before the first
    if ((next & 0x80000000u) != 0u || to >= p.count) {
        return;
    }
    to = at(p.dst, to, u);
    uint k = row;
    if (WIDTH == 4u) {
        vec4 sum = dst4[to];
        while (k < p.rows) {
            sum += src4[at(p.src, k, u)];
            k = link[p.link.off + k] & 0x7fffffffu;
        }
        dst4[to] = sum;
    } else {
        float sum = dst1[to];
        while (k < p.rows) {
            sum += src1[at(p.src, k, u)];
            k = link[p.link.off + k] & 0x7fffffffu;
        }
        dst1[to] = sum;
    }
}

#include "each.glsl"
