//go:build unix

/* Worker threads and workspaces of one device.
 *
 * The threads are started once. Between operations a worker spins for some tens of
 * microseconds, then sleeps; the calling thread takes part in every operation. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "sift.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define relax() _mm_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("yield")
#else
#define relax() ((void)0)
#endif

/* SPIN pauses are 20 to 60 microseconds: longer than the gap between two operations of a
 * training step, shorter than anyone notices. */
#define SPIN 1000
/* Below SMALL elements waking a thread costs more than it saves. */
#define SMALL 16384.0

struct sift {
	struct team team;
	const struct entry *table;
	int threads;
	pthread_t *worker;
	long *grown; /* bytes of team.scratch[i]; the last is of team.shared */

	kernel run;
	const void *args;
	_Atomic unsigned job; /* counts operations; a worker runs when it changes */
	_Atomic int busy;     /* workers that have not finished the present one */
	_Atomic int asleep;   /* threads on the condition variable */
	_Atomic int stop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

struct seat {
	struct sift *s;
	int tid;
};

/* Flush-to-zero and round-to-nearest on every thread alike: a thread's floating-point
 * mode must not show in a result. The mode before is given back after each operation. */
#if defined(__x86_64__)
static unsigned long float_mode(void) {
	unsigned before = _mm_getcsr();
	_mm_setcsr(0x1f80 | 0x8040);
	return before;
}
static void float_restore(unsigned long mode) { _mm_setcsr((unsigned)mode); }
#elif defined(__aarch64__)
static unsigned long float_mode(void) {
	unsigned long before;
	__asm__ volatile("mrs %0, fpcr" : "=r"(before));
	__asm__ volatile("msr fpcr, %0" : : "r"(1ul << 24));
	return before;
}
static void float_restore(unsigned long mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
static unsigned long float_mode(void) { return 0; }
static void float_restore(unsigned long mode) { (void)mode; }
#endif

long team_next(struct team *t) {
	if (t->threads == 1) {
		long i = atomic_load_explicit(&t->next, memory_order_relaxed);
		atomic_store_explicit(&t->next, i + 1, memory_order_relaxed);
		return i;
	}
	return atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
}

void team_barrier(struct team *t) {
	unsigned turn = atomic_load_explicit(&t->turn, memory_order_acquire);
	if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == t->threads - 1) {
		atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
		atomic_store_explicit(&t->next, 0, memory_order_relaxed);
		atomic_store_explicit(&t->turn, turn + 1, memory_order_release);
		return;
	}
	for (int i = 0; atomic_load_explicit(&t->turn, memory_order_acquire) == turn; i++) {
		if (i < SPIN)
			relax();
		else
			sched_yield(); /* another program has the core that the others need */
	}
}

void team_fail(struct team *t, int status) { atomic_store(&t->status, status); }

static void announce(struct sift *s) {
	if (atomic_load(&s->asleep) == 0)
		return;
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static void *work(void *p) {
	struct seat seat = *(struct seat *)p;
	struct sift *s = seat.s;
	unsigned seen = 0;
	free(p);
	float_mode();
	for (;;) {
		for (int i = 0; i < SPIN && atomic_load_explicit(&s->job, memory_order_acquire) == seen; i++)
			relax();
		if (atomic_load(&s->job) == seen) {
			pthread_mutex_lock(&s->lock);
			atomic_fetch_add(&s->asleep, 1);
			while (atomic_load(&s->job) == seen)
				pthread_cond_wait(&s->wake, &s->lock);
			atomic_fetch_sub(&s->asleep, 1);
			pthread_mutex_unlock(&s->lock);
		}
		seen++;
		if (atomic_load(&s->stop))
			return NULL;
		s->run(&s->team, seat.tid, s->args);
		if (atomic_fetch_sub(&s->busy, 1) == 1)
			announce(s);
	}
}

static void launch(struct sift *s) {
	atomic_store(&s->busy, s->threads - 1);
	atomic_fetch_add(&s->job, 1);
	announce(s);
}

static void finish(struct sift *s) {
	for (int i = 0; i < SPIN && atomic_load_explicit(&s->busy, memory_order_acquire) != 0; i++)
		relax();
	if (atomic_load(&s->busy) != 0) {
		pthread_mutex_lock(&s->lock);
		atomic_fetch_add(&s->asleep, 1);
		while (atomic_load(&s->busy) != 0)
			pthread_cond_wait(&s->wake, &s->lock);
		atomic_fetch_sub(&s->asleep, 1);
		pthread_mutex_unlock(&s->lock);
	}
}

static int grow(char **p, long *have, long want) {
	if (want <= *have)
		return 1;
	char *q = sift_alloc(want);
	if (q == NULL)
		return 0;
	sift_free(*p, *have);
	*p = q;
	*have = want;
	return 1;
}

int sift_run(struct sift *s, int op, const void *args) {
	const struct entry *e = &s->table[op];
	struct need n = {0, 0, 0};
	int threads = s->threads;
	e->need(args, threads, &n);
	if (threads > 1 && n.work < SMALL) {
		threads = 1;
		n = (struct need){0, 0, 0};
		e->need(args, threads, &n);
	}
	if (!grow(&s->team.shared, &s->grown[s->threads], n.shared))
		return SIFT_NOMEM;
	for (int i = 0; i < threads; i++)
		if (!grow(&s->team.scratch[i], &s->grown[i], n.scratch))
			return SIFT_NOMEM;
	s->team.threads = threads;
	atomic_store(&s->team.next, 0);
	atomic_store(&s->team.status, SIFT_OK);
	unsigned long mode = float_mode();
	if (threads > 1) {
		s->run = e->run;
		s->args = args;
		launch(s);
	}
	e->run(&s->team, 0, args);
	if (threads > 1)
		finish(s);
	float_restore(mode);
	return atomic_load(&s->team.status);
}

int sift_best_isa(void) {
#ifdef __x86_64__
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
		if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
			return SIFT_AVX512;
		return SIFT_AVX2;
	}
#endif
	return SIFT_PORTABLE;
}

struct sift *sift_open(int threads, int isa) {
	struct sift *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->table = sift_portable;
#ifdef __x86_64__
	if (isa == SIFT_AVX2)
		s->table = sift_avx2;
	if (isa == SIFT_AVX512)
		s->table = sift_avx512;
#endif
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	s->worker = calloc(threads, sizeof *s->worker);
	s->grown = calloc(threads + 1, sizeof *s->grown);
	s->team.scratch = calloc(threads, sizeof *s->team.scratch);
	s->threads = 1;
	if (s->worker == NULL || s->grown == NULL || s->team.scratch == NULL) {
		sift_close(s);
		return NULL;
	}
	/* Signals are the Go runtime's business: its handlers expect its own threads. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int ok = 1;
	for (int i = 1; i < threads && ok; i++) {
		struct seat *seat = malloc(sizeof *seat);
		if (seat != NULL)
			*seat = (struct seat){s, i};
		ok = seat != NULL && pthread_create(&s->worker[i], NULL, work, seat) == 0;
		if (ok)
			s->threads = i + 1;
		else
			free(seat);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!ok) {
		sift_close(s);
		return NULL;
	}
	return s;
}

void sift_close(struct sift *s) {
	atomic_store(&s->stop, 1);
	atomic_fetch_add(&s->job, 1);
	announce(s);
	for (int i = 1; i < s->threads; i++)
		pthread_join(s->worker[i], NULL);
	if (s->grown != NULL && s->team.scratch != NULL) {
		for (int i = 0; i < s->threads; i++)
			sift_free(s->team.scratch[i], s->grown[i]);
		sift_free(s->team.shared, s->grown[s->threads]);
	}
	free(s->worker);
	free(s->grown);
	free(s->team.scratch);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->wake);
	free(s);
}
