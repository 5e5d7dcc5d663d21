#version 450
// x = 0. A unit is one or four words, whatever they hold.
#include "tensor.glsl"

layout(set = 0, binding = 0, std430) writeonly buffer Scalars { uint x1[]; };
layout(set = 0, binding = 0, std430) writeonly buffer Vectors { uvec4 x4[]; };

layout(push_constant, std430) uniform Push { Mat x; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint i = at(p.x, row, u);
    if (WIDTH == 4u) {
        x4[i] = uvec4(0u);
    } else {
        x1[i] = 0u;
    }
}

#include "each.glsl"
