#version 450
// y += x
#include "tensor.glsl"

UPDATED_FLOATS(y, 0)
IN_FLOATS(x, 1)

layout(push_constant, std430) uniform Push { Mat y, x; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.y, row, u), from = at(p.x, row, u);
    if (WIDTH == 4u) {
        y4[to] += x4[from];
    } else {
        y1[to] += x1[from];
    }
}

#include "each.glsl"
