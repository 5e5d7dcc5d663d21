#version 450
// dx = dy * (1 - y^2); dx may be dy. Written as (1-y)(1+y), which does not cancel.
#include "tensor.glsl"

OUT_FLOATS(dx, 0)
IN_FLOATS(dy, 1)
IN_FLOATS(y, 2)

layout(push_constant, std430) uniform Push { Mat dx, dy, y; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.dx, row, u), from = at(p.dy, row, u), result = at(p.y, row, u);
    if (WIDTH == 4u) {
        precise vec4 v = y4[result], d = (1.0 - v) * (1.0 + v);
        dx4[to] = dy4[from] * d;
    } else {
        precise float v = y1[result], d = (1.0 - v) * (1.0 + v);
        dx1[to] = dy1[from] * d;
    }
}

#include "each.glsl"
