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

/* What a thread will read next, to be fetched into the second-level cache while it computes:
 * rows of lines cache lines each, ld bytes apart, n of them per SLICE steps of k. */
struct ahead {
	const char *row;
	long ld, lines, rows, line, n;
};
#define SLICE 64

INL void ahead_step(struct ahead *x) {
	for (long n = x->n; n > 0 && x->rows > 0; n--) {
		__builtin_prefetch(x->row + 64 * x->line, 0, 2);
		if (++x->line == x->lines) {
			x->line = 0;
			x->row += x->ld;
			x->rows--;
		}
	}
}

/* acc = sum over k of a(i,k) b(k,j) for the first R rows. a(i,k) lies at a[i*rs + k*cs]; b is a
 * packed panel. R is a constant where it is called: MR, or less at the lower edge of a matrix. */
INL void tile(int R, vf acc[MR][NV], long kc, const float *a, long rs, long cs, const float *b, struct ahead *x) {
	UNROLL
	for (int i = 0; i < R; i++)
		acc[i][0] = acc[i][1] = vzero();
	for (long left = kc; left > 0; left -= SLICE) {
		if (x)
			ahead_step(x);
		UNROLL_TWICE
		for (long k = x ? minl(left, SLICE) : kc; k > 0; k--) {
			vf b0 = vload(b), b1 = vload(b + VL);
			UNROLL
			for (int i = 0; i < R; i++) {
				vf y = vset1(a[i * rs]);
				acc[i][0] = vfma(y, b0, acc[i][0]);
				acc[i][1] = vfma(y, b1, acc[i][1]);
			}
			a += cs;
			b += NR;
		}
		if (!x)
			break;
	}
}

/* BY_HEIGHT calls f(R, ...) with the smallest R of three that holds the rows left. */
#define BY_HEIGHT(rows, f, ...)                                      \
	do {                                                             \
		if ((rows) > MR / 2)                                         \
			f(MR, __VA_ARGS__);                                      \
		else if ((rows) > (MR + 3) / 4)                              \
			f(MR / 2, __VA_ARGS__);                                  \
		else                                                         \
			f((MR + 3) / 4, __VA_ARGS__);                            \
	} while (0)

/* tile_store: c = acc, or c += acc, for the first rows <= R and cols of the tile. */
INL void tile_store(int R, vf acc[MR][NV], float *c, long ldc, long rows, long cols, int add) {
	if (rows >= R && cols >= NR) {
		UNROLL
		for (int i = 0; i < R; i++, c += ldc) {
			vf v = acc[i][0], w = acc[i][1];
			if (add) {
				v += vload(c);
				w += vload(c + VL);
			}
			vstore(c, v);
			vstore(c + VL, w);
		}
		return;
	}
	float buf[MR * NR] __attribute__((aligned(64)));
	UNROLL
	for (int i = 0; i < R; i++) {
		vstore(buf + i * NR, acc[i][0]);
		vstore(buf + i * NR + VL, acc[i][1]);
	}
	for (long i = 0; i < minl(rows, R); i++, c += ldc)
		FOR_COLS(j, w, minl(cols, NR)) {
			vf v = vload(buf + i * NR + j);
			if (add)
				v += vloadc(c + j, w);
			vstorec(c + j, v, w);
		}
}

/* vstorec for the width of a panel: 14 or 6 lanes, where a masked store may be slow. */
INL void vstorew(float *p, vf v, long n) {
#if defined(SIFT_256)
	if (n == 6) {
		_mm_storeu_ps(p, _mm256_castps256_ps128(v));
		_mm_storel_pi((__m64 *)(p + 4), _mm256_extractf128_ps(v, 1));
		return;
	}
#endif
	vstorec(p, v, n);
}

/* pack_rows lays rows x kc of a row-major source out as a panel [kc][R], row i of the
 * source becoming column i, times scale; columns from rows on are zero.
 *
 * Four columns of VL rows are transposed at a time: load quad g of vector j from row 4g+j, and
 * transpose the 4 x 4 floats that meet in each quad of lanes. */
INL void pack_rows(float *dst, long R, const float *src, long ld, long rows, long kc, float scale) {
	vf s = vset1(scale);
	for (long i = 0; i < R; i += VL) {
		const float *p = src + i * ld;
		float *q = dst + i;
		long n = rows - i, w = minl(VL, R - i), k = 0;
		for (; k + 4 <= kc; k += 4, p += 4, q += 4 * R) {
			vf a = vquads(p, ld, n), b = vquads(p + ld, ld, n - 1);
			vf c = vquads(p + 2 * ld, ld, n - 2), d = vquads(p + 3 * ld, ld, n - 3);
			vf x = vunpack_lo(a, b), y = vunpack_lo(c, d), z = vunpack_hi(a, b), u = vunpack_hi(c, d);
			vstorew(q, vpairs_lo(x, y) * s, w);
			vstorew(q + R, vpairs_hi(x, y) * s, w);
			vstorew(q + 2 * R, vpairs_lo(z, u) * s, w);
			vstorew(q + 3 * R, vpairs_hi(z, u) * s, w);
		}
		for (; k < kc; k++, p++, q += R)
			for (long r = 0; r < w; r++)
				q[r] = r < n ? p[r * ld] * scale : 0;
	}
}

/* pack_cols lays kc x cols of a row-major source out as successive panels [kc][R] of R columns
 * each, zero from cols on. All panels take their part of a row while it is in the cache. */
INL void pack_cols(float *dst, long R, const float *src, long ld, long cols, long kc) {
	for (long k = 0; k < kc; k++, dst += R, src += ld) {
		float *q = dst;
		long c = 0;
		for (; c + R <= cols; c += R, q += R * kc)
			for (long j = 0; j < R; j += VL)
				vstorew(q + j, vloadc(src + c + j, minl(VL, R - j)), minl(VL, R - j));
		if (c < cols)
			for (long j = 0; j < R; j += VL) {
				long w = maxl(0, minl(VL, cols - c - j));
				vstorew(q + j, vloadn(src + (w > 0 ? c + j : 0), w), minl(VL, R - j));
			}
	}
}
