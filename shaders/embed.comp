#version 450
// out_t = word[ids_t] + position[positions_t] + type[types_t], of the rows t whose three indices
// lie in the parts of the tables that are bound.
#include "tensor.glsl"
#define STATUS 7
#include "status.glsl"

layout(constant_id = 2) const uint TYPES = 1;

OUT_FLOATS(sum, 0)
layout(set = 0, binding = 1, std430) readonly buffer IDs { int ids[]; };
layout(set = 0, binding = 2, std430) readonly buffer Positions { int positions[]; };
layout(set = 0, binding = 3, std430) readonly buffer Types { int types[]; };
IN_FLOATS(word, 4)
IN_FLOATS(position, 5)
IN_FLOATS(type, 6)

// Part is which rows of a table of size rows are bound.
struct Part { uint first, count, size; };

layout(push_constant, std430) uniform Push {
    Mat sum, ids, positions, types, word, position, type, status;
    Part words, places, kinds;
    uint row0; // of the first row, for reports
    uint rows, units, chunks, repeat;
} p;

// bound reports whether row k is bound, having told the host if there is no such row.
bool bound(Part part, int k, uint row) {
    if (k < 0 || uint(k) >= part.size) {
        if (gl_LocalInvocationID.x == 0u) {
            report(p.status.off, badIndex, p.row0 + row, k);
        }
        return false;
    }
    return uint(k) >= part.first && uint(k) - part.first < part.count;
}

void unit(uint row, uint u) {
    int id = ids[p.ids.off + row], place = positions[p.positions.off + row], kind = TYPES != 0u ? types[p.types.off + row] : 0;
    bool here = bound(p.words, id, row);
    here = bound(p.places, place, row) && here;
    here = (TYPES == 0u || bound(p.kinds, kind, row)) && here;
    if (!here) {
        return;
    }
    uint to = at(p.sum, row, u), w = at(p.word, uint(id) - p.words.first, u);
    uint l = at(p.position, uint(place) - p.places.first, u), t = at(p.type, uint(kind) - p.kinds.first, u);
    if (WIDTH == 4u) {
        vec4 v = word4[w] + position4[l];
        sum4[to] = TYPES != 0u ? v + type4[t] : v;
    } else {
        float v = word1[w] + position1[l];
        sum1[to] = TYPES != 0u ? v + type1[t] : v;
    }
}

#include "each.glsl"
