#version 450
// The matrix product on subgroups of 8 invocations.
#extension GL_GOOGLE_include_directive : require
#define LANES 8
#define SHUFFLES(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3) X(i, 4) X(i, 5) X(i, 6) X(i, 7)
#include "gemm_lanes.glsl"
