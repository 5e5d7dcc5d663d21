/* Multi-head attention within each sequence, forward and backward.
 *
 *   s_ij = scale q_i . k_j over valid keys j,  p_ij = e^(s_ij - lse_i),  o_i = sum_j drop(p_ij) v_j
 *
 * A task is one head of one sequence and belongs to one thread, so every sum has one order.
 * Nothing of size n x n exists: a task takes rows of queries a few at a time and keeps their
 * scores against all n keys, so that the maximum of a row is known before its first
 * exponential. The backward pass computes the scores again and needs only lse.
 * The products are made of the same tiles as Gemm's. */

/* The most rows of queries per step of the backward pass: enough for its products over rows
 * (dK, dV) to amortise reading and writing their result. */
#define ATT_ROWS (144 / MR * MR)

/* One head of one sequence, and the thread's workspace for it. */
struct head {
	const struct op_attention *o;
	long row, n, d, head, ld; /* first row, rows, columns of the head, its number, stride of scores */
	const float *q, *k, *v;
	long stride;     /* of q, k, v */
	float *mask;     /* [ld] 0 for a valid key, else -inf */
	float *kt, *vt;  /* K, V as panels [d][NR] of keys: to multiply into scores */
	float *kc, *vc;  /* K, V as panels [n][NR] of columns: to be multiplied by scores */
	float *qa, *da;  /* MR rows of scale Q and of dO as a panel [d][MR] */
	float *qc, *dc;  /* ATT_ROWS rows of Q and dO as panels [rows][NR] of columns */
	float *p, *ds;   /* [rows][ld] */
	uint64_t *bits;
};

INL float *carve(char **p, long floats) {
	float *at = (float *)*p;
	*p += roundup(floats * 4, 64);
	return at;
}

static long head_carve(struct head *x, char *at, long n, long d, int backward) {
	char *start = at;
	x->ld = roundup(n + MR, NR);
	long keys = roundup(n, NR) * d, cols = roundup(d, NR), rows = backward ? ATT_ROWS : MR;
	x->mask = carve(&at, x->ld);
	x->bits = (uint64_t *)carve(&at, 2 * KEEP_WORDS(n));
	x->qa = carve(&at, d * MR);
	x->p = carve(&at, rows * x->ld);
	x->kt = carve(&at, keys);
	if (backward) {
		x->vt = carve(&at, keys);
		x->kc = carve(&at, n * cols);
		x->da = carve(&at, d * MR);
		x->qc = carve(&at, rows * cols);
		x->dc = carve(&at, rows * cols);
		x->ds = carve(&at, rows * x->ld);
	} else {
		x->vc = carve(&at, n * cols);
	}
	return at - start;
}

/* head_open finds task number task; it returns 0 if the layout is impossible. */
static int head_open(struct head *x, const struct op_attention *o, long task, char *scratch, int backward) {
	long s = task / o->heads, begin = o->offsets[s], end = o->offsets[s + 1];
	if (begin < 0 || end < begin || end > o->qkv.rows || end - begin > o->maxlen)
		return 0;
	long h = o->qkv.cols / 3;
	x->o = o;
	x->head = task % o->heads;
	x->row = begin;
	x->n = end - begin;
	x->d = h / o->heads;
	x->stride = o->qkv.stride;
	x->q = o->qkv.p + begin * x->stride + x->head * x->d;
	x->k = x->q + h;
	x->v = x->k + h;
	head_carve(x, scratch, x->n, x->d, backward);
	return 1;
}

/* head_mask fills the mask and returns the number of valid keys. */
static long head_mask(struct head *x) {
	long valid = 0;
	for (long j = 0; j < x->ld; j++) {
		int on = j < x->n && x->o->valid[x->row + j] != 0;
		x->mask[j] = on ? 0 : -INFINITY;
		valid += on;
	}
	return valid;
}

/* keys_pack: n rows of d columns as panels [d][NR], each of NR rows. */
static void keys_pack(float *dst, const float *src, long stride, long n, long d) {
	for (long j = 0; j < n; j += NR)
		pack_rows(dst + j * d, NR, src + j * stride, stride, minl(NR, n - j), d, 1);
}

/* cols_pack: n rows of d columns as panels [n][NR], each of NR columns. */
static void cols_pack(float *dst, const float *src, long stride, long n, long d) {
	for (long c = 0; c < d; c += NR)
		pack_cols(dst + c * n, NR, src + c, stride, minl(NR, d - c), n);
}

/* scores: R rows of out [R][ld] = a^T (panel [d][MR]) times the keys' panels. */
INL void scores_rows(int R, const struct head *x, float *out, const float *a, const float *keys) {
	for (long j = 0; j < x->n; j += NR) {
		vf acc[MR][NV];
		tile(R, acc, x->d, a, 1, MR, keys + j * x->d, NULL);
		tile_store(R, acc, out + j, x->ld, R, NR, 0);
	}
}

