#version 450
// part_c = sum of x_i^2 over chunk c, as two floats whose sum it is. Each square is taken
// exactly, by cutting x into two halves of 12 bits, and added with the rounding error of the
// addition carried along (Knuth's two-sum); none of this may be reordered.
#include "rowwise.glsl"
#include "twofloat.glsl"

layout(set = 0, binding = 0, std430) writeonly buffer Parts { float part[]; };
IN_QUADS(x, 1)

layout(push_constant, std430) uniform Push {
    Mat part, x;
    uint chunk, n; // elements of a chunk, elements
    uint rows;     // chunks
    uint first;    // number of the first chunk
} p;

void main() {
    uint row = rowIndex();
    if (row >= p.rows) {
        return;
    }
    uint begin = row * p.chunk, end = min(begin + p.chunk, p.n);
    precise vec4 s = vec4(0.0), c = vec4(0.0);
    for (uint j = begin + 4u * lane(); j < end; j += 4u * LANES) {
        vec4 v = xLoad(p.x.off + j, end - j);
        precise vec4 h = uintBitsToFloat(floatBitsToUint(v) & 0xfffff000u);
        precise vec4 l = v - h;
        precise vec4 q = h * h;
        precise vec4 rest = 2.0 * h * l + l * l;
        precise vec4 t = s + q;
        precise vec4 u = t - s;
        precise vec4 lost = (s - (t - u)) + (q - u);
        s = t;
        c = c + (lost + rest);
    }
    vec2 sum = twoSum(twoSum(vec2(s.x, c.x), vec2(s.z, c.z)), twoSum(vec2(s.y, c.y), vec2(s.w, c.w)));
    sum = twoSums(sum);
    if (lane() == 0u) {
        uint i = p.part.off + 2u * (p.first + row);
        part[i] = sum.x;
        part[i + 1u] = sum.y;
    }
}
