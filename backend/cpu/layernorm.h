/* LayerNorm with dropout and residual before it, forward and backward.
 *
 *   z = dropout(x) + residual,  y = (z - mean) rstd gamma + beta
 *   dz = rstd (g - mean(g) - xhat mean(g xhat)),  g = dy gamma,  xhat = (z - mean) rstd
 *   dgamma += sum over rows of dy xhat,  dbeta += sum over rows of dy */

static void layernorm_run(struct team *t, int tid, const void *args) {
	const struct op_layernorm *o = args;
	uint64_t *bits = (uint64_t *)t->scratch[tid];
	long h = o->x.cols;
	FOR_ROWS(t, i, o->x.rows, h) {
		const float *x = o->x.p + i * o->x.stride, *z = x;
		const float *residual = o->residual.p ? o->residual.p + i * o->residual.stride : NULL;
		vf sum = vzero();
		if (o->drop.on) {
			const int32_t *key = o->drop.rowkey + i * o->drop.stride;
			keep_row(bits, (uint64_t)key[1] * (uint64_t)h, h, &o->drop, key);
		}
		if (o->z.p) {
			float *out = o->z.p + i * o->z.stride;
			FOR_COLS(j, w, h) {
				vf v = vloadc(x + j, w);
				if (o->drop.on)
					v = vkeep(keep_at(bits, j), v * vset1(o->drop.scale));
				if (residual)
					v += vloadc(residual + j, w);
				vstorec(out + j, v, w);
				sum += v;
			}
			z = out;
		} else {
			FOR_COLS(j, w, h)
				sum += vloadc(z + j, w);
		}
		/* The first mean carries the rounding of the whole sum; the deviations from it are small,
		 * so their mean corrects it, and the variance about it, almost exactly. */
		float mean = vhsum(sum) / (float)h;
		vf m = vset1(mean), square = vzero();
		sum = vzero();
		FOR_COLS(j, w, h) {
			vf v = vloadc(z + j, w) - m;
			if (w < VL)
				v = vsel(vbits((1u << w) - 1), v, vzero());
			sum += v;
			square = vfma(v, v, square);
		}
		float rest = vhsum(sum) / (float)h;
		float var = vhsum(square) / (float)h - rest * rest;
		float rstd = 1.0f / sqrtf((var > 0 || var != var ? var : 0) + o->eps);
		mean += rest;
		m = vset1(mean);
		vf r = vset1(rstd);
		float *y = o->y.p + i * o->y.stride;
		FOR_COLS(j, w, h) {
			vf v = (vloadc(z + j, w) - m) * r;
			vstorec(y + j, vfma(v, vloadc(o->gamma + j, w), vloadc(o->beta + j, w)), w);
		}
		o->mean.p[i * o->mean.stride] = mean;
		o->rstd.p[i * o->rstd.stride] = rstd;
	}
}

static void layernorm_need(const void *args, int threads, struct need *n) {
	const struct op_layernorm *o = args;
	(void)threads;
	n->scratch = KEEP_WORDS(o->x.cols) * 8;
	n->work = 2 * (double)o->x.rows * (double)o->x.cols;
}

/* Rows per partial sum of dgamma and dbeta: fixed, so that the sums do not depend on the threads. */
#define LN_CHUNK 32

static void layernorm_backward_run(struct team *t, int tid, const void *args) {
	const struct op_layernorm_backward *o = args;
	uint64_t *bits = (uint64_t *)t->scratch[tid];
	long h = o->dy.cols, n = o->dy.rows, pad = roundup(h, VL), chunks = ceildiv(n, LN_CHUNK);
	float *partial = (float *)t->shared; /* [chunks][2][pad]: dgamma, dbeta */
	int sums = o->dgamma != NULL || o->dbeta != NULL;
	for (long c; (c = team_next(t)) < chunks;) {
		float *dgamma = partial + c * 2 * pad, *dbeta = dgamma + pad;
		if (sums)
			memset(dgamma, 0, 2 * pad * sizeof(float));
		for (long i = c * LN_CHUNK; i < minl(n, (c + 1) * LN_CHUNK); i++) {
			const float *dy = o->dy.p + i * o->dy.stride, *z = o->z.p + i * o->z.stride;
			float *dz = o->dz.p + i * o->dz.stride;
			vf mean = vset1(o->mean.p[i * o->mean.stride]), rstd = vset1(o->rstd.p[i * o->rstd.stride]);
			vf s1 = vzero(), s2 = vzero();
			FOR_COLS(j, w, h) {
				vf d = vloadc(dy + j, w), xhat = (vloadc(z + j, w) - mean) * rstd;
				vf g = d * vloadc(o->gamma + j, w);
				s1 += g;
				s2 = vfma(g, xhat, s2);
				if (sums) {
					vstore(dgamma + j, vfma(d, xhat, vload(dgamma + j)));
					vstore(dbeta + j, vload(dbeta + j) + d);
				}
			}
			vf c1 = vset1(vhsum(s1) / (float)h), c2 = vset1(vhsum(s2) / (float)h);
			if (o->drop.on) {
				const int32_t *key = o->drop.rowkey + i * o->drop.stride;
				keep_row(bits, (uint64_t)key[1] * (uint64_t)h, h, &o->drop, key);
			}
			float *dx = o->dx.p ? o->dx.p + i * o->dx.stride : NULL;
			FOR_COLS(j, w, h) {
				vf xhat = (vloadc(z + j, w) - mean) * rstd;
				vf g = vloadc(dy + j, w) * vloadc(o->gamma + j, w);
				vf v = rstd * vfnma(xhat, c2, g - c1);
				vstorec(dz + j, v, w);
				if (dx) {
					if (o->drop.on)
						v = vkeep(keep_at(bits, j), v * vset1(o->drop.scale));
					vstorec(dx + j, v, w);
				}
			}
		}
	}
	if (!sums)
		return;
	team_barrier(t);
	for (long b; (b = team_next(t) * SUM_BAND) < h;)
		for (long j = b; j < minl(h, b + SUM_BAND); j += VL) {
			vf g = vzero(), s = vzero();
			for (long c = 0; c < chunks; c++) {
				g += vload(partial + c * 2 * pad + j);
				s += vload(partial + c * 2 * pad + pad + j);
			}
			long w = lanes(j, h);
			if (o->dgamma)
				vstorec(o->dgamma + j, vloadc(o->dgamma + j, w) + g, w);
			if (o->dbeta)
				vstorec(o->dbeta + j, vloadc(o->dbeta + j, w) + s, w);
		}
}

static void layernorm_backward_need(const void *args, int threads, struct need *n) {
	const struct op_layernorm_backward *o = args;
	(void)threads;
	n->shared = ceildiv(o->dy.rows, LN_CHUNK) * 2 * roundup(o->dy.cols, VL) * 4;
	n->scratch = KEEP_WORDS(o->dy.cols) * 8;
	n->work = 2 * (double)o->dy.rows * (double)o->dy.cols;
}
