/* C = act(alpha op(A) op(B) + beta C + bias).
 *
 * Blocking, after Goto and van de Geijn (2008), with one change: of A and B, the one with more
 * panels is packed by the thread that will use it, a chunk at a time, and only the other one
 * is packed once for all threads.
 *
 *   kc     steps of k per pass: all of them up to KC_WHOLE, which saves reading C again, else at most
 *          KC, so that a panel of A (MR x kc) fits the first-level cache beside what streams past
 *          it. The passes are as even as can be. This is the only cut that rounding can see, and it
 *          depends on K alone.
 *   chunk  CHUNK_A or CHUNK_B panels of kc steps, 200 to 400 KiB: they stay in the thread's
 *          second-level cache while the shared panels go by, beside what the next chunk will be
 *          packed from, which is fetched meanwhile. Fewer panels if threads would idle.
 *
 * While the threads work through the chunks of one pass, the shared panels of the next are
 * packed beside it: one barrier a pass. */
#define KC_WHOLE 768
#define KC 512
#define CHUNK_A 8
#define CHUNK_B 4

struct gemm_plan {
	int own_b;           /* each thread packs its own B, else its own A */
	long kc, passes;
	long own, other;     /* panels packed by threads, panels packed for all */
	long chunks, parts;  /* own is cut into chunks, other into parts; a task is one of each */
	long shared;         /* floats of one pass's shared panels */
};

static struct gemm_plan gemm_plan(const struct op_gemm *g, int threads) {
	struct gemm_plan p;
	long mp = ceildiv(g->m, MR), np = ceildiv(g->n, NR);
	p.passes = g->k <= KC_WHOLE ? 1 : ceildiv(g->k, KC);
	p.kc = roundup(ceildiv(g->k, p.passes), 4);
	p.passes = maxl(1, ceildiv(g->k, maxl(1, p.kc)));
	p.own_b = np * NR >= mp * MR;
	p.own = p.own_b ? np : mp;
	p.other = p.own_b ? mp : np;
	p.shared = p.other * (p.own_b ? MR : NR) * p.kc;
	long chunks = roundup(ceildiv(p.own, p.own_b ? CHUNK_B : CHUNK_A), threads);
	p.chunks = minl(p.own, maxl(chunks, 4 * threads));
	p.parts = minl(p.other, p.chunks < 2 * threads ? ceildiv(4 * threads, maxl(1, p.chunks)) : 1);
	return p;
}

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

/* gemm_rows computes the tile of R rows at row i0, column j0. */
INL void gemm_rows(int R, const struct op_gemm *g, const float *a, const float *b, long kc, long i0, long j0, int first, int last, struct ahead *x) {
	vf acc[MR][NV];
	tile(R, acc, kc, a, 1, MR, b, x);
	if (i0 + R <= g->m && j0 + NR <= g->n && !(last && (g->act || g->pre))) {
		UNROLL
		for (int i = 0; i < R; i++) {
			gemm_finish(g, acc[i][0], i0 + i, j0, VL, first, last);
			gemm_finish(g, acc[i][1], i0 + i, j0 + VL, VL, first, last);
		}
		return;
	}
	float buf[MR * NR] __attribute__((aligned(64)));
	tile_store(R, acc, buf, NR, R, NR, 0);
	long rows = minl(R, g->m - i0), cols = minl(NR, g->n - j0);
	for (long i = 0; i < rows; i++)
		FOR_COLS(j, w, cols)
			gemm_finish(g, vload(buf + i * NR + j), i0 + i, j0 + j, w, first, last);
}

COLD void gemm_tile(const struct op_gemm *g, const float *a, const float *b, long kc, long i0, long j0, int first, int last, struct ahead *x) {
	for (long i = i0; i < minl(g->m, i0 + MR); i++) { /* C arrives while the tile is computed */
		__builtin_prefetch(g->c + i * g->ldc + j0, 1);
		__builtin_prefetch(g->c + i * g->ldc + j0 + NR - 1, 1);
	}
	BY_HEIGHT(g->m - i0, gemm_rows, g, a, b, kc, i0, j0, first, last, x);
}

/* Panels packed together: their columns are neighbours in memory if the source is read by rows. */
#define PACK_PANELS 8

/* gemm_pack_a packs panels i .. end of op(A), steps k .. k + kc. */
static void gemm_pack_a(const struct op_gemm *g, float *dst, long i, long end, long k, long kc) {
	i *= MR;
	end = minl(g->m, end * MR);
	if (g->transa)
		for (; i < end; i += PACK_PANELS * MR, dst += PACK_PANELS * MR * kc)
			pack_cols(dst, MR, g->a + k * g->lda + i, g->lda, minl(end - i, PACK_PANELS * MR), kc);
	else
		for (; i < end; i += MR, dst += MR * kc)
			if (i + MR <= end)
				pack_rows(dst, MR, g->a + i * g->lda + k, g->lda, MR, kc, 1);
			else
				pack_rows(dst, MR, g->a + i * g->lda + k, g->lda, end - i, kc, 1);
}

