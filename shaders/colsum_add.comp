#version 450
// dst += each of the n rows of part, upwards: in this order it does not matter whether all of
// them are there at once or come in several dispatches.
#include "tensor.glsl"

UPDATED_FLOATS(dst, 0)
IN_FLOATS(part, 1)

layout(push_constant, std430) uniform Push { Mat dst, part; uint n; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.dst, row, u);
    if (WIDTH == 4u) {
        vec4 sum = dst4[to];
        for (uint i = 0u; i < p.n; i++) {
            sum += part4[at(p.part, i, u)];
        }
        dst4[to] = sum;
    } else {
        float sum = dst1[to];
        for (uint i = 0u; i < p.n; i++) {
            sum += part1[at(p.part, i, u)];
        }
        dst1[to] = sum;
    }
}

#include "each.glsl"
