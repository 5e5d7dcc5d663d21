#version 450
// Attention: for row i of a sequence and head, with j over the rows that may be attended to,
//
//   s_j = scale q_i.k_j,  LSE_i = log sum_j exp s_j,  Out_i = sum_j dropout(exp(s_j - LSE_i)) v_j
//
// with the running maximum and sum of Milakov and Gimelshein (2018), brought up to date once
// per tile of keys. No row to attend to: Out_i = 0, LSE_i = 0.
#extension GL_GOOGLE_include_directive : require
#include "attention_begin.glsl"

layout(std430, binding = 0) writeonly buffer Out { float outs[]; };
layout(std430, binding = 0) writeonly buffer Out4 { vec4 outs4[]; };
layout(std430, binding = 1) writeonly buffer Lse { float lse[]; };
layout(std430, binding = 2) readonly buffer Qkv { float qkv[]; };
layout(std430, binding = 2) readonly buffer Qkv4 { vec4 qkv4[]; };
layout(std430, binding = 3) readonly buffer Offsets { int offsets[]; };
layout(std430, binding = 4) readonly buffer KeyValid { int keyValid[]; };
layout(std430, binding = 5) readonly buffer RowKey { uint rowKey[]; };
layout(std430, binding = 6) buffer Status { uint status[]; };
layout(push_constant, std430) uniform Push {
    Mat outs, lse, qkv, offsets, keyValid, rowKey, status;
    Drop drop;
    uint firstSeq, windowFirst, windowNext, rows, maxLen;
    float scale;
} pc;
#include "attention_rows.glsl"

shared vec4 own[BLOCK * STRIDE4];
shared vec4 tiles[DIRECT ? 1 : TILE * STRIDE4];
shared vec4 weights[BLOCK * WEIGHTS4];
shared vec4 parts[BLOCK / 4 * LANES]; // of four rows
shared uint tileRow[TILE];
shared uint kept[DROPOUT ? BLOCK * (TILE / 4 + 1) : 1];

// Stand-ins for minus infinity with finite differences: a maximum starts at lowest, and a
// score that takes no part is masked, which exp makes 0 beside it.
const float lowest = -1e38;
const float masked = -3e38;

void storeOut(uint row, uint head, uint c, vec4 v) {
    uint at = pc.outs.off + row * pc.outs.stride + head * D + 4 * c;
    STORE4(outs, at, c, v)
}

// copyTile brings keys (part 1) or values (part 2) to shared memory.
void copyTile(uint part, uint head) {
    if (DIRECT) return;
    barrier();
    SHARE(at, TILE * D4) {
        uint t = at / D4, c = at % D4, row = tileRow[t];
        tiles[tileSlot(t) * STRIDE4 + c] = row != NONE ? loadQKV(row, part, head, c) : vec4(0);
    }}
    barrier();
}

vec4 tileAt(uint t, uint row, uint part, uint head, uint c) {
    return DIRECT ? loadQKV(row, part, head, c) : tiles[tileSlot(t) * STRIDE4 + c];
}

