#version 450
// One step of AdamW on each element of flat vectors, as backend.AdamWArgs writes it out:
//
//   g = grad * scale;  m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2
//   param -= decay param;  param -= rate m / (sqrt(v correct) + eps);  grad = 0
//
// The host computes decay = lr * weight decay, rate = lr / (1 - beta1^step) and
// correct = 1 / (1 - beta2^step) in float64; scale needs the sum of squares of the device.
#include "tensor.glsl"
#include "math.glsl"

layout(constant_id = 2) const uint NORM = 0; // 0: no clipping; 1: the sum is a float32; 2: a float64

UPDATED_FLOATS(param, 0)
UPDATED_FLOATS(grad, 1)
UPDATED_FLOATS(m, 2)
UPDATED_FLOATS(v, 3)
layout(set = 0, binding = 4, std430) readonly buffer SumWords { uint sumSq[]; };

layout(push_constant, std430) uniform Push {
    Mat param, grad, m, v, sumSq;
    float gradScale, clip, beta1, rest1, beta2, rest2, decay, rate, correct, eps;
    uint rows, units, chunks, repeat;
} p;

// scale returns gradScale * min(1, clip / (gradScale * sqrt(sumSq) + 1e-6)), NaN if the sum is.
float scale() {
    if (NORM == 0u) {
        return p.gradScale;
    }
    uint i = p.sumSq.off;
    float sum = NORM == 2u ? loadFloat64(uvec2(sumSq[i], sumSq[i + 1u])) : uintBitsToFloat(sumSq[i]);
    float share = divOf(p.clip, fma(p.gradScale, sqrtOf(sum), 1e-6));
    return share > 1.0 ? p.gradScale : p.gradScale * share;
}

void unit(uint row, uint u) {
    uint a = at(p.param, row, u), b = at(p.grad, row, u), c = at(p.m, row, u), d = at(p.v, row, u);
    float s = scale();
    if (WIDTH == 4u) {
        vec4 g = grad4[b] * s;
        vec4 m = fma(vec4(p.beta1), m4[c], p.rest1 * g);
        vec4 v = fma(vec4(p.beta2), v4[d], p.rest2 * g * g);
        vec4 x = param4[a];
        x = fma(vec4(-p.decay), x, x);
        x = fma(vec4(-p.rate), m / (sqrt(v * p.correct) + p.eps), x);
        param4[a] = x;
        m4[c] = m;
        v4[d] = v;
        grad4[b] = vec4(0.0);
    } else {
        float g = grad1[b] * s;
        float m = fma(p.beta1, m1[c], p.rest1 * g);
        float v = fma(p.beta2, v1[d], p.rest2 * g * g);
        float x = param1[a];
        x = fma(-p.decay, x, x);
        x = fma(-p.rate, m / (sqrt(v * p.correct) + p.eps), x);
        param1[a] = x;
        m1[c] = m;
        v1[d] = v;
        grad1[b] = 0.0;
    }
}

#include "each.glsl"