COLD void scores(const struct head *x, long rows, float *out, const float *a, const float *keys) {
	BY_HEIGHT(rows, scores_rows, x, out, a, keys);
}

/* values: dst [rows][d] = the scores a [rows][ld] times panels [n][NR] of columns. */
INL void values_rows(int R, const struct head *x, long rows, float *dst, long stride, const float *a, const float *b) {
	for (long c = 0; c < x->d; c += NR) {
		vf acc[MR][NV];
		tile(R, acc, x->n, a, x->ld, 1, b + c * x->n, NULL);
		tile_store(R, acc, dst + c, stride, rows, x->d - c, 0);
	}
}

COLD void values(const struct head *x, long rows, float *dst, long stride, const float *a, const float *b) {
	BY_HEIGHT(rows, values_rows, x, rows, dst, stride, a, b);
}

/* head_pack packs the keys' panels [d][NR] and columns [n][NR], whichever are wanted, with zeros
 * for the keys that are masked: what lies there must leave no trace, even NaN. */
static void head_pack(struct head *x, const float *src, float *keys, float *cols, long valid) {
	if (keys)
		keys_pack(keys, src, x->stride, x->n, x->d);
	if (cols)
		cols_pack(cols, src, x->stride, x->n, x->d);
	for (long j = 0; j < x->n && valid < x->n; j++) {
		if (x->mask[j] == 0)
			continue;
		for (long c = 0; keys && c < x->d; c++)
			keys[j / NR * NR * x->d + c * NR + j % NR] = 0;
		for (long c = 0; cols && c < x->d; c += NR)
			memset(cols + c * x->n + j * NR, 0, NR * sizeof(float));
	}
}

INL void head_keep(struct head *x, long i) {
	const struct drop *d = &x->o->drop;
	if (d->on)
		keep_row(x->bits, ((uint64_t)x->head * (uint64_t)x->n + (uint64_t)i) * (uint64_t)x->n, x->n, d, d->rowkey + (x->row + i) * d->stride);
}

/* softmax_row turns scores into e^(s - max), dropped ones into 0, and returns the sum over
 * all of them, dropped or not. */
static float softmax_row(struct head *x, float *s, float *top) {
	long n = roundup(x->n, VL);
	vf max = vset1(-INFINITY), sum = vzero();
	for (long j = 0; j < n; j += VL) {
		vf v = vload(s + j) + vload(x->mask + j);
		vstore(s + j, v);
		max = vmax(max, v);
	}
	*top = vhmax(max);
	max = vset1(*top);
	for (long j = 0; j < n; j += VL) {
		vf e = vexp(vload(s + j) - max);
		sum += e;
		if (x->o->drop.on)
			e = vkeep(keep_at(x->bits, j), e);
		vstore(s + j, e);
	}
	return vhsum(sum);
}

static void attention_run(struct team *t, int tid, const void *args) {
	const struct op_attention *o = args;
	for (long task; (task = team_next(t)) < o->seqs * o->heads;) {
		struct head x;
		if (!head_open(&x, o, task, t->scratch[tid], 0)) {
			team_fail(t, SIFT_INDEX);
			continue;
		}
		float *out = o->out.p + x.row * o->out.stride + x.head * x.d;
		float *lse = o->lse.p + x.row * o->lse.stride + x.head;
		long valid = head_mask(&x);
		if (valid == 0) {
			for (long i = 0; i < x.n; i++) {
				memset(out + i * o->out.stride, 0, x.d * sizeof(float));
				lse[i * o->lse.stride] = 0;
			}
			continue;
		}
		head_pack(&x, x.k, x.kt, NULL, valid);
		head_pack(&x, x.v, NULL, x.vc, valid);
		for (long i = 0; i < x.n; i += MR) {
			long rows = minl(MR, x.n - i);
			float norm[MR];
			pack_rows(x.qa, MR, x.q + i * x.stride, x.stride, rows, x.d, o->scale);
			scores(&x, rows, x.p, x.qa, x.kt);
			for (long r = 0; r < rows; r++) {
				float top;
				head_keep(&x, i + r);
				float sum = softmax_row(&x, x.p + r * x.ld, &top);
				lse[(i + r) * o->lse.stride] = top + logf(sum);
				norm[r] = o->drop.scale / sum;
			}
			values(&x, rows, out + i * o->out.stride, o->out.stride, x.p, x.vc);
			for (long r = 0; r < rows; r++)
				FOR_COLS(j, w, x.d) {
					float *y = out + (i + r) * o->out.stride + j;
					vstorec(y, vloadc(y, w) * vset1(norm[r]), w);
				}
		}
	}
}

/* scores_backward turns rows of scores and of dO V^T into drop(p) and ds, in place:
 *   ds = scale p (drop(dO . v) - delta),  delta = dO . o */
