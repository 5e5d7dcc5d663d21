// The row of a Layout's RowKey that a dropout mask needs. Included by kernels whose binding
// ROWKEY is Drop.RowKey.
layout(set = 0, binding = ROWKEY, std430) readonly buffer RowKeyWords { uint rowKey[]; };

struct Key { uint row, sampleLo, sampleHi; };

Key keyOf(Mat m, uint row) {
    uint i = m.off + row * m.stride;
    return Key(rowKey[i + 1u], rowKey[i + 2u], rowKey[i + 3u]);
}

// dropFactors returns the factors of elements 4 block .. 4 block + 3.
vec4 dropFactors(Drop d, Key k, uint block) {
    uvec4 w = dropBlock(d, k.sampleLo, k.sampleHi, block);
    return vec4(dropFactor(d, w.x), dropFactor(d, w.y), dropFactor(d, w.z), dropFactor(d, w.w));
}
