#version 450
// dx = scale (e^(x - lse) - onehot(label)), 0 in rows labelled -100; dx may be x.
#include "tensor.glsl"
#include "math.glsl"
#define STATUS 4
#include "status.glsl"

OUT_FLOATS(dx, 0)
IN_FLOATS(x, 1)
layout(set = 0, binding = 0, std430) writeonly buffer ToPairs { vec2 dx2[]; };
layout(set = 0, binding = 1, std430) readonly buffer FromPairs { vec2 x2[]; };
layout(set = 0, binding = 2, std430) readonly buffer Lses { float lses[]; };
layout(set = 0, binding = 3, std430) readonly buffer Labels { int labels[]; };

layout(push_constant, std430) uniform Push {
    Mat dx, x, lse, labels, status;
    float scale;
    uint row0, cols; // of the first row, for reports
    uint rows, units, chunks, repeat;
} p;

const int ignored = -100;

// gradient returns the gradient of the logit in column j.
float gradient(float x, float lse, uint j, int label) {
    float e = expOf(x - lse);
    e = int(j) == label ? e - 1.0 : e;
    return label == ignored ? 0.0 : p.scale * e;
}

void unit(uint row, uint u) {
    int label = labels[p.labels.off + row];
    float lse = lses[p.lse.off + row * p.lse.stride];
    if (u == 0u && label != ignored && (label < 0 || uint(label) >= p.cols)) {
        report(p.status.off, badLabel, p.row0 + row, label);
    }
    uint to = at(p.dx, row, u), from = at(p.x, row, u);
    if (WIDTH == 4u) {
        vec4 v = x4[from];
        uint j = 4u * u;
        dx4[to] = vec4(gradient(v.x, lse, j, label), gradient(v.y, lse, j + 1u, label),
                       gradient(v.z, lse, j + 2u, label), gradient(v.w, lse, j + 3u, label));
    } else if (WIDTH == 2u) { // the columns of a vocabulary are often no more than even
        vec2 v = x2[from];
        uint j = 2u * u;
        dx2[to] = vec2(gradient(v.x, lse, j, label), gradient(v.y, lse, j + 1u, label));
    } else {
        dx1[to] = gradient(x1[from], lse, u, label);
    }
}

#include "each.glsl"
