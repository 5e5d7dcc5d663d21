/* The vector layer the kernels are written against. One of SIFT_512, SIFT_256 or neither
 * is defined by the isa_*.c that includes this.
 *
 *   VL             floats in a vector
 *   vf, vm         a vector of floats; a mask with one flag per lane
 *   vfma(a,b,c)    a*b + c, in one rounding where the machine has it
 *   vfnma(a,b,c)   c - a*b, likewise
 *   vmin, vmax     return the second operand if either is NaN
 *   vloadn(p,n)    the first n lanes (0 <= n <= VL) from p, zeros after; reads nothing beyond
 *   vstoren(p,v,n) the first n lanes to p; writes nothing beyond
 *   vbits(w)       the mask whose lane i is bit i of w
 *   vscale2(p,n,t,x)  p times 2^n, 0 if x < EXP_LOWEST; the low bits of t hold n + 127
 *   vdiv(a,b)      a / b to within a unit in the last place, for finite b from 1 on
 *   vquads(p,ld,n) four floats from each of the rows 0, 4, 8 .. of those below n, at p + row*ld
 *   vunpack, vpairs interleave single floats, or pairs, within each quad of lanes
 *
 * The compiler may not contract or reassociate (-std=c11), so the order of operations
 * is the one written, in full tiles and at the edges alike. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INL static inline __attribute__((always_inline, unused))
#define COLD static __attribute__((noinline, unused))

/* Loops over the rows of a tile are unrolled, so that its accumulators live in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_TWICE _Pragma("GCC unroll 2")
#endif

#if defined(SIFT_512)

#define VL 16
typedef __m512 vf;
typedef __mmask16 vm;
INL vf vset1(float x) { return _mm512_set1_ps(x); }
INL vf vload(const float *p) { return _mm512_loadu_ps(p); }
INL void vstore(float *p, vf v) { _mm512_storeu_ps(p, v); }
INL vm vfirst(long n) { return (vm)((1u << n) - 1); }
INL vf vloadn(const float *p, long n) { return _mm512_maskz_loadu_ps(vfirst(n), p); }
INL void vstoren(float *p, vf v, long n) { _mm512_mask_storeu_ps(p, vfirst(n), v); }
INL vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INL vf vfnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
INL vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
INL vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
INL vf vsqrt(vf a) { return _mm512_sqrt_ps(a); }
INL vm vlt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INL vm vbits(unsigned w) { return (vm)w; }
INL vf vkeep(vm m, vf a) { return _mm512_maskz_mov_ps(m, a); }
INL vf vsel(vm m, vf a, vf b) { return _mm512_mask_mov_ps(b, m, a); }
INL float vhsum(vf a) { return _mm512_reduce_add_ps(a); }
INL float vhmax(vf a) { return _mm512_reduce_max_ps(a); }
INL vf vquads(const float *p, long ld, long n) {
	vf v = _mm512_setzero_ps();
	if (n > 0)
		v = _mm512_castps128_ps512(_mm_loadu_ps(p));
	if (n > 4)
		v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(p + 4 * ld));
	if (n > 8)
		v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(p + 8 * ld));
	if (n > 12)
		v = _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(p + 12 * ld));
	return v;
}
INL vf vunpack_lo(vf a, vf b) { return _mm512_unpacklo_ps(a, b); }
INL vf vunpack_hi(vf a, vf b) { return _mm512_unpackhi_ps(a, b); }
INL vf vpairs_lo(vf a, vf b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
INL vf vpairs_hi(vf a, vf b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
#define EXP_LOWEST (-104.0f) /* 2^-150 is less than any float: the scaling flushes it to 0 */
INL vf vscale2(vf p, vf n, vf t, vf x) {
	(void)t;
	(void)x;
	return _mm512_scalef_ps(p, n);
}
/* a/b by a reciprocal of 14 bits and two Newton steps: a division of 16 lanes takes as long as the rest of a GELU. */
INL vf vdiv(vf a, vf b) {
	vf r = _mm512_rcp14_ps(b);
	r = vfma(r, vfnma(b, r, vset1(1.0f)), r);
	vf q = a * r;
	return vfma(vfnma(b, q, a), r, q);
}

#elif defined(SIFT_256)

