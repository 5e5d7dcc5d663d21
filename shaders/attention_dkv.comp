#version 450
// The second half of the gradient of attention: with P, m and dS as in attention_dq, which
// has set Delta,
//
//   dk_j = scale sum_i dS_ij q_i,  dv_j = sum_i m_ij P_ij DOut_i
//
// for a block of keys, over tiles of queries; 0 for a key that may not be attended to.
#extension GL_GOOGLE_include_directive : require
#include "attention_begin.glsl"

layout(std430, binding = 0) writeonly buffer DQkv { float dqkv[]; };
layout(std430, binding = 0) writeonly buffer DQkv4 { vec4 dqkv4[]; };
layout(std430, binding = 1) readonly buffer Delta { float delta[]; };
layout(std430, binding = 2) readonly buffer DOut { float dout[]; };
layout(std430, binding = 2) readonly buffer DOut4 { vec4 dout4[]; };
layout(std430, binding = 3) readonly buffer Lse { float lse[]; };
layout(std430, binding = 4) readonly buffer Qkv { float qkv[]; };
layout(std430, binding = 4) readonly buffer Qkv4 { vec4 qkv4[]; };
layout(std430, binding = 5) readonly buffer Offsets { int offsets[]; };
layout(std430, binding = 6) readonly buffer KeyValid { int keyValid[]; };
layout(std430, binding = 7) readonly buffer RowKey { uint rowKey[]; };
layout(std430, binding = 8) buffer Status { uint status[]; };
layout(push_constant, std430) uniform Push {
    Mat dqkv, delta, dout, lse, qkv, offsets, keyValid, rowKey, status;
    Drop drop;
    uint firstSeq, windowFirst, windowNext, rows, maxLen;
    float scale;
} pc;
#include "attention_rows.glsl"

const uint BLOCKS4 = BLOCK / 4 + 1; // Philox blocks that the keys of a query can touch

shared vec4 own[BLOCK * STRIDE4], ownValue[BLOCK * STRIDE4];
shared vec4 tiles[DIRECT ? 1 : TILE * STRIDE4];
shared vec4 weights[BLOCK * WEIGHTS4];
shared uint kept[DROPOUT ? TILE * BLOCKS4 : 1];

vec4 loadDOut(uint row, uint head, uint c) {
    uint at = pc.dout.off + row * pc.dout.stride + head * D + 4 * c;
    LOAD4(dout, at, c)
}

// load returns columns 4c .. 4c+3 of the queries or, with gradient, of DOut.
vec4 load(uint row, bool gradient, uint head, uint c) { return gradient ? loadDOut(row, head, c) : loadQKV(row, 0, head, c); }

void storeDQKV(uint row, uint part, uint head, uint c, vec4 v) {
    uint at = pc.dqkv.off + row * pc.dqkv.stride + (part * gl_NumWorkGroups.y + head) * D + 4 * c;
    STORE4(dqkv, at, c, v)
}

// copyTile brings queries, or rows of DOut, from tile on to shared memory. Rows beyond the
// sequence are stood in for by its last: their weights are 0.
void copyTile(uint first, uint n, uint tile, bool gradient, uint head) {
    if (DIRECT) return;
    barrier();
    SHARE(at, TILE * D4) {
        uint t = at / D4, c = at % D4;
        tiles[tileSlot(t) * STRIDE4 + c] = load(first + min(tile + t, n - 1), gradient, head, c);
    }}
    barrier();
}

vec4 tileAt(uint t, uint row, bool gradient, uint head, uint c) {
    return DIRECT ? load(row, gradient, head, c) : tiles[tileSlot(t) * STRIDE4 + c];
}

