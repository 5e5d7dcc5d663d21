#version 450
// link_i = the next k > i with index_k = index_i, or n if there is none; its top bit is set if
// there is an earlier one, too, or if the index is outside the table. Every invocation reads
// the whole list, in the same order, so that the reads are uniform.
#include "common.glsl"
#define STATUS 2
#include "status.glsl"

layout(local_size_x_id = 0) in;

layout(set = 0, binding = 0, std430) writeonly buffer Links { uint link[]; };
layout(set = 0, binding = 1, std430) readonly buffer Index { int index[]; };

layout(push_constant, std430) uniform Push {
    Mat link, index, status;
    uint n, size; // indices, rows of the table
    uint row0;
} p;

void main() {
    uint i = linearIndex();
    int me = index[p.index.off + min(i, p.n - 1u)];
    uint next = p.n, follows = 0u;
    for (uint k = 0u; k < p.n; k++) {
        bool equal = index[p.index.off + k] == me;
        follows = equal && k < i ? 0x80000000u : follows;
        next = equal && k > i ? min(next, k) : next;
    }
    if (i >= p.n) {
        return;
    }
    if (me < 0 || uint(me) >= p.size) {
        report(p.status.off, badIndex, p.row0 + i, me);
        follows = 0x80000000u;
    }
    link[p.link.off + i] = next | follows;
}
