// Rows of a sequence, for the attention kernels that have declared qkv, offsets and status
// and the push constants pc. Workgroups: blocks of rows, heads, sequences.

// sequenceRows finds the n rows from first of sequence s of the dispatch, as rows of the
// bindings, whose row 0 is row windowFirst of the batch. n is 0 for a sequence of another
// window, and for one with wrong offsets or longer than maxLen, which it reports.
void sequenceRows(uint s, out uint first, out uint n) {
    uint at = pc.offsets.off + s;
    int lo = offsets[at], hi = offsets[at + 1];
    first = n = 0;
    if (lo < 0 || hi < lo || uint(hi) > pc.rows || uint(hi - lo) > pc.maxLen) {
        if (atomicCompSwap(status[pc.status.off], 0u, 3u) == 0u) {
            status[pc.status.off + 1] = pc.firstSeq + s;
            status[pc.status.off + 2] = uint(lo < 0 || hi < lo ? lo : hi);
        }
        return;
    }
    if (uint(lo) < pc.windowFirst || uint(lo) >= pc.windowNext) return;
    first = uint(lo) - pc.windowFirst;
    n = uint(hi - lo);
}

// loadQKV returns columns 4c .. 4c+3 of part (0 query, 1 key, 2 value) of a head.
vec4 loadQKV(uint row, uint part, uint head, uint c) {
    uint at = pc.qkv.off + row * pc.qkv.stride + (part * gl_NumWorkGroups.y + head) * D + 4 * c;
    LOAD4(qkv, at, c)
}