void main() {
    uint id = gl_LocalInvocationID.x, lane = id % LANES, base = id / LANES * ROWS, head = gl_WorkGroupID.y;
    uint first, n, begin = gl_WorkGroupID.x * BLOCK;
    sequenceRows(gl_WorkGroupID.z, first, n);
    if (begin >= n) return;

    bool live[ROWS];
    vec4 dk[ROWS * COLS], dv[ROWS * COLS];
    UNROLL for (uint r = 0; r < ROWS; r++) {
        uint j = begin + base + r;
        live[r] = j < n && keyValid[pc.keyValid.off + first + min(j, n - 1)] != 0;
        UNROLL for (uint u = 0; u < COLS; u++) dk[r * COLS + u] = dv[r * COLS + u] = vec4(0);
    }
    SHARE(at, BLOCK * D4) {
        uint row = first + min(begin + at / D4, n - 1), c = at % D4, to = at / D4 * STRIDE4 + c;
        own[to] = loadQKV(row, 1, head, c);
        ownValue[to] = loadQKV(row, 2, head, c);
    }}
    uint sampleLo = 0, sampleHi = 0;
    if (DROPOUT) {
        sampleLo = rowKey[pc.rowKey.off + first * pc.rowKey.stride + 2];
        sampleHi = rowKey[pc.rowKey.off + first * pc.rowKey.stride + 3];
    }

    for (uint tile = 0; tile < n; tile += TILE) {
        barrier();
        if (DROPOUT) {
            SHARE(at, TILE * BLOCKS4) {
                uint i = tile + at / BLOCKS4, b = at % BLOCKS4;
                kept[at] = nibble(pc.drop, sampleLo, sampleHi, (((head * n + i) * n + begin) >> 2) + b);
            }}
            barrier();
        }
        copyTile(first, n, tile, false, head);

        uint row[SIDE];
        float s[ROWS * SIDE], dp[ROWS * SIDE], rowLse[SIDE], rowDelta[SIDE];
        UNROLL for (uint t = 0; t < SIDE; t++) {
            row[t] = first + min(tile + tileIndex(t, lane), n - 1);
            rowLse[t] = lse[pc.lse.off + row[t] * pc.lse.stride + head];
            rowDelta[t] = delta[pc.delta.off + row[t] * pc.delta.stride + head];
            UNROLL for (uint r = 0; r < ROWS; r++) s[r * SIDE + t] = dp[r * SIDE + t] = 0;
        }
        for (uint c = 0; c < D4; c++) {
            vec4 q[SIDE];
            UNROLL for (uint t = 0; t < SIDE; t++) q[t] = tileAt(tileIndex(t, lane), row[t], false, head, c);
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 k = own[(base + r) * STRIDE4 + c];
                UNROLL for (uint t = 0; t < SIDE; t++) s[r * SIDE + t] = dot4(q[t], k, s[r * SIDE + t]);
            }
        }
        copyTile(first, n, tile, true, head);
        for (uint c = 0; c < D4; c++) {
            vec4 o[SIDE];
            UNROLL for (uint t = 0; t < SIDE; t++) o[t] = tileAt(tileIndex(t, lane), row[t], true, head, c);
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 v = ownValue[(base + r) * STRIDE4 + c];
                UNROLL for (uint t = 0; t < SIDE; t++) dp[r * SIDE + t] = dot4(o[t], v, dp[r * SIDE + t]);
            }
        }
        // Now s becomes m P, which weighs DOut, and dp becomes dS, which weighs the queries.
        UNROLL for (uint t = 0; t < SIDE; t++) {
            uint i = tile + tileIndex(t, lane);
            uint phase = (head * n + i) * n + begin & 3u;
            UNROLL for (uint r = 0; r < ROWS; r++) {
                float p = expOf(fma(pc.scale, s[r * SIDE + t], -rowLse[t])), factor = 1;
                if (!live[r] || i >= n) p = 0;
                if (DROPOUT) {
                    uint e = phase + base + r;
                    factor = (kept[tileIndex(t, lane) * BLOCKS4 + (e >> 2)] >> (e & 3u) & 1u) != 0u ? pc.drop.kept : 0.0;
                }
                dp[r * SIDE + t] = p * (dp[r * SIDE + t] * factor - rowDelta[t]);
                s[r * SIDE + t] = p * factor;
            }
        }
        UNROLL for (uint r = 0; r < ROWS; r++) {
            UNROLL for (uint t = 0; t < SIDE4; t++) {
                uint e = r * SIDE + 4 * t;
                weights[(base + r) * WEIGHTS4 + t * LANES + lane] = vec4(s[e], s[e + 1], s[e + 2], s[e + 3]);
            }
        }
        barrier();
        uint end = min(n - tile, TILE);
        for (uint i = 0; i < end; i += 4) {
            vec4 o[4 * COLS];
            UNROLL for (uint k = 0; k < 4; k++) {
                UNROLL for (uint u = 0; u < COLS; u++) o[k * COLS + u] = tileAt(i + k, first + min(tile + i + k, n - 1), true, head, min(u * LANES + lane, D4 - 1));
            }
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 w = weights[(base + r) * WEIGHTS4 + i / 4];
                UNROLL for (uint k = 0; k < 4; k++) {
                    UNROLL for (uint u = 0; u < COLS; u++) dv[r * COLS + u] = fma(vec4(w[k]), o[k * COLS + u], dv[r * COLS + u]);
                }
            }
        }
        barrier();
        UNROLL for (uint r = 0; r < ROWS; r++) {
            UNROLL for (uint t = 0; t < SIDE4; t++) {
                uint e = r * SIDE + 4 * t;
                weights[(base + r) * WEIGHTS4 + t * LANES + lane] = vec4(dp[e], dp[e + 1], dp[e + 2], dp[e + 3]);
            }
        }
        barrier();
        copyTile(first, n, tile, false, head);
        for (uint i = 0; i < end; i += 4) {
            vec4 q[4 * COLS];
            UNROLL for (uint k = 0; k < 4; k++) {
                UNROLL for (uint u = 0; u < COLS; u++) q[k * COLS + u] = tileAt(i + k, first + min(tile + i + k, n - 1), false, head, min(u * LANES + lane, D4 - 1));
            }
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 w = weights[(base + r) * WEIGHTS4 + i / 4];
                UNROLL for (uint k = 0; k < 4; k++) {
                    UNROLL for (uint u = 0; u < COLS; u++) dk[r * COLS + u] = fma(vec4(w[k]), q[k * COLS + u], dk[r * COLS + u]);
                }
            }
        }
    }

    UNROLL for (uint r = 0; r < ROWS; r++) {
        uint j = begin + base + r;
        if (j < n) {
            UNROLL for (uint u = 0; u < COLS; u++) {
                uint c = u * LANES + lane;
                if (c < D4) {
                    storeDQKV(first + j, 1, head, c, live[r] ? dk[r * COLS + u] * pc.scale : vec4(0));
                    storeDQKV(first + j, 2, head, c, live[r] ? dv[r * COLS + u] : vec4(0));
                }
            }
        }
    }
}
