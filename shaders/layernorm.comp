#version 450
// z = dropout(x) + residual, y = (z - mean) rstd gamma + beta, row by row.
//
// A first mean carries the rounding of the whole sum. The deviations from it are small, so
// their mean corrects it, and the variance about it, almost exactly.
#include "rowwise.glsl"
#include "math.glsl"
#define ROWKEY 8
#include "rowkey.glsl"

layout(constant_id = 4) const uint STORED = 1; // z is there; otherwise it is x
layout(constant_id = 5) const uint RESIDUAL = 1;
layout(constant_id = 6) const uint DROPOUT = 1;

OUT_QUADS(y, 0)
UPDATED_QUADS(z, 1)
layout(set = 0, binding = 2, std430) writeonly buffer Means { float means[]; };
layout(set = 0, binding = 3, std430) writeonly buffer Rstds { float rstds[]; };
IN_QUADS(x, 4)
IN_QUADS(residual, 5)
IN_QUADS(gamma, 6)
IN_QUADS(beta, 7)

layout(push_constant, std430) uniform Push {
    Mat y, z, mean, rstd, x, residual, gamma, beta, key;
    Drop drop;
    uint rows, cols;
    float share, eps; // 1 / cols
} p;

void main() {
    uint row = rowIndex();
    if (row >= p.rows) {
        return;
    }
    uint x0 = p.x.off + row * p.x.stride, y0 = p.y.off + row * p.y.stride;
    uint z0 = STORED != 0u ? p.z.off + row * p.z.stride : x0;
    uint residual0 = p.residual.off + row * p.residual.stride;
    Key key = DROPOUT != 0u ? keyOf(p.key, row) : Key(0u, 0u, 0u);
    uint drop0 = key.row * p.cols;

    vec4 sum = vec4(0.0);
    for (uint j = 4u * lane(); j < p.cols; j += 4u * LANES) {
        uint n = p.cols - j;
        vec4 v = xLoad(x0 + j, n);
        if (STORED != 0u) {
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
            if (RESIDUAL != 0u) {
                precise vec4 s = v + residualLoad(residual0 + j, n);
                v = s;
            }
            zStore(z0 + j, n, v);
        }
        sum += v;
    }
    float mean = rowSum(vec2(across(sum), 0.0)).x * p.share;

    vec4 square = vec4(0.0);
    sum = vec4(0.0);
    for (uint j = 4u * lane(); j < p.cols; j += 4u * LANES) {
        uint n = p.cols - j;
        vec4 v = (STORED != 0u ? zLoad(z0 + j, n) : xLoad(x0 + j, n)) - mean;
        if (TAIL != 0u) {
            v = masked(v, n, 0.0);
        }
        sum += v;
        square = fma(v, v, square);
    }
    vec2 sums = rowSum(vec2(across(sum), across(square))) * p.share;
    float variance = fma(-sums.x, sums.x, sums.y);
    variance = variance < 0.0 ? 0.0 : variance;
    float rstd = divOf(1.0, sqrtOf(variance + p.eps));
    mean += sums.x;

    for (uint j = 4u * lane(); j < p.cols; j += 4u * LANES) {
        uint n = p.cols - j;
        vec4 v = STORED != 0u ? zLoad(z0 + j, n) : xLoad(x0 + j, n);
        yStore(y0 + j, n, fma((v - mean) * rstd, gammaLoad(p.gamma.off + j, n), betaLoad(p.beta.off + j, n)));
    }
    if (lane() == 0u) {
        means[p.mean.off + row * p.mean.stride] = mean;
        rstds[p.rstd.off + row * p.rstd.stride] = rstd;
    }
}
