#version 450
// dx = dy * act'(pre); dx may be dy.
#include "tensor.glsl"
#include "math.glsl"

layout(constant_id = 2) const uint ACT = 1;

OUT_FLOATS(dx, 0)
IN_FLOATS(dy, 1)
IN_FLOATS(pre, 2)

layout(push_constant, std430) uniform Push { Mat dx, dy, pre; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.dx, row, u), from = at(p.dy, row, u), x = at(p.pre, row, u);
    if (WIDTH == 4u) {
        vec4 v = pre4[x];
        dx4[to] = dy4[from] * vec4(slope(ACT, v.x), slope(ACT, v.y), slope(ACT, v.z), slope(ACT, v.w));
    } else {
        dx1[to] = dy1[from] * slope(ACT, pre1[x]);
    }
}

#include "each.glsl"
