/* The register tile all matrix products are made of, and the packing that feeds it.
 *
 * A tile is MR rows by NR columns of C, held in registers while k runs: each step loads NR
 * floats of B and multiplies them by MR floats of A. One element of C is one chain of
 * fused multiply-adds over k in ascending order, whatever the tile it falls in, so no
 * result depends on where the tiles are cut.
 *
 *   AVX-512   14 x 32: 28 accumulators, 2 registers of B, A from memory by broadcast (of 32)
 *   AVX2       6 x 16: 12 accumulators, 2 of B, 1 of A (of 16)
 *   aarch64    8 x  8: 16 accumulators (of 32)
 *   other      4 x  8:  8 accumulators (of 16) */
#if defined(SIFT_512)
#define MR 14
#elif defined(SIFT_256)
#define MR 6
#elif defined(__aarch64__)
#define MR 8
#else
#define MR 4
#endif
#define NV 2
#define NR (NV * VL)

/* acc = sum over k of a(i,k) b(k,j). a(i,k) lies at a[i*rs + k*cs]; b is a packed panel. */
INL void tile(vf acc[MR][NV], long kc, const float *a, long rs, long cs, const float *b) {
#pragma GCC unroll 16
	for (int i = 0; i < MR; i++)
		acc[i][0] = acc[i][1] = vzero();
#pragma GCC unroll 2
	for (long k = 0; k < kc; k++) {
		vf b0 = vload(b), b1 = vload(b + VL);
#pragma GCC unroll 16
		for (int i = 0; i < MR; i++) {
			vf x = vset1(a[i * rs]);
			acc[i][0] = vfma(x, b0, acc[i][0]);
			acc[i][1] = vfma(x, b1, acc[i][1]);
		}
		a += cs;
		b += NR;
	}
}

/* tile_store: c = acc * alpha, or c += acc * alpha, for the first rows and cols of the tile. */
INL void tile_store(vf acc[MR][NV], float *c, long ldc, long rows, long cols, float alpha, int add) {
	vf s = vset1(alpha);
	if (rows >= MR && cols >= NR) {
#pragma GCC unroll 16
		for (int i = 0; i < MR; i++, c += ldc) {
			vstore(c, vfma(acc[i][0], s, add ? vload(c) : vzero()));
			vstore(c + VL, vfma(acc[i][1], s, add ? vload(c + VL) : vzero()));
		}
		return;
	}
	float buf[MR * NR] __attribute__((aligned(64)));
#pragma GCC unroll 16
	for (int i = 0; i < MR; i++) {
		vstore(buf + i * NR, acc[i][0]);
		vstore(buf + i * NR + VL, acc[i][1]);
	}
	for (long i = 0; i < minl(rows, MR); i++, c += ldc)
		FOR_COLS(j, w, minl(cols, NR)) {
			vf v = vload(buf + i * NR + j);
			vstorec(c + j, vfma(v, s, add ? vloadc(c + j, w) : vzero()), w);
		}
}

/* pack_rows lays rows x kc of a row-major source out as a panel [kc][R], row i of the
 * source becoming column i, times scale; columns from rows on are zero. */
INL void pack_rows(float *dst, long R, const float *src, long ld, long rows, long kc, float scale) {
	for (long i = 0; i < R; i++) {
		if (i < rows)
			for (long k = 0; k < kc; k++)
				dst[k * R + i] = src[i * ld + k] * scale;
		else
			for (long k = 0; k < kc; k++)
				dst[k * R + i] = 0;
	}
}

/* pack_cols lays kc x cols of a row-major source out as a panel [kc][R], zero from cols on. */
INL void pack_cols(float *dst, long R, const float *src, long ld, long cols, long kc) {
	for (long k = 0; k < kc; k++, dst += R, src += ld)
		for (long j = 0; j < R; j += VL) {
			long w = maxl(0, minl(VL, cols - j));
			vstorec(dst + j, w == VL ? vload(src + j) : vloadn(src + (w > 0 ? j : 0), w), minl(VL, R - j));
		}
}
