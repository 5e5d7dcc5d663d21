// What the kernels share: operands, rows, dropout. Every kernel is one dispatch over
// storage buffers bound in the order of its Go call; the push constants give, for each
// binding, where its tensor begins and how far apart its rows are, in elements.
#extension GL_GOOGLE_include_directive : require

// Mat is a strided view: element (i, j) is at off + i * stride + j of its binding.
struct Mat { uint off, stride; };

// Drop is backend.Drop without its RowKey. An element is dropped if its word is below
// threshold and multiplied by kept = 1/(1-P) otherwise.
struct Drop { uint threshold; float kept; uint seedLo, seedHi, site, update; };

// linearIndex numbers the invocations of a dispatch made by dispatchLinear.
uint linearIndex() {
    return gl_GlobalInvocationID.x + gl_GlobalInvocationID.y * (gl_NumWorkGroups.x * gl_WorkGroupSize.x);
}

// groupIndex numbers the workgroups of a dispatch made by dispatchGroups.
uint groupIndex() { return gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x; }

// philox is block c of Philox4x32-10 under key k (Salmon et al. 2011; backend/philox).
uvec4 philox(uvec2 k, uvec4 c) {
    for (int round = 0; round < 10; round++) {
        uint hi0, lo0, hi1, lo1;
        umulExtended(0xD2511F53u, c.x, hi0, lo0);
        umulExtended(0xCD9E8D57u, c.z, hi1, lo1);
        c = uvec4(hi1 ^ c.y ^ k.x, lo1, hi0 ^ c.w ^ k.y, lo0);
        k += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// dropBlock returns the four words that decide elements 4 block .. 4 block + 3 of a sample
// (words 2 and 3 of a RowKey row are the low and high half of the sample id).
uvec4 dropBlock(Drop d, uint sampleLo, uint sampleHi, uint block) {
    return philox(uvec2(d.seedLo, d.seedHi), uvec4(block, d.site | (sampleHi << 16), d.update, sampleLo));
}

// dropFactor returns 0 for a dropped element and kept for another.
float dropFactor(Drop d, uint word) { return word < d.threshold ? 0.0 : d.kept; }

// dropElement is dropFactor of one element alone.
float dropElement(Drop d, uint sampleLo, uint sampleHi, uint element) {
    return dropFactor(d, dropBlock(d, sampleLo, sampleHi, element >> 2)[element & 3u]);
}