/* gemm_pack_b packs panels j .. end of op(B), steps k .. k + kc. */
static void gemm_pack_b(const struct op_gemm *g, float *dst, long j, long end, long k, long kc) {
	j *= NR;
	end = minl(g->n, end * NR);
	if (!g->transb)
		for (; j < end; j += PACK_PANELS * NR, dst += PACK_PANELS * NR * kc)
			pack_cols(dst, NR, g->b + k * g->ldb + j, g->ldb, minl(end - j, PACK_PANELS * NR), kc);
	else
		for (; j < end; j += NR, dst += NR * kc)
			if (j + NR <= end)
				pack_rows(dst, NR, g->b + j * g->ldb + k, g->ldb, NR, kc, 1);
			else
				pack_rows(dst, NR, g->b + j * g->ldb + k, g->ldb, end - j, kc, 1);
}

/* gemm_ahead describes what packing panels i .. end of the thread's own factor will read. */
static struct ahead gemm_ahead(const struct op_gemm *g, int own_b, long i, long end, long k, long kc, long tiles) {
	long width = own_b ? NR : MR, ld = own_b ? g->ldb : g->lda;
	long by_rows = own_b ? g->transb : !g->transa; /* its panels are rows of the source */
	const float *p = own_b ? g->b : g->a;
	long n = minl(own_b ? g->n : g->m, end * width) - i * width;
	struct ahead x = {0};
	if (n <= 0)
		return x;
	x.row = (const char *)(p + (by_rows ? i * width * ld + k : k * ld + i * width));
	x.ld = ld * 4;
	x.rows = by_rows ? n : kc;
	x.lines = ceildiv(4 * (by_rows ? kc : n), 64) + 1;
	x.n = ceildiv(x.rows * x.lines, maxl(1, tiles * ceildiv(kc, SLICE)));
	return x;
}

static void gemm_run(struct team *t, int tid, const void *args) {
	const struct op_gemm *g = args;
	struct gemm_plan p = gemm_plan(g, t->threads);
	float *own = (float *)t->scratch[tid], *shared = (float *)t->shared;
	long group = minl(PACK_PANELS, ceildiv(p.other, 4 * t->threads)); /* panels per packing task */
	long packs = p.other > 0 ? ceildiv(p.other, group) : 0, tasks = p.chunks * p.parts;
	/* Pass s packs the shared panels of s and multiplies with those of s-1. */
	for (long s = 0; s <= p.passes; s++) {
		long now = s < p.passes ? packs : 0, then = s > 0 ? tasks : 0;
		for (long q; (q = team_next(t)) < now + then;) {
			if (q < now) {
				long k = s * p.kc, kc = minl(p.kc, g->k - k), i = q * group;
				float *dst = shared + (s & 1) * p.shared;
				if (p.own_b)
					gemm_pack_a(g, dst + i * MR * kc, i, minl(p.other, i + group), k, kc);
				else
					gemm_pack_b(g, dst + i * NR * kc, i, minl(p.other, i + group), k, kc);
				continue;
			}
			long k = (s - 1) * p.kc, kc = minl(p.kc, g->k - k);
			int first = s == 1, last = s == p.passes;
			const float *panels = shared + ((s - 1) & 1) * p.shared;
			long c = (q - now) / p.parts, part = (q - now) % p.parts;
			long i0 = c * p.own / p.chunks, i1 = (c + 1) * p.own / p.chunks;
			long j0 = part * p.other / p.parts, j1 = (part + 1) * p.other / p.parts;
			long c2 = c + ceildiv(t->threads, p.parts); /* the chunk this thread is likely to get next */
			long next0 = c2 < p.chunks ? c2 * p.own / p.chunks : 0, next1 = c2 < p.chunks ? (c2 + 1) * p.own / p.chunks : 0;
			struct ahead x = gemm_ahead(g, p.own_b, next0, next1, k, kc, (i1 - i0) * (j1 - j0));
			if (p.own_b) {
				gemm_pack_b(g, own, i0, i1, k, kc);
				for (long i = j0; i < j1; i++)
					for (long j = i0; j < i1; j++)
						gemm_tile(g, panels + i * MR * kc, own + (j - i0) * NR * kc, kc, i * MR, j * NR, first, last, &x);
			} else {
				gemm_pack_a(g, own, i0, i1, k, kc);
				for (long b = j0; b < j1; b += CHUNK_B)
					for (long i = i0; i < i1; i++)
						for (long j = b; j < minl(j1, b + CHUNK_B); j++)
							gemm_tile(g, own + (i - i0) * MR * kc, panels + j * NR * kc, kc, i * MR, j * NR, first, last, &x);
			}
		}
		team_barrier(t);
	}
}

static void gemm_need(const void *args, int threads, struct need *n) {
	const struct op_gemm *g = args;
	struct gemm_plan p = gemm_plan(g, threads);
	n->shared = 2 * 4 * p.shared;
	n->scratch = 4 * p.kc * ceildiv(p.own, maxl(1, p.chunks)) * (p.own_b ? NR : MR);
	n->work = (double)g->m * (double)g->n * (double)maxl(1, g->k) / 16;
}
