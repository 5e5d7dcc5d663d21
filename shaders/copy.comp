#version 450
// y = x. A unit is one or four words, whatever they hold.
#include "tensor.glsl"

layout(set = 0, binding = 0, std430) writeonly buffer Scalars { uint y1[]; };
layout(set = 0, binding = 0, std430) writeonly buffer Vectors { uvec4 y4[]; };
layout(set = 0, binding = 1, std430) readonly buffer FromScalars { uint x1[]; };
layout(set = 0, binding = 1, std430) readonly buffer FromVectors { uvec4 x4[]; };

layout(push_constant, std430) uniform Push { Mat y, x; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.y, row, u), from = at(p.x, row, u);
    if (WIDTH == 4u) {
        y4[to] = x4[from];
    } else {
        y1[to] = x1[from];
    }
}

#include "each.glsl"
