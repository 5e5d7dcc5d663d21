/* Embed, GatherRows, ScatterAddRows: operations that follow indices. An index outside its
 * table fails the operation; nothing is read or written there. */

static void embed_run(struct team *t, int tid, const void *args) {
	const struct op_embed *o = args;
	(void)tid;
	long h = o->out.cols;
	FOR_ROWS(t, i, o->out.rows, h) {
		long a = o->ids[i], b = o->positions[i], c = o->types ? o->types[i] : 0;
		if (a < 0 || a >= o->word.rows || b < 0 || b >= o->position.rows || (o->types && (c < 0 || c >= o->type.rows))) {
			team_fail(t, SIFT_INDEX);
			continue;
		}
		float *out = o->out.p + i * o->out.stride;
		const float *word = o->word.p + a * o->word.stride, *position = o->position.p + b * o->position.stride;
		const float *type = o->types ? o->type.p + c * o->type.stride : NULL;
		FOR_COLS(j, w, h) {
			vf v = vloadc(word + j, w) + vloadc(position + j, w);
			if (type)
				v += vloadc(type + j, w);
			vstorec(out + j, v, w);
		}
	}
}

static void embed_need(const void *args, int threads, struct need *n) {
	const struct op_embed *o = args;
	(void)threads;
	n->work = (double)o->out.rows * (double)o->out.cols;
}

static void gather_run(struct team *t, int tid, const void *args) {
	const struct op_index *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->n, o->cols / 4) {
		long s = o->index[i];
		if (s < 0 || s >= o->src_rows) {
			team_fail(t, SIFT_INDEX);
			continue;
		}
		memcpy(o->dst + i * o->dst_stride, o->src + s * o->src_stride, o->cols);
	}
}

/* dst[index_i] += src_i for i ascending. A task owns a band of columns and walks all i, so the
 * order of additions into an element is the order of i. */
#define SCATTER_BAND 128

static void scatter_add_run(struct team *t, int tid, const void *args) {
	const struct op_index *o = args;
	(void)tid;
	for (long b; (b = team_next(t) * SCATTER_BAND) < o->cols;) {
		long n = minl(SCATTER_BAND, o->cols - b);
		for (long i = 0; i < o->n; i++) {
			long d = o->index[i];
			if (d < 0 || d >= o->dst_rows) {
				team_fail(t, SIFT_INDEX);
				continue;
			}
			float *y = (float *)(o->dst + d * o->dst_stride) + b;
			const float *x = (const float *)(o->src + i * o->src_stride) + b;
			FOR_COLS(j, w, n)
				vstorec(y + j, vloadc(y + j, w) + vloadc(x + j, w), w);
		}
	}
}

static void index_need(const void *args, int threads, struct need *n) {
	const struct op_index *o = args;
	(void)threads;
	n->work = (double)o->n * (double)o->cols / 2;
}
