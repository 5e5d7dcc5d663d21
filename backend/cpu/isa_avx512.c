//go:build unix

/* The kernels for AVX-512 (F, BW, DQ, VL: every server core since Skylake-SP and Zen 4). */
#ifdef __x86_64__
#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2,prefer-vector-width=512")
#include <immintrin.h>
#endif
#define SIFT_512 1
#define SIFT_TABLE sift_avx512
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
