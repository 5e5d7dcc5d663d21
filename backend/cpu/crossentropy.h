/* Cross-entropy and entropy of each row of logits, and the gradient of the former.
 *
 *   loss = lse - x_label,  entropy = lse - sum_j p_j x_j,  p_j = e^(x_j - lse)
 *
 * One pass: a row is taken CE_BLOCK logits at a time; a block that raises the running
 * maximum m rescales the sums so far. With S = sum e^(x-m) and W = sum e^(x-m) (x-m):
 * lse = m + log S and entropy = log S - W / S. */
#define CE_BLOCK 1024
#define NO_LABEL (-100)

static void crossentropy_row(const struct op_crossentropy *o, struct team *t, long i) {
	const float *x = o->logits.p + i * o->logits.stride;
	long v = o->logits.cols, label = o->labels[i];
	double s = 0, wsum = 0;
	float top = -INFINITY;
	if (label != NO_LABEL && (label < 0 || label >= v)) {
		team_fail(t, SIFT_INDEX);
		return;
	}
	for (long b = 0; b < v; b += CE_BLOCK) {
		long n = minl(CE_BLOCK, v - b);
		vf max = vset1(-INFINITY), es = vzero(), ew = vzero();
		FOR_COLS(j, w, n) {
			vf y = vloadc(x + b + j, w);
			if (w < VL)
				y = vsel(vbits((1u << w) - 1), y, vset1(-INFINITY));
			max = vmax(max, y);
		}
		float m = vhmax(max);
		if (m > top) {
			if (top > -INFINITY) {
				double shift = (double)top - (double)m, c = exp(shift);
				wsum = c * (wsum + s * shift);
				s *= c;
			}
			top = m;
		}
		vf tv = vset1(top);
		FOR_COLS(j, w, n) {
			/* a finite floor: a logit of minus infinity adds 0 to both sums, not NaN */
			vf y = vmax(vset1(-1e30f), vloadc(x + b + j, w) - tv);
			if (w < VL)
				y = vsel(vbits((1u << w) - 1), y, vset1(-1e30f));
			vf e = vexp(y);
			es += e;
			ew = vfma(e, y, ew);
		}
		s += (double)vhsum(es);
		wsum += (double)vhsum(ew);
	}
	double logs = log(s);
	double lse = (double)top + logs;
	float loss = 0, correct = 0;
	if (label != NO_LABEL) {
		loss = (float)((double)top - (double)x[label] + logs);
		correct = x[label] == top;
		for (long j = 0; j < label && correct; j++)
			correct = x[j] != top;
	}
	o->loss.p[i * o->loss.stride] = loss;
	o->entropy.p[i * o->entropy.stride] = (float)(logs - wsum / s);
	o->lse.p[i * o->lse.stride] = (float)lse;
	o->correct.p[i * o->correct.stride] = correct;
}

static void crossentropy_run(struct team *t, int tid, const void *args) {
	const struct op_crossentropy *o = args;
	(void)tid;
	FOR_ROWS(t, i, o->logits.rows, o->logits.cols)
		crossentropy_row(o, t, i);
}

/* dlogits = scale (e^(x - lse) - onehot(label)), 0 in rows without a label; may be in place. */
static void crossentropy_backward_run(struct team *t, int tid, const void *args) {
	const struct op_crossentropy *o = args;
	(void)tid;
	long v = o->logits.cols;
	FOR_ROWS(t, i, o->logits.rows, v) {
		const float *x = o->logits.p + i * o->logits.stride;
		float *dx = o->dlogits.p + i * o->dlogits.stride;
		long label = o->labels[i];
		if (label == NO_LABEL) {
			memset(dx, 0, v * sizeof(float));
			continue;
		}
		if (label < 0 || label >= v) {
			team_fail(t, SIFT_INDEX);
			continue;
		}
		vf lse = vset1(o->lse.p[i * o->lse.stride]), scale = vset1(o->scale);
		FOR_COLS(j, w, v)
			vstorec(dx + j, vexp(vloadc(x + j, w) - lse) * scale, w);
		dx[label] -= o->scale;
	}
}

static void crossentropy_need(const void *args, int threads, struct need *n) {
	const struct op_crossentropy *o = args;
	(void)threads;
	n->work = 4 * (double)o->logits.rows * (double)o->logits.cols;
}