#define VL 8
typedef __m256 vf;
typedef __m256 vm;
INL vf vset1(float x) { return _mm256_set1_ps(x); }
INL vf vload(const float *p) { return _mm256_loadu_ps(p); }
INL void vstore(float *p, vf v) { _mm256_storeu_ps(p, v); }
INL __m256i vfirst(long n) {
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INL vf vloadn(const float *p, long n) { return _mm256_maskload_ps(p, vfirst(n)); }
INL void vstoren(float *p, vf v, long n) { _mm256_maskstore_ps(p, vfirst(n), v); }
INL vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INL vf vfnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
INL vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
INL vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
INL vf vsqrt(vf a) { return _mm256_sqrt_ps(a); }
INL vm vlt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
INL vm vbits(unsigned w) {
	const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)w), bit), bit));
}
INL vf vkeep(vm m, vf a) { return _mm256_and_ps(m, a); }
INL vf vsel(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }
INL float vhsum(vf a) {
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INL float vhmax(vf a) {
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INL vf vquads(const float *p, long ld, long n) {
	vf v = _mm256_setzero_ps();
	if (n > 0)
		v = _mm256_castps128_ps256(_mm_loadu_ps(p));
	if (n > 4)
		v = _mm256_insertf128_ps(v, _mm_loadu_ps(p + 4 * ld), 1);
	return v;
}
INL vf vunpack_lo(vf a, vf b) { return _mm256_unpacklo_ps(a, b); }
INL vf vunpack_hi(vf a, vf b) { return _mm256_unpackhi_ps(a, b); }
INL vf vpairs_lo(vf a, vf b) { return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
INL vf vpairs_hi(vf a, vf b) { return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
#define EXP_LOWEST (-87.0f)
INL vf vscale2(vf p, vf n, vf t, vf x) {
	(void)n;
	return _mm256_andnot_ps(vlt(x, vset1(EXP_LOWEST)), p * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
INL vf vdiv(vf a, vf b) { return a / b; }

#else /* four lanes by the compiler's vector extension: SSE2, NEON, or whatever there is */

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#define VL 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef vi vm;
INL vf vset1(float x) { return (vf){x, x, x, x}; }
INL vf vload(const float *p) {
	vf v;
	memcpy(&v, p, sizeof v);
	return v;
}
INL void vstore(float *p, vf v) { memcpy(p, &v, sizeof v); }
INL vf vloadn(const float *p, long n) {
	vf v = {0, 0, 0, 0};
	for (long i = 0; i < n; i++)
		v[i] = p[i];
	return v;
}
INL void vstoren(float *p, vf v, long n) {
	for (long i = 0; i < n; i++)
		p[i] = v[i];
}
INL vm vlt(vf a, vf b) { return a < b; }
INL vf vsel(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
INL vf vkeep(vm m, vf a) { return (vf)(m & (vi)a); }
INL vf vmin(vf a, vf b) { return vsel(a < b, a, b); }
INL vf vmax(vf a, vf b) { return vsel(a > b, a, b); }
#if defined(__aarch64__)
INL vf vfma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INL vf vfnma(vf a, vf b, vf c) { return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INL vf vsqrt(vf a) { return (vf)vsqrtq_f32((float32x4_t)a); }
#else
INL vf vfma(vf a, vf b, vf c) { return a * b + c; }
INL vf vfnma(vf a, vf b, vf c) { return c - a * b; }
INL vf vsqrt(vf a) { return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
#endif
INL vm vbits(unsigned w) {
	const vi bit = {1, 2, 4, 8};
	vi x = {(int)w, (int)w, (int)w, (int)w};
	return (x & bit) == bit;
}
INL float vhsum(vf a) { return (a[0] + a[2]) + (a[1] + a[3]); }
INL float vhmax(vf a) {
	float x = a[0] > a[2] ? a[0] : a[2], y = a[1] > a[3] ? a[1] : a[3];
	return x > y ? x : y;
}
INL vf vquads(const float *p, long ld, long n) {
	(void)ld;
	return n > 0 ? vload(p) : vset1(0);
}
INL vf vunpack_lo(vf a, vf b) { return (vf){a[0], b[0], a[1], b[1]}; }
INL vf vunpack_hi(vf a, vf b) { return (vf){a[2], b[2], a[3], b[3]}; }
INL vf vpairs_lo(vf a, vf b) { return (vf){a[0], a[1], b[0], b[1]}; }
INL vf vpairs_hi(vf a, vf b) { return (vf){a[2], a[3], b[2], b[3]}; }
#define EXP_LOWEST (-87.0f)
INL vf vscale2(vf p, vf n, vf t, vf x) {
	(void)n;
	return (vf)(~(x < EXP_LOWEST) & (vi)(p * (vf)((vi)t << 23)));
}
INL vf vdiv(vf a, vf b) { return a / b; }

#endif

INL vf vzero(void) { return vset1(0); }
/* The lanes of a row of n floats from column j on: VL, or what is left. */
INL long lanes(long j, long n) { return n - j < VL ? n - j : VL; }
INL vf vloadc(const float *p, long n) { return n == VL ? vload(p) : vloadn(p, n); }
INL void vstorec(float *p, vf v, long n) {
	if (n == VL)
		vstore(p, v);
	else
		vstoren(p, v, n);
}
INL long ceildiv(long a, long b) { return (a + b - 1) / b; }
INL long roundup(long a, long b) { return ceildiv(a, b) * b; }
INL long minl(long a, long b) { return a < b ? a : b; }
INL long maxl(long a, long b) { return a > b ? a : b; }

/* Rows of a row-wise operation are handed out in groups of about ROW_GROUP elements. */
#define ROW_GROUP 8192
INL long row_group(long cols) { return maxl(1, ROW_GROUP / maxl(1, cols)); }
#define FOR_ROWS(t, i, n, cols)                                                                                       \
	for (long i##_per = row_group(cols), i##_task = team_next(t); i##_task * i##_per < (n); i##_task = team_next(t)) \
		for (long i = i##_task * i##_per; i < minl(n, (i##_task + 1) * i##_per); i++)
/* FOR_COLS walks a row of n floats by vectors; w lanes are live at column j. */
#define FOR_COLS(j, w, n) for (long j = 0, w; j < (n) && (w = lanes(j, n), 1); j += VL)
