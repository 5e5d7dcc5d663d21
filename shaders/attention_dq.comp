#version 450
// The first half of the gradient of attention. With m_ij = 0 or 1/(1-P) from dropout,
//
//   P_ij = exp(scale q_i.k_j - LSE_i),  Delta_i = DOut_i.Out_i
//   dS_ij = P_ij (m_ij DOut_i.v_j - Delta_i),  dq_i = scale sum_j dS_ij k_j
//
// as in algorithm 2 of Dao et al. (2023). Sets Delta, which attention_dkv reads.
#extension GL_GOOGLE_include_directive : require
#include "attention_begin.glsl"

layout(std430, binding = 0) writeonly buffer DQkv { float dqkv[]; };
layout(std430, binding = 0) writeonly buffer DQkv4 { vec4 dqkv4[]; };
layout(std430, binding = 1) writeonly buffer Delta { float delta[]; };
layout(std430, binding = 2) readonly buffer DOut { float dout[]; };
layout(std430, binding = 2) readonly buffer DOut4 { vec4 dout4[]; };
layout(std430, binding = 3) readonly buffer Out { float outs[]; };
layout(std430, binding = 3) readonly buffer Out4 { vec4 outs4[]; };
layout(std430, binding = 4) readonly buffer Lse { float lse[]; };
layout(std430, binding = 5) readonly buffer Qkv { float qkv[]; };
layout(std430, binding = 5) readonly buffer Qkv4 { vec4 qkv4[]; };
layout(std430, binding = 6) readonly buffer Offsets { int offsets[]; };
layout(std430, binding = 7) readonly buffer KeyValid { int keyValid[]; };
layout(std430, binding = 8) readonly buffer RowKey { uint rowKey[]; };
layout(std430, binding = 9) buffer Status { uint status[]; };
layout(push_constant, std430) uniform Push {
    Mat dqkv, delta, dout, outs, lse, qkv, offsets, keyValid, rowKey, status;
    Drop drop;
    uint firstSeq, windowFirst, windowNext, rows, maxLen;
    float scale;
} pc;
#include "attention_rows.glsl"

shared vec4 own[BLOCK * STRIDE4], ownOut[BLOCK * STRIDE4];
shared vec4 tiles[DIRECT ? 1 : TILE * STRIDE4];
shared vec4 weights[BLOCK * WEIGHTS4];
shared vec4 parts[BLOCK / 4 * LANES]; // of four rows
shared uint tileRow[TILE];
shared uint kept[DROPOUT ? BLOCK * (TILE / 4 + 1) : 1];

vec4 loadDOut(uint row, uint head, uint c) {
    uint at = pc.dout.off + row * pc.dout.stride + head * D + 4 * c;
    LOAD4(dout, at, c)
}

vec4 loadOut(uint row, uint head, uint c) {
    uint at = pc.outs.off + row * pc.outs.stride + head * D + 4 * c;
    LOAD4(outs, at, c)
}

