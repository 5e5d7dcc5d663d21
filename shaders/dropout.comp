#version 450
// y = dropout(x); y may be x.
#include "tensor.glsl"
#define ROWKEY 2
#include "rowkey.glsl"

OUT_FLOATS(y, 0)
IN_FLOATS(x, 1)

layout(push_constant, std430) uniform Push { Mat y, x, key; Drop drop; uint rows, units, chunks, repeat; } p;

void unit(uint row, uint u) {
    uint to = at(p.y, row, u), from = at(p.x, row, u);
    Key k = keyOf(p.key, row);
    uint e = k.row * p.units + u;
    if (WIDTH == 4u) {
        y4[to] = x4[from] * dropFactors(p.drop, k, e);
    } else {
        y1[to] = x1[from] * dropElement(p.drop, k.sampleLo, k.sampleHi, e);
    }
}

#include "each.glsl"