void main() {
    uint id = gl_LocalInvocationID.x, lane = id % LANES, base = id / LANES * ROWS, head = gl_WorkGroupID.y;
    uint first, n, begin = gl_WorkGroupID.x * BLOCK;
    sequenceRows(gl_WorkGroupID.z, first, n);
    if (begin >= n) return;

    // Rows beyond the sequence compute with zeros and are not stored.
    SHARE(at, BLOCK * D4) {
        uint i = begin + at / D4, c = at % D4;
        own[at / D4 * STRIDE4 + c] = i < n ? loadQKV(first + i, 0, head, c) : vec4(0);
    }}
    uint sampleLo = 0, sampleHi = 0;
    if (DROPOUT) {
        sampleLo = rowKey[pc.rowKey.off + first * pc.rowKey.stride + 2];
        sampleHi = rowKey[pc.rowKey.off + first * pc.rowKey.stride + 3];
    }
    vec4 acc[ROWS * COLS];
    float top[ROWS], sum[ROWS];
    UNROLL for (uint r = 0; r < ROWS; r++) {
        UNROLL for (uint u = 0; u < COLS; u++) acc[r * COLS + u] = vec4(0);
        top[r] = lowest;
        sum[r] = 0;
    }

    for (uint tile = 0; tile < n; tile += TILE) {
        barrier();
        SHARE(t, TILE) {
            uint row = first + min(tile + t, n - 1);
            tileRow[t] = tile + t < n && keyValid[pc.keyValid.off + row] != 0 ? row : NONE;
        }}
        if (DROPOUT) {
            SHARE(at, BLOCK * (TILE / 4 + 1)) {
                uint i = begin + at / (TILE / 4 + 1), b = at % (TILE / 4 + 1);
                kept[at] = nibble(pc.drop, sampleLo, sampleHi, (((head * n + i) * n + tile) >> 2) + b);
            }}
        }
        barrier();
        copyTile(1, head);

        uint row[SIDE];
        bool live[SIDE];
        float s[ROWS * SIDE];
        UNROLL for (uint t = 0; t < SIDE; t++) {
            row[t] = tileRow[tileIndex(t, lane)];
            live[t] = row[t] != NONE;
            if (!live[t]) row[t] = first;
            UNROLL for (uint r = 0; r < ROWS; r++) s[r * SIDE + t] = 0;
        }
        for (uint c = 0; c < D4; c++) {
            vec4 k[SIDE];
            UNROLL for (uint t = 0; t < SIDE; t++) k[t] = tileAt(tileIndex(t, lane), row[t], 1, head, c);
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 q = own[(base + r) * STRIDE4 + c];
                UNROLL for (uint t = 0; t < SIDE; t++) s[r * SIDE + t] = dot4(q, k[t], s[r * SIDE + t]);
            }
        }
        UNROLL for (uint r = 0; r < ROWS; r += 4) {
            vec4 most = vec4(lowest);
            UNROLL for (uint k = 0; k < 4; k++) {
                UNROLL for (uint t = 0; t < SIDE; t++) {
                    uint e = (r + k) * SIDE + t;
                    s[e] = live[t] ? pc.scale * s[e] : masked;
                    most[k] = max(most[k], s[e]);
                }
            }
            parts[(base + r) / 4 * LANES + lane] = most;
        }
        barrier();
        float above[ROWS];
        UNROLL for (uint r = 0; r < ROWS; r += 4) {
            vec4 most = vec4(top[r], top[r + 1], top[r + 2], top[r + 3]);
            UNROLL for (uint k = 0; k < LANES; k++) most = max(most, parts[(base + r) / 4 * LANES + k]);
            UNROLL for (uint k = 0; k < 4; k++) above[r + k] = most[k];
        }
        UNROLL for (uint r = 0; r < ROWS; r++) {
            float most = above[r];
            float shrink = expNegative(top[r] - most), total = 0;
            top[r] = most;
            uint phase = (head * n + begin + base + r) * n + tile & 3u;
            UNROLL for (uint t = 0; t < SIDE4; t++) {
                vec4 p;
                UNROLL for (uint k = 0; k < 4; k++) {
                    p[k] = expNegative(s[r * SIDE + 4 * t + k] - most);
                    total += p[k];
                }
                uint at = t * LANES + lane;
                if (DROPOUT) {
                    uint b = (base + r) * (TILE / 4 + 1) + at;
                    p *= factors(kept[b], kept[b + 1], phase, pc.drop.kept);
                }
                weights[(base + r) * WEIGHTS4 + at] = p;
            }
            sum[r] = fma(sum[r], shrink, total);
            UNROLL for (uint u = 0; u < COLS; u++) acc[r * COLS + u] *= shrink;
        }
        barrier();
        copyTile(2, head);
        uint end = min(n - tile, TILE);
        for (uint j = 0; j < end; j += 4) {
            vec4 v[4 * COLS];
            UNROLL for (uint k = 0; k < 4; k++) {
                uint row = tileRow[j + k];
                bool live = row != NONE;
                if (!live) row = first;
                UNROLL for (uint u = 0; u < COLS; u++) {
                    v[k * COLS + u] = tileAt(j + k, row, 2, head, min(u * LANES + lane, D4 - 1));
                    if (!live) v[k * COLS + u] = vec4(0);
                }
            }
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 p = weights[(base + r) * WEIGHTS4 + j / 4];
                UNROLL for (uint k = 0; k < 4; k++) {
                    UNROLL for (uint u = 0; u < COLS; u++) acc[r * COLS + u] = fma(vec4(p[k]), v[k * COLS + u], acc[r * COLS + u]);
                }
            }
        }
    }

    barrier();
    UNROLL for (uint r = 0; r < ROWS; r += 4) parts[(base + r) / 4 * LANES + lane] = vec4(sum[r], sum[r + 1], sum[r + 2], sum[r + 3]);
    barrier();
    UNROLL for (uint r = 0; r < ROWS; r += 4) {
        vec4 total = vec4(0);
        UNROLL for (uint k = 0; k < LANES; k++) total += parts[(base + r) / 4 * LANES + k];
        UNROLL for (uint k = 0; k < 4; k++) sum[r + k] = total[k];
    }
    UNROLL for (uint r = 0; r < ROWS; r++) {
        uint i = begin + base + r;
        float total = sum[r];
        if (i < n) {
            // Without any key the sum is 0; otherwise it is at least 1, or NaN.
            float inverse = total == 0 ? 0.0 : divOf(1.0, total);
            UNROLL for (uint u = 0; u < COLS; u++) {
                if (u * LANES + lane < D4) storeOut(first + i, head, u * LANES + lane, acc[r * COLS + u] * inverse);
            }
            if (lane == 0) lse[pc.lse.off + (first + i) * pc.lse.stride + head] = total == 0 ? 0.0 : top[r] + logOf(total);
        }
    }
}