void storeDQ(uint row, uint head, uint c, vec4 v) {
    uint at = pc.dqkv.off + row * pc.dqkv.stride + head * D + 4 * c;
    STORE4(dqkv, at, c, v)
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
        uint i = begin + at / D4, c = at % D4, to = at / D4 * STRIDE4 + c;
        own[to] = i < n ? loadQKV(first + i, 0, head, c) : vec4(0);
        ownOut[to] = i < n ? loadDOut(first + i, head, c) : vec4(0);
    }}
    uint sampleLo = 0, sampleHi = 0;
    if (DROPOUT) {
        sampleLo = rowKey[pc.rowKey.off + first * pc.rowKey.stride + 2];
        sampleHi = rowKey[pc.rowKey.off + first * pc.rowKey.stride + 3];
    }
    barrier();
    vec4 acc[ROWS * COLS];
    float rowLse[ROWS], rowDelta[ROWS];
    UNROLL for (uint r = 0; r < ROWS; r++) {
        UNROLL for (uint u = 0; u < COLS; u++) acc[r * COLS + u] = vec4(0);
        uint row = first + min(begin + base + r, n - 1);
        rowLse[r] = lse[pc.lse.off + row * pc.lse.stride + head];
        float part = 0;
        UNROLL for (uint u = 0; u < COLS; u++) {
            uint c = min(u * LANES + lane, D4 - 1);
            float longer = dot4(ownOut[(base + r) * STRIDE4 + c], loadOut(row, head, c), part);
            if (u * LANES + lane < D4) part = longer;
        }
        rowDelta[r] = part;
    }
    UNROLL for (uint r = 0; r < ROWS; r += 4) parts[(base + r) / 4 * LANES + lane] = vec4(rowDelta[r], rowDelta[r + 1], rowDelta[r + 2], rowDelta[r + 3]);
    barrier();
    UNROLL for (uint r = 0; r < ROWS; r += 4) {
        vec4 total = vec4(0);
        UNROLL for (uint k = 0; k < LANES; k++) total += parts[(base + r) / 4 * LANES + k];
        UNROLL for (uint k = 0; k < 4; k++) rowDelta[r + k] = total[k];
    }
    UNROLL for (uint r = 0; r < ROWS; r++) {
        uint i = begin + base + r;
        if (i < n && lane == 0) delta[pc.delta.off + (first + i) * pc.delta.stride + head] = rowDelta[r];
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
        copyTile(2, head);

        uint row[SIDE];
        bool live[SIDE];
        float s[ROWS * SIDE], dp[ROWS * SIDE];
        UNROLL for (uint t = 0; t < SIDE; t++) {
            row[t] = tileRow[tileIndex(t, lane)];
            live[t] = row[t] != NONE;
            if (!live[t]) row[t] = first;
            UNROLL for (uint r = 0; r < ROWS; r++) s[r * SIDE + t] = dp[r * SIDE + t] = 0;
        }
        for (uint c = 0; c < D4; c++) {
            vec4 v[SIDE];
            UNROLL for (uint t = 0; t < SIDE; t++) v[t] = tileAt(tileIndex(t, lane), row[t], 2, head, c);
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 o = ownOut[(base + r) * STRIDE4 + c];
                UNROLL for (uint t = 0; t < SIDE; t++) dp[r * SIDE + t] = dot4(o, v[t], dp[r * SIDE + t]);
            }
        }
        copyTile(1, head);
        for (uint c = 0; c < D4; c++) {
            vec4 k[SIDE];
            UNROLL for (uint t = 0; t < SIDE; t++) k[t] = tileAt(tileIndex(t, lane), row[t], 1, head, c);
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 q = own[(base + r) * STRIDE4 + c];
                UNROLL for (uint t = 0; t < SIDE; t++) s[r * SIDE + t] = dot4(q, k[t], s[r * SIDE + t]);
            }
        }
        UNROLL for (uint r = 0; r < ROWS; r++) {
            uint phase = (head * n + begin + base + r) * n + tile & 3u;
            UNROLL for (uint t = 0; t < SIDE4; t++) {
                uint at = t * LANES + lane;
                vec4 factor = vec4(1), ds;
                if (DROPOUT) {
                    uint b = (base + r) * (TILE / 4 + 1) + at;
                    factor = factors(kept[b], kept[b + 1], phase, pc.drop.kept);
                }
                UNROLL for (uint k = 0; k < 4; k++) {
                    uint e = r * SIDE + 4 * t + k;
                    ds[k] = expOf(fma(pc.scale, s[e], -rowLse[r])) * (dp[e] * factor[k] - rowDelta[r]);
                    if (!live[4 * t + k]) ds[k] = 0;
                }
                weights[(base + r) * WEIGHTS4 + at] = ds;
            }
        }
        barrier();
        uint end = min(n - tile, TILE);
        for (uint j = 0; j < end; j += 4) {
            vec4 k4[4 * COLS];
            UNROLL for (uint k = 0; k < 4; k++) {
                uint at = tileRow[j + k];
                bool some = at != NONE;
                if (!some) at = first;
                UNROLL for (uint u = 0; u < COLS; u++) {
                    k4[k * COLS + u] = tileAt(j + k, at, 1, head, min(u * LANES + lane, D4 - 1));
                    if (!some) k4[k * COLS + u] = vec4(0);
                }
            }
            UNROLL for (uint r = 0; r < ROWS; r++) {
                vec4 ds = weights[(base + r) * WEIGHTS4 + j / 4];
                UNROLL for (uint k = 0; k < 4; k++) {
                    UNROLL for (uint u = 0; u < COLS; u++) acc[r * COLS + u] = fma(vec4(ds[k]), k4[k * COLS + u], acc[r * COLS + u]);
                }
            }
        }
    }

    UNROLL for (uint r = 0; r < ROWS; r++) {
        uint i = begin + base + r;
        if (i < n) {
            UNROLL for (uint u = 0; u < COLS; u++) {
                if (u * LANES + lane < D4) storeDQ(first + i, head, u * LANES + lane, acc[r * COLS + u] * pc.scale);
            }
        }
    }
}