static void scores_backward(struct head *x, float *p, float *ds, float lse, float delta) {
	const struct op_attention *o = x->o;
	vf l = vset1(lse), dl = vset1(delta), scale = vset1(o->scale), keep = vset1(o->drop.scale);
	for (long j = 0; j < x->n; j += VL) {
		vf e = vexp(vload(p + j) + vload(x->mask + j) - l), g = vload(ds + j);
		if (o->drop.on) {
			vm m = keep_at(x->bits, j);
			g = vkeep(m, g * keep);
			vstore(p + j, vkeep(m, e * keep));
		} else {
			vstore(p + j, e);
		}
		vstore(ds + j, e * (g - dl) * scale);
	}
}

/* rows_product: dst [n][d] = or += A^T B, A [rows][ld] scores, B panels [rows][NR] of columns. */
INL void rows_tile(int R, const struct head *x, float *dst, long stride, const float *a, const float *b, long rows, long left, int add) {
	for (long c = 0; c < x->d; c += NR) {
		vf acc[MR][NV];
		tile(R, acc, rows, a, 1, x->ld, b + c * rows, NULL);
		tile_store(R, acc, dst + c, stride, left, x->d - c, add);
	}
}

COLD void rows_product(const struct head *x, float *dst, long stride, const float *a, const float *b, long rows, int add) {
	for (long j = 0; j < x->n; j += MR)
		BY_HEIGHT(x->n - j, rows_tile, x, dst + j * stride, stride, a + j, b, rows, x->n - j, add);
}

static void attention_backward_run(struct team *t, int tid, const void *args) {
	const struct op_attention *o = args;
	for (long task; (task = team_next(t)) < o->seqs * o->heads;) {
		struct head x;
		if (!head_open(&x, o, task, t->scratch[tid], 1)) {
			team_fail(t, SIFT_INDEX);
			continue;
		}
		long h = o->qkv.cols / 3, st = o->dqkv.stride;
		float *dq = o->dqkv.p + x.row * st + x.head * x.d, *dk = dq + h, *dv = dk + h;
		long valid = head_mask(&x);
		if (valid == 0) {
			for (long i = 0; i < x.n; i++)
				for (long part = 0; part < 3; part++)
					memset(dq + i * st + part * h, 0, x.d * sizeof(float));
			continue;
		}
		const float *dout = o->dout.p + x.row * o->dout.stride + x.head * x.d;
		const float *out = o->out.p + x.row * o->out.stride + x.head * x.d;
		const float *lse = o->lse.p + x.row * o->lse.stride + x.head;
		float *delta = o->delta.p + x.row * o->delta.stride + x.head;
		head_pack(&x, x.k, x.kt, x.kc, valid);
		head_pack(&x, x.v, x.vt, NULL, valid);
		long step = x.n > 0 ? roundup(ceildiv(x.n, ceildiv(x.n, ATT_ROWS)), MR) : 1; /* blocks as even as can be */
		for (long b = 0; b < x.n; b += step) {
			long block = minl(step, x.n - b);
			cols_pack(x.qc, x.q + b * x.stride, x.stride, block, x.d);
			cols_pack(x.dc, dout + b * o->dout.stride, o->dout.stride, block, x.d);
			for (long i = 0; i < block; i += MR) {
				long rows = minl(MR, block - i);
				float *p = x.p + i * x.ld, *ds = x.ds + i * x.ld;
				pack_rows(x.qa, MR, x.q + (b + i) * x.stride, x.stride, rows, x.d, o->scale);
				pack_rows(x.da, MR, dout + (b + i) * o->dout.stride, o->dout.stride, rows, x.d, 1);
				scores(&x, rows, p, x.qa, x.kt);
				scores(&x, rows, ds, x.da, x.vt);
				for (long r = 0; r < rows; r++) {
					long row = b + i + r;
					vf dot = vzero();
					FOR_COLS(j, w, x.d)
						dot = vfma(vloadc(dout + row * o->dout.stride + j, w), vloadc(out + row * o->out.stride + j, w), dot);
					float sum = vhsum(dot);
					delta[row * o->delta.stride] = sum;
					head_keep(&x, row);
					scores_backward(&x, p + r * x.ld, ds + r * x.ld, lse[row * o->lse.stride], sum);
				}
				values(&x, rows, dq + (b + i) * st, st, ds, x.kc);
			}
			rows_product(&x, dv, st, x.p, x.dc, block, b > 0);
			rows_product(&x, dk, st, x.ds, x.qc, block, b > 0);
		}
	}
}

static void attention_shape(const struct op_attention *o, struct need *n, int backward) {
	struct head x;
	n->scratch = head_carve(&x, NULL, o->maxlen, o->qkv.cols / 3 / maxl(1, o->heads), backward) + 64;
	n->work = (double)o->qkv.rows * (double)o->qkv.cols * (double)maxl(1, o->maxlen) / 16;
}

static void attention_need(const void *args, int threads, struct need *n) {
	(void)threads;
	attention_shape(args, n, 0);
}

static void attention_backward_need(const void *args, int threads, struct need *n) {
	(void)threads;
	attention_shape(args, n, 1);
}
