/* Zero, Copy, Add, Tanh, GeluBackward, Dropout, ColSum: element by element or column by column. */

static void rows_need(const void *args, int threads, struct need *n) {
	const struct op_rows *o = args;
	(void)threads;
	n->work = (double)o->rows * (double)o->cols / 8;
}

static void zero_run(struct team *t, int tid, const void *args) {
	const struct op_rows *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->rows, o->cols / 4)
		memset(o->dst + i * o->dst_stride, 0, o->cols);
}

static void copy_run(struct team *t, int tid, const void *args) {
	const struct op_rows *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->rows, o->cols / 4)
		memcpy(o->dst + i * o->dst_stride, o->src + i * o->src_stride, o->cols);
}

static void map_need(const void *args, int threads, struct need *n) {
	const struct op_map *o = args;
	(void)threads;
	n->work = (double)o->y.rows * (double)o->y.cols;
	if (o->drop.on)
		n->scratch = KEEP_WORDS(o->y.cols) * 8;
}

/* y += x */
static void add_run(struct team *t, int tid, const void *args) {
	const struct op_map *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->y.rows, o->y.cols) {
		float *y = o->y.p + i * o->y.stride;
		const float *x = o->x.p + i * o->x.stride;
		FOR_COLS(j, w, o->y.cols)
			vstorec(y + j, vloadc(y + j, w) + vloadc(x + j, w), w);
	}
}

/* y = tanh x */
static void tanh_run(struct team *t, int tid, const void *args) {
	const struct op_map *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->y.rows, o->y.cols) {
		float *y = o->y.p + i * o->y.stride;
		const float *x = o->x.p + i * o->x.stride;
		FOR_COLS(j, w, o->y.cols)
			vstorec(y + j, vtanh(vloadc(x + j, w)), w);
	}
}

/* dx (y) = dy (x) * (1 - y^2) (z holds y) */
static void tanh_backward_run(struct team *t, int tid, const void *args) {
	const struct op_map *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->y.rows, o->y.cols) {
		float *dx = o->y.p + i * o->y.stride;
		const float *dy = o->x.p + i * o->x.stride, *y = o->z.p + i * o->z.stride;
		FOR_COLS(j, w, o->y.cols) {
			vf v = vloadc(y + j, w);
			vstorec(dx + j, vloadc(dy + j, w) * vfnma(v, v, vset1(1.0f)), w);
		}
	}
}

/* dx (y) = dy (x) * act'(pre) (z) */
static void gelu_backward_run(struct team *t, int tid, const void *args) {
	const struct op_map *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->y.rows, o->y.cols) {
		float *dx = o->y.p + i * o->y.stride;
		const float *dy = o->x.p + i * o->x.stride, *pre = o->z.p + i * o->z.stride;
		FOR_COLS(j, w, o->y.cols) {
			vf v = vloadc(dy + j, w), p = vloadc(pre + j, w);
			if (o->act == ACT_GELU_ERF)
				v *= vgelu_erf_slope(p);
			else if (o->act == ACT_GELU_TANH)
				v *= vgelu_tanh_slope(p);
			vstorec(dx + j, v, w);
		}
	}
}

/* y = x * mask / (1-P); element j of row i of a sample is number row * cols + j of its tensor. */
static void dropout_run(struct team *t, int tid, const void *args) {
	const struct op_map *o = args;
	uint64_t *bits = (uint64_t *)t->scratch[tid];
	FOR_ROWS(t, i, o->y.rows, o->y.cols) {
		float *y = o->y.p + i * o->y.stride;
		const float *x = o->x.p + i * o->x.stride;
		if (o->drop.on) {
			const int32_t *key = o->drop.rowkey + i * o->drop.stride;
			keep_row(bits, (uint64_t)key[1] * (uint64_t)o->y.cols, o->y.cols, &o->drop, key);
		}
		FOR_COLS(j, w, o->y.cols) {
			vf v = vloadc(x + j, w);
			if (o->drop.on)
				v = vkeep(keep_at(bits, j), v * vset1(o->drop.scale));
			vstorec(y + j, v, w);
		}
	}
}

/* y [1,N] += sum of the rows of x [M,N]. A task owns a band of columns. The rows are added up in
 * chunks of SUM_CHUNK, for accuracy, and the chunks in order. */
#define SUM_CHUNK 32
#define SUM_BAND (4 * VL)

static void colsum_run(struct team *t, int tid, const void *args) {
	const struct op_map *o = args;
	(void)tid;
	for (long b; (b = team_next(t) * SUM_BAND) < o->x.cols;)
		for (long j = b; j < minl(o->x.cols, b + SUM_BAND); j += VL) {
			long w = lanes(j, o->x.cols);
			vf total = vzero();
			for (long i = 0; i < o->x.rows; i += SUM_CHUNK) {
				vf sum = vzero();
				for (long r = i; r < minl(o->x.rows, i + SUM_CHUNK); r++)
					sum += vloadc(o->x.p + r * o->x.stride + j, w);
				total += sum;
			}
			vstorec(o->y.p + j, vloadc(o->y.p + j, w) + total, w);
		}
}

static void colsum_need(const void *args, int threads, struct need *n) {
	const struct op_map *o = args;
	(void)threads;
	n->work = (double)o->x.rows * (double)o->x.cols;
}
