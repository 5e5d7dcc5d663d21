/* C = act(alpha op(A) op(B) + beta C + bias).
 *
 * Blocking, from the inside out, after Goto and van de Geijn (2008):
 *   KC  steps of k per pass. A panel of A (MR x KC, 14 to 21 KiB) stays in the first-level cache
 *       while it meets the panels of B of a task one after the other.
 *   task  TASK_M x TASK_N panels, handed out to the threads: its part of B (TASK_N panels,
 *       about 400 KiB) and of A stay in the second-level cache.
 *   MB, NB  how much of A and B is packed at a time, by all threads together, in the workspace.
 * Cutting k into KC is the only cut that rounding can see, and it depends on nothing. */
#define KC 384
#define MB 4096
#define NB 4096
#define TASK_M 16
#define TASK_N 8

/* gemm_finish brings w lanes of C at row i, column j up to date with v, the product of this pass. */
INL void gemm_finish(const struct op_gemm *g, vf v, long i, long j, long w, int first, int last) {
	float *c = g->c + i * g->ldc + j;
	v *= vset1(g->alpha);
	if (!first)
		v += vloadc(c, w);
	else if (g->beta != 0)
		v = vfma(vset1(g->beta), vloadc(c, w), v);
	if (last) {
		if (g->bias)
			v += vloadc(g->bias + j, w);
		if (g->pre)
			vstorec(g->pre + i * g->ldpre + j, v, w);
		v = vact(v, g->act);
	}
	vstorec(c, v, w);
}

static void gemm_tile(const struct op_gemm *g, const float *a, const float *b, long kc, long i0, long j0, int first, int last) {
	vf acc[MR][NV];
	tile(acc, kc, a, 1, MR, b);
	if (i0 + MR <= g->m && j0 + NR <= g->n && !(last && (g->act || g->pre))) {
#pragma GCC unroll 16
		for (int i = 0; i < MR; i++) {
			gemm_finish(g, acc[i][0], i0 + i, j0, VL, first, last);
			gemm_finish(g, acc[i][1], i0 + i, j0 + VL, VL, first, last);
		}
		return;
	}
	float buf[MR * NR] __attribute__((aligned(64)));
#pragma GCC unroll 16
	for (int i = 0; i < MR; i++) {
		vstore(buf + i * NR, acc[i][0]);
		vstore(buf + i * NR + VL, acc[i][1]);
	}
	long rows = minl(MR, g->m - i0), cols = minl(NR, g->n - j0);
	for (long i = 0; i < rows; i++)
		FOR_COLS(j, w, cols)
			gemm_finish(g, vload(buf + i * NR + j), i0 + i, j0 + j, w, first, last);
}

static void gemm_pack_a(const struct op_gemm *g, float *dst, long i, long k, long kc) {
	long rows = minl(MR, g->m - i);
	if (g->transa)
		pack_cols(dst, MR, g->a + k * g->lda + i, g->lda, rows, kc);
	else
		pack_rows(dst, MR, g->a + i * g->lda + k, g->lda, rows, kc, 1);
}

static void gemm_pack_b(const struct op_gemm *g, float *dst, long j, long k, long kc) {
	long cols = minl(NR, g->n - j);
	if (g->transb)
		pack_rows(dst, NR, g->b + j * g->ldb + k, g->ldb, cols, kc, 1);
	else
		pack_cols(dst, NR, g->b + k * g->ldb + j, g->ldb, cols, kc);
}

static void gemm_run(struct team *t, int tid, const void *args) {
	const struct op_gemm *g = args;
	float *packed_a = (float *)t->shared;
	float *packed_b = packed_a + roundup(minl(MB, g->m), MR) * minl(KC, g->k) + 16;
	packed_b = (float *)(((uintptr_t)packed_b + 63) & ~(uintptr_t)63);
	(void)tid;
	for (long jb = 0; jb < g->n; jb += NB)
		for (long kb = 0; kb == 0 || kb < g->k; kb += KC)
			for (long ib = 0; ib < g->m; ib += MB) {
				long kc = minl(KC, g->k - kb);
				long ma = ceildiv(minl(MB, g->m - ib), MR), nb = ceildiv(minl(NB, g->n - jb), NR);
				int first = kb == 0, last = kb + KC >= g->k;
				long packs = ma + (ib == 0 ? nb : 0); /* B is packed once for all of ib */
				for (long p; (p = team_next(t)) < packs;) {
					if (p < ma)
						gemm_pack_a(g, packed_a + p * MR * kc, ib + p * MR, kb, kc);
					else
						gemm_pack_b(g, packed_b + (p - ma) * NR * kc, jb + (p - ma) * NR, kb, kc);
				}
				team_barrier(t);
				long tm = TASK_M, tn = TASK_N;
				while (ceildiv(ma, tm) * ceildiv(nb, tn) < 4 * t->threads && tm * tn > 2)
					*(tm > tn ? &tm : &tn) /= 2;
				long down = ceildiv(ma, tm), tasks = down * ceildiv(nb, tn);
				for (long q; (q = team_next(t)) < tasks;) {
					long p0 = q % down * tm, q0 = q / down * tn;
					for (long i = p0; i < minl(ma, p0 + tm); i++)
						for (long j = q0; j < minl(nb, q0 + tn); j++)
							gemm_tile(g, packed_a + i * MR * kc, packed_b + j * NR * kc, kc, ib + i * MR, jb + j * NR, first, last);
				}
				team_barrier(t);
			}
}

static void gemm_need(const void *args, int threads, struct need *n) {
	const struct op_gemm *g = args;
	long kc = minl(KC, g->k);
	(void)threads;
	n->shared = 4 * kc * (roundup(minl(MB, g->m), MR) + roundup(minl(NB, g->n), NR)) + 256;
	n->work = (double)g->m * (double)g->n * (double)maxl(1, g->k) / 16;
}
