#version 450
// Chunk sums of the gradients of gamma and beta, rows upwards; a row of the dispatch is a chunk c:
//
//   part_c[j] = sum dy_j (z_j - mean) rstd,  part_c[H + j] = sum dy_j
#include "tensor.glsl"

OUT_FLOATS(part, 0)
IN_FLOATS(dy, 1)
IN_FLOATS(z, 2)
layout(set = 0, binding = 3, std430) readonly buffer Means { float mean[]; };
layout(set = 0, binding = 4, std430) readonly buffer Rstds { float rstd[]; };

layout(push_constant, std430) uniform Push {
    Mat part, dy, z, mean, rstd;
    uint chunk, n; // rows of a chunk, rows of dy
    uint rows, units, chunks, repeat;
} p;

void unit(uint row, uint u) {
    uint to = at(p.part, row, u), i = row * p.chunk, end = min(i + p.chunk, p.n);
    if (WIDTH == 4u) {
        vec4 gamma = vec4(0.0), beta = vec4(0.0);
        for (; i < end; i++) {
            float m = mean[p.mean.off + i * p.mean.stride], r = rstd[p.rstd.off + i * p.rstd.stride];
            vec4 d = dy4[at(p.dy, i, u)];
            gamma = fma(d, (z4[at(p.z, i, u)] - m) * r, gamma);
            beta += d;
        }
        part4[to] = gamma;
        part4[to + p.units] = beta;
    } else {
        float gamma = 0.0, beta = 0.0;
        for (; i < end; i++) {
            float m = mean[p.mean.off + i * p.mean.stride], r = rstd[p.rstd.off + i * p.rstd.stride];
            float d = dy1[at(p.dy, i, u)];
            gamma = fma(d, (z1[at(p.z, i, u)] - m) * r, gamma);
            beta += d;
        }
        part1[to] = gamma;
        part1[to + p.units] = beta;
    }
}

#include "each.glsl"
