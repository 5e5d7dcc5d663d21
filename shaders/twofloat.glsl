// Sums carried as two floats, the value and the errors so far. Included after rowwise.glsl.

// twoSum returns a + b: the rounded sum of the values, and all errors (Knuth, The Art of
// Computer Programming, volume 2, section 4.2.2, theorem B).
vec2 twoSum(vec2 a, vec2 b) {
    precise float s = a.x + b.x;
    precise float u = s - a.x;
    precise float lost = (a.x - (s - u)) + (b.x - u);
    precise float c = lost + (a.y + b.y);
    return vec2(s, c);
}

// twoSums adds over the lanes of a row; lane 0 gets the sum.
vec2 twoSums(vec2 v) {
    if (LANES == 1u) {
        return v;
    }
    uint l = lane();
    tree[l] = v;
    for (uint span = LANES / 2u; span > 0u; span /= 2u) {
        barrier();
        if (l < span) {
            tree[l] = twoSum(tree[l], tree[l + span]);
        }
    }
    return tree[0];
}
