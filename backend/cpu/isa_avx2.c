//go:build unix

/* The kernels for AVX2, FMA and BMI2 (Haswell, Zen and later). */
#ifdef __x86_64__
#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi2")
#include <immintrin.h>
#endif
#define SIFT_256 1
#define SIFT_TABLE sift_avx2
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
