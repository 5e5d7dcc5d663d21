#version 450
// part_c = sum of rows c CHUNK .. (c+1) CHUNK - 1 of src, upwards: a row of the dispatch is a chunk.
#include "tensor.glsl"

OUT_FLOATS(part, 0)
IN_FLOATS(src, 1)

layout(push_constant, std430) uniform Push {
    Mat part, src;
    uint chunk, n; // rows of a chunk, rows of src
    uint rows, units, chunks, repeat;
} p;

void unit(uint row, uint u) {
    uint to = at(p.part, row, u), i = row * p.chunk, end = min(i + p.chunk, p.n);
    if (WIDTH == 4u) {
        vec4 sum = vec4(0.0);
        for (; i < end; i++) {
            sum += src4[at(p.src, i, u)];
        }
        part4[to] = sum;
    } else {
        float sum = 0.0;
        for (; i < end; i++) {
            sum += src1[at(p.src, i, u)];
        }
        part1[to] = sum;
    }
}

#include "each.glsl"
