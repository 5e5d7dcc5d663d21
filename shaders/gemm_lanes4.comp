#version 450
// The matrix product on subgroups of 4 invocations.
#extension GL_GOOGLE_include_directive : require
#define LANES 4
#define SHUFFLES(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)
#include "gemm_lanes.glsl"
