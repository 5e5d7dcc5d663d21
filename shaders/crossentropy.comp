#version 450
// Per row of logits x, in one pass, with m = max x, s = sum e^(x-m) and w = sum e^(x-m) (x-m):
//
//   lse = m + log s,  loss = m - x[label] + log s,  entropy = log s - w / s
//
// A lane reads BLOCK quads, raises its running maximum once and rescales its sums so far; a
// block is summed by itself, which keeps the error of long rows small. The label is the first
// index of the largest logit unless a logit exceeds its own or equals it further left.
#include "rowwise.glsl"
#include "math.glsl"
#define STATUS 6
#include "status.glsl"

layout(set = 0, binding = 0, std430) writeonly buffer Losses { float losses[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Entropies { float entropies[]; };
layout(set = 0, binding = 2, std430) writeonly buffer Lses { float lses[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Corrects { float corrects[]; };
IN_QUADS(x, 4)
layout(set = 0, binding = 5, std430) readonly buffer Labels { int labels[]; };

layout(push_constant, std430) uniform Push {
    Mat loss, entropy, lse, correct, x, labels, status;
    uint row0; // of the first row, for reports
    uint rows, cols;
} p;

const uint BLOCK = 8;
const int ignored = -100;

// Sums are a maximum and the sums relative to it.
struct Sums { float m, s, w; };

// relative returns a's sums relative to m >= a.m. With no logit but minus infinity a.m is minus
// infinity and the sums are 0, or NaN if there is a NaN.
vec2 relative(Sums a, float m) {
    float shift = a.m == -positiveInfinity ? 0.0 : max(a.m - m, -1e30);
    float c = expNegative(shift);
    return vec2(a.s * c, c * fma(a.s, shift, a.w));
}

// joined returns the sums of a and b together.
Sums joined(Sums a, Sums b) {
    float m = max(a.m, b.m);
    vec2 v = relative(a, m) + relative(b, m);
    return Sums(m, v.x, v.y);
}

// beats reports whether logit x, left of the label or not, comes before the label's own.
bool beats(float x, float own, bool left) { return x > own || (x == own && left); }

shared vec4 state[LANES];

void main() {
    uint row = rowIndex();
    if (row >= p.rows) {
        return;
    }
    uint x0 = p.x.off + row * p.x.stride, quads = (p.cols + 3u) / 4u;
    int label = labels[p.labels.off + row];
    bool labelled = label != ignored;
    if (labelled && (label < 0 || uint(label) >= p.cols)) {
        if (lane() == 0u) {
            report(p.status.off, badLabel, p.row0 + row, label);
        }
        labelled = false;
    }
    uint place = labelled ? uint(label) : 0u;
    float own = x1[x0 + place];

    Sums total = Sums(-positiveInfinity, 0.0, 0.0);
    bool beaten = false;
    for (uint q0 = lane(); q0 < quads; q0 += LANES * BLOCK) {
        vec4 v[BLOCK];
        vec4 most = vec4(-positiveInfinity);
        for (uint k = 0u; k < BLOCK; k++) {
            uint q = q0 + k * LANES, j = 4u * min(q, quads - 1u), n = p.cols - j;
            v[k] = xLoad(x0 + j, n);
            if (TAIL != 0u) {
                v[k] = masked(v[k], n, -positiveInfinity);
            }
            v[k] = q < quads ? v[k] : vec4(-positiveInfinity);
            most = max(most, v[k]);
            beaten = beaten || beats(v[k].x, own, j < place) || beats(v[k].y, own, j + 1u < place) ||
                     beats(v[k].z, own, j + 2u < place) || beats(v[k].w, own, j + 3u < place);
        }
        float m = max(max(most.x, most.y), max(most.z, most.w));
        m = max(m, total.m);
        float top = m == -positiveInfinity ? 0.0 : m;
        vec4 s = vec4(0.0), w = vec4(0.0);
        for (uint k = 0u; k < BLOCK; k++) {
            vec4 d = v[k] - top;
            vec4 e = vec4(expNegative(d.x), expNegative(d.y), expNegative(d.z), expNegative(d.w));
            s += e;
            // A logit of minus infinity adds 0, not NaN.
            w = fma(e, mix(d, vec4(0.0), equal(e, vec4(0.0))), w);
        }
        vec2 before = relative(total, m);
        total = Sums(m, before.x + across(s), before.y + across(w));
    }

    if (LANES > 1u) {
        uint l = lane();
        state[l] = vec4(total.m, total.s, total.w, beaten ? 1.0 : 0.0);
        for (uint span = LANES / 2u; span > 0u; span /= 2u) {
            barrier();
            if (l < span) {
                vec4 a = state[l], b = state[l + span];
                Sums t = joined(Sums(a.x, a.y, a.z), Sums(b.x, b.y, b.z));
                state[l] = vec4(t.m, t.s, t.w, max(a.w, b.w));
            }
        }
        if (l != 0u) {
            return;
        }
        total = Sums(state[0].x, state[0].y, state[0].z);
        beaten = state[0].w != 0.0;
    }
    // Nothing but minus infinity has no softmax.
    float s = total.s == 0.0 ? notANumber : total.s;
    float logS = logOf(s);
    entropies[p.entropy.off + row * p.entropy.stride] = logS - divOf(total.w, s);
    lses[p.lse.off + row * p.lse.stride] = total.m + logS;
    losses[p.loss.off + row * p.loss.stride] = labelled ? (total.m - own) + logS : 0.0;
    corrects[p.correct.off + row * p.correct.stride] = labelled && !beaten ? 1.0 : 0.0;
}
