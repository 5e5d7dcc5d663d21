#version 450
// With n = (z - mean) rstd and g = dy gamma, row by row:
//
//   dz = rstd (g - mean_j g_j - n mean_j (g_j n_j)),  dx = dz * mask / (1-P)
#include "rowwise.glsl"
#define ROWKEY 7
#include "rowkey.glsl"

layout(constant_id = 4) const uint INNER = 1; // dx is there
layout(constant_id = 5) const uint DROPOUT = 1;

OUT_QUADS(dz, 0)
OUT_QUADS(dx, 1)
IN_QUADS(dy, 2)
IN_QUADS(z, 3)
layout(set = 0, binding = 4, std430) readonly buffer Means { float means[]; };
layout(set = 0, binding = 5, std430) readonly buffer Rstds { float rstds[]; };
IN_QUADS(gamma, 6)

layout(push_constant, std430) uniform Push {
    Mat dz, dx, dy, z, mean, rstd, gamma, key;
    Drop drop;
    uint rows, cols;
    float share; // 1 / cols
} p;

void main() {
    uint row = rowIndex();
    if (row >= p.rows) {
        return;
    }
    uint dz0 = p.dz.off + row * p.dz.stride, dx0 = p.dx.off + row * p.dx.stride;
    uint dy0 = p.dy.off + row * p.dy.stride, z0 = p.z.off + row * p.z.stride;
    float mean = means[p.mean.off + row * p.mean.stride], rstd = rstds[p.rstd.off + row * p.rstd.stride];
    Key key = DROPOUT != 0u ? keyOf(p.key, row) : Key(0u, 0u, 0u);
    uint drop0 = key.row * p.cols;

    vec4 s1 = vec4(0.0), s2 = vec4(0.0);
    for (uint j = 4u * lane(); j < p.cols; j += 4u * LANES) {
        uint n = p.cols - j;
        vec4 g = dyLoad(dy0 + j, n) * gammaLoad(p.gamma.off + j, n); // 0 beyond the row
        vec4 h = (zLoad(z0 + j, n) - mean) * rstd;
        if (TAIL != 0u) {
            h = masked(h, n, 0.0);
        }
        s1 += g;
        s2 = fma(g, h, s2);
    }
    vec2 c = rowSum(vec2(across(s1), across(s2))) * p.share;

    for (uint j = 4u * lane(); j < p.cols; j += 4u * LANES) {
        uint n = p.cols - j;
        precise vec4 g = dyLoad(dy0 + j, n) * gammaLoad(p.gamma.off + j, n) - c.x;
        vec4 h = (zLoad(z0 + j, n) - mean) * rstd;
        vec4 v = rstd * fma(-h, vec4(c.y), g);
        dzStore(dz0 + j, n, v);
        if (INNER != 0u) {
            if (DROPOUT != 0u) {
                uint e = drop0 + j;
                vec4 f;
                if (TAIL == 0u) {
                    f = dropFactors(p.drop, key, e >> 2); // a row is a whole number of blocks
                } else {
                    for (uint k = 0u; k < 4u; k++) {
                        f[k] = dropElement(p.drop, key.sampleLo, key.sampleHi, e + k);
                    }
                }
                v *= f;
            }
            dxStore(dx0 + j, n, v);
        }
    }
}
