/* The most multiply-adds the machine can do: independent chains in registers, no memory. */
#define PEAK_CHAINS 12

static void peak_run(struct team *t, int tid, const void *args) {
	const struct op_peak *o = args;
	vf x = vset1(0.999f + (float)tid * 1e-6f), y = vset1(1e-3f), acc[PEAK_CHAINS];
	(void)t;
	UNROLL
	for (int i = 0; i < PEAK_CHAINS; i++)
		acc[i] = vset1((float)i);
	for (long s = 0; s < o->steps; s++) {
		UNROLL
		for (int i = 0; i < PEAK_CHAINS; i++)
			acc[i] = vfma(acc[i], x, y);
	}
	vf sum = vzero();
	UNROLL
	for (int i = 0; i < PEAK_CHAINS; i++)
		sum += acc[i];
	((float *)o->out)[tid % 64] = vhsum(sum);
}

static void peak_need(const void *args, int threads, struct need *n) {
	(void)args;
	(void)threads;
	n->work = 1e9;
}
