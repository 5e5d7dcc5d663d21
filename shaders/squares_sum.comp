#version 450
// dst = sum of the n pairs of part, of which squares made one a chunk. A workgroup does it all.
#include "rowwise.glsl"
#include "twofloat.glsl"
#include "math.glsl"

layout(set = 0, binding = 0, std430) writeonly buffer Dst { float dst[]; };
layout(set = 0, binding = 1, std430) readonly buffer Parts { float part[]; };

layout(push_constant, std430) uniform Push { Mat dst, part; uint n; } p;

void main() {
    if (rowIndex() > 0u) {
        return;
    }
    vec2 sum = vec2(0.0);
    for (uint k = lane(); k < p.n; k += LANES) {
        uint i = p.part.off + 2u * k;
        sum = twoSum(sum, vec2(part[i], part[i + 1u]));
    }
    sum = twoSums(sum);
    if (lane() == 0u) {
        // The errors of an infinite sum are NaN.
        dst[p.dst.off] = isFinite(sum.x) ? sum.x + sum.y : sum.x;
    }
}
