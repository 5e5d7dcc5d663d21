#version 450
// y = tanh x
#include "tensor.glsl"
#include "math.glsl"

OUT_FLOATS(y, 0)
IN_FLOATS(x, 1)

layout(push_constant, std430) uniform Push { Mat y, x; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.y, row, u), from = at(p.x, row, u);
    if (WIDTH == 4u) {
        vec4 v = x4[from];
        y4[to] = vec4(tanhOf(v.x), tanhOf(v.y), tanhOf(v.z), tanhOf(v.w));
    } else {
        y1[to] = tanhOf(x1[from]);
    }
}

#include "each.glsl"
