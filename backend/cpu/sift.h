/* What Go and the C kernels share: the arguments of every operation, the team of
 * threads that runs one, and the table of kernels that each instruction set fills.
 *
 * A kernel is written once, in one of the op headers, against the small vector
 * layer of simd.h, and compiled once per instruction set by isa_*.c. */
#ifndef SIFT_H
#define SIFT_H

#include <stdatomic.h>
#include <stdint.h>

/* A float32 matrix view. p is NULL where an optional argument is absent. */
struct mat {
	float *p;
	long rows, cols, stride;
};

/* Inverted dropout as backend.Drop says: kept if the Philox word is >= threshold. */
struct drop {
	int on;
	float scale; /* 1 / (1 - P) */
	uint32_t threshold, key0, key1, site, update;
	const int32_t *rowkey; /* [T,4]: sequence, row in it, sample low, sample high */
	long stride;
};

struct op_rows { /* zero, copy: cols counts bytes, strides too */
	char *dst;
	const char *src;
	long rows, cols, dst_stride, src_stride;
};
struct op_map { /* y = f(x, z) element by element */
	struct mat y, x, z;
	int act;
	struct drop drop;
};
struct op_gemm {
	float *c, *pre;
	const float *a, *b, *bias;
	long m, n, k, lda, ldb, ldc, ldpre;
	int transa, transb, act;
	float alpha, beta;
};
struct op_index { /* gather, scatter-add: cols counts bytes in gather, floats in scatter */
	char *dst;
	const char *src;
	const int32_t *index;
	long n, cols, dst_rows, src_rows, dst_stride, src_stride;
};
struct op_embed {
	struct mat out, word, position, type;
	const int32_t *ids, *positions, *types;
};
struct op_layernorm {
	struct mat y, z, mean, rstd, x, residual;
	const float *gamma, *beta;
	float eps;
	struct drop drop;
};
struct op_layernorm_backward {
	struct mat dz, dx, dy, z, mean, rstd;
	float *dgamma, *dbeta;
	const float *gamma;
	struct drop drop;
};
struct op_attention { /* forward: out and lse are written; backward: dqkv and delta */
	struct mat out, lse, qkv, dqkv, delta, dout;
	const int32_t *offsets, *valid;
	long seqs, maxlen, heads;
	float scale;
	struct drop drop;
};
struct op_crossentropy {
	struct mat loss, entropy, lse, correct, logits, dlogits;
	const int32_t *labels;
	float scale;
};
struct op_adamw {
	float *param, *grad, *m, *v;
	long n;
	/* grad_scale includes clipping; correctN = 1 - betaN^step */
	double grad_scale, lr, beta1, beta2, eps, decay, correct1, correct2;
};
struct op_peak {
	long steps;
	float out[64];
};
struct op_sumsq {
	const float *x;
	long n;
	float *dst;
};

enum op {
	OP_ZERO, OP_COPY, OP_ADD, OP_GEMM, OP_COLSUM, OP_GELU_BACKWARD, OP_TANH, OP_TANH_BACKWARD,
	OP_EMBED, OP_GATHER, OP_SCATTER_ADD, OP_DROPOUT, OP_LAYERNORM, OP_LAYERNORM_BACKWARD,
	OP_ATTENTION, OP_ATTENTION_BACKWARD, OP_CROSSENTROPY, OP_CROSSENTROPY_BACKWARD,
	OP_SUMSQ, OP_ADAMW, OP_PEAK, OP_COUNT
};

enum { ACT_LINEAR, ACT_GELU_ERF, ACT_GELU_TANH };
enum { SIFT_OK, SIFT_NOMEM, SIFT_INDEX };
enum { SIFT_PORTABLE, SIFT_AVX2, SIFT_AVX512 };

/* The threads that run one operation. Work is handed out by an atomic counter, so
 * no result may depend on which thread takes which task. */
struct team {
	int threads;
	_Atomic long next;     /* the next task of the present phase */
	_Atomic int arrived;   /* threads waiting at the barrier */
	_Atomic unsigned turn; /* barriers passed */
	_Atomic int status;
	char *shared;          /* workspace of the operation */
	char **scratch;        /* workspace of each thread */
};

long team_next(struct team *t);
/* team_barrier waits for all threads and starts a new phase with next = 0. */
void team_barrier(struct team *t);
void team_fail(struct team *t, int status);

/* A kernel runs on every thread of a team; tid is 0 on the caller. */
typedef void (*kernel)(struct team *t, int tid, const void *args);

/* The memory a kernel asks for, and the amount of work in it: an operation whose
 * work is small runs on the calling thread alone. */
struct need {
	long shared, scratch; /* bytes; scratch is per thread */
	double work;          /* elements touched, or a few arithmetic instructions each */
};
struct entry {
	kernel run;
	void (*need)(const void *args, int threads, struct need *n);
};

extern const struct entry sift_portable[OP_COUNT];
#ifdef __x86_64__
extern const struct entry sift_avx2[OP_COUNT];
extern const struct entry sift_avx512[OP_COUNT];
#endif

/* sift_alloc returns zeroed memory, NULL if there is none; sift_free takes the same size. */
void *sift_alloc(long bytes);
void sift_free(void *p, long bytes);

/* A device: its threads and workspaces. sift_run carries out one operation on all of them. */
struct sift;
int sift_best_isa(void);
struct sift *sift_open(int threads, int isa);
void sift_close(struct sift *s);
int sift_run(struct sift *s, int op, const void *args);

#endif
