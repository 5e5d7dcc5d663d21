/* AdamW over flat vectors, and the sum of squares that gradient clipping needs. */

/* Elements per task and per partial sum: fixed, so that the sum does not depend on the threads. */
#define FLAT_CHUNK 16384

static void adamw_run(struct team *t, int tid, const void *args) {
	const struct op_adamw *o = args;
	(void)tid;
	const vf gs = vset1((float)o->grad_scale), b1 = vset1((float)o->beta1), b2 = vset1((float)o->beta2);
	const vf a1 = vset1((float)(1 - o->beta1)), a2 = vset1((float)(1 - o->beta2));
	const vf decay = vset1((float)(o->lr * o->decay)), rate = vset1((float)(o->lr / o->correct1));
	const vf correct = vset1((float)(1 / o->correct2)), eps = vset1((float)o->eps);
	for (long c; (c = team_next(t) * FLAT_CHUNK) < o->n;)
		FOR_COLS(i, w, minl(FLAT_CHUNK, o->n - c)) {
			long k = c + i;
			vf g = vloadc(o->grad + k, w) * gs, p = vloadc(o->param + k, w);
			vf m = vfma(b1, vloadc(o->m + k, w), a1 * g);
			vf v = vfma(b2, vloadc(o->v + k, w), a2 * g * g);
			p = vfnma(decay, p, p);
			p = p - rate * m / (vsqrt(v * correct) + eps);
			vstorec(o->param + k, p, w);
			vstorec(o->m + k, m, w);
			vstorec(o->v + k, v, w);
			vstorec(o->grad + k, vzero(), w);
		}
}

static void adamw_need(const void *args, int threads, struct need *n) {
	const struct op_adamw *o = args;
	(void)threads;
	n->work = 4 * (double)o->n;
}

/* dst = sum of x^2 in float64: eight running sums per chunk, then the chunks in order. */
static void sumsq_run(struct team *t, int tid, const void *args) {
	const struct op_sumsq *o = args;
	double *partial = (double *)t->shared;
	long chunks = ceildiv(o->n, FLAT_CHUNK);
	for (long c; (c = team_next(t)) < chunks;) {
		const float *x = o->x + c * FLAT_CHUNK;
		long n = minl(FLAT_CHUNK, o->n - c * FLAT_CHUNK), i = 0;
		double s[8] = {0, 0, 0, 0, 0, 0, 0, 0};
		for (; i + 8 <= n; i += 8)
			for (int j = 0; j < 8; j++)
				s[j] += (double)x[i + j] * (double)x[i + j];
		for (; i < n; i++)
			s[i % 8] += (double)x[i] * (double)x[i];
		partial[c] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
	}
	team_barrier(t);
	if (tid != 0)
		return;
	double sum = 0;
	for (long c = 0; c < chunks; c++)
		sum += partial[c];
	*o->dst = (float)sum;
}

static void sumsq_need(const void *args, int threads, struct need *n) {
	const struct op_sumsq *o = args;
	(void)threads;
	n->shared = ceildiv(o->n, FLAT_CHUNK) * sizeof(double);
	n->work = (double)o->n;
}
