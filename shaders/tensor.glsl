// Bindings as scalars and as vectors, and the constants of an element-wise kernel.
#include "common.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint WIDTH = 4; // elements of a unit: 4 needs offsets, strides and columns divisible by 4

// Tensors of floats: NAME1 is the binding as float[], NAME4 as vec4[].
#define IN_FLOATS(NAME, b) \
    layout(set = 0, binding = b, std430) readonly buffer NAME##Scalars { float NAME##1[]; }; \
    layout(set = 0, binding = b, std430) readonly buffer NAME##Vectors { vec4 NAME##4[]; };
#define OUT_FLOATS(NAME, b) \
    layout(set = 0, binding = b, std430) writeonly buffer NAME##Scalars { float NAME##1[]; }; \
    layout(set = 0, binding = b, std430) writeonly buffer NAME##Vectors { vec4 NAME##4[]; };
#define UPDATED_FLOATS(NAME, b) \
    layout(set = 0, binding = b, std430) buffer NAME##Scalars { float NAME##1[]; }; \
    layout(set = 0, binding = b, std430) buffer NAME##Vectors { vec4 NAME##4[]; };

// Where unit u of a row of m begins, in units.
uint at(Mat m, uint row, uint u) { return (m.off + row * m.stride) / WIDTH + u; }
