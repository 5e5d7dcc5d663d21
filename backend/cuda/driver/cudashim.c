// The functions of cuda.h as forwarders to the driver's library, which is looked for when
// one of them is first called. So a program linked with this file builds and starts
// without CUDA.
//
// gorgonia.org/cu calls cuInit when the program starts and ends the program if that
// fails: here it always succeeds, and what the driver's own cuInit says is kept for
// sift_cuda_status. A function that the driver lacks returns CUDA_ERROR_NOT_FOUND.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cuda.h"
#include "cudashim.h"

static void *library;
static char reason[256];

// A pipe would be waited for until somebody writes to it.
static int no_file(const char *path) {
	struct stat s;
	return strchr(path, '/') && !stat(path, &s) && !S_ISREG(s.st_mode);
}

static void load(void) {
	const char *name = getenv("SIFT_CUDA_DRIVER");
	int given = name && *name;
	if (given && no_file(name)) {
		snprintf(reason, sizeof reason, "no driver: %s: not a regular file (SIFT_CUDA_DRIVER names it)", name);
		return;
	}
	library = dlopen(given ? name : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		const char *why = dlerror();
		if (given)
			snprintf(reason, sizeof reason, "no driver: %s (SIFT_CUDA_DRIVER names it)", why ? why : name);
		else
			snprintf(reason, sizeof reason, "no driver: %s (it comes with NVIDIA's GPU driver)", why ? why : "libcuda.so.1");
		return;
	}
	CUresult (*init)(unsigned) = (CUresult (*)(unsigned))dlsym(library, "cuInit");
	if (!init) {
		snprintf(reason, sizeof reason, "%s is no CUDA driver: it has no cuInit", given ? name : "libcuda.so.1");
		library = 0;
		return;
	}
	CUresult r = init(0);
	if (!r) return;
	CUresult (*text)(CUresult, const char **) = (CUresult (*)(CUresult, const char **))dlsym(library, "cuGetErrorString");
	const char *said = 0;
	if (!text || text(r, &said) || !said) said = "unknown error";
	snprintf(reason, sizeof reason, "the driver does not start: %s (CUDA error %d)", said, (int)r);
	library = 0;
}

static void ready(void) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
}

int sift_cuda_status(char *why, int n) {
	ready();
	if (library) return 0;
	snprintf(why, n, "%s", reason);
	for (char *c = why; *c; c++)
		if (*c == '\n') *c = ' ';
	return 1;
}

void *sift_cuda_symbol(const char *name) {
	ready();
	return library ? dlsym(library, name) : 0;
}

CUresult cuInit(unsigned flags) {
	(void)flags;
	return CUDA_SUCCESS;
}

// find keeps the address of a function of the driver.
static void *find(void **kept, const char *symbol) {
	void *f = __atomic_load_n(kept, __ATOMIC_RELAXED);
	if (!f) {
		f = sift_cuda_symbol(symbol);
		__atomic_store_n(kept, f, __ATOMIC_RELAXED);
	}
	return f;
}

#define FORWARD(name, symbol, types, params, args) \
	CUresult name params { \
		static void *kept; \
		CUresult (*f) types = (CUresult (*) types)find(&kept, #symbol); \
		return f ? f args : library ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_NOT_INITIALIZED; \
	}
#define F0(name, symbol) FORWARD(name, symbol, (void), (void), ())
#define F1(name, symbol, A) FORWARD(name, symbol, (A), (A a), (a))
#define F2(name, symbol, A, B) FORWARD(name, symbol, (A, B), (A a, B b), (a, b))
#define F3(name, symbol, A, B, C) FORWARD(name, symbol, (A, B, C), (A a, B b, C c), (a, b, c))
#define F4(name, symbol, A, B, C, D) FORWARD(name, symbol, (A, B, C, D), (A a, B b, C c, D d), (a, b, c, d))
#define F5(name, symbol, A, B, C, D, E) FORWARD(name, symbol, (A, B, C, D, E), (A a, B b, C c, D d, E e), (a, b, c, d, e))
#define F6(name, symbol, A, B, C, D, E, G) \
	FORWARD(name, symbol, (A, B, C, D, E, G), (A a, B b, C c, D d, E e, G g), (a, b, c, d, e, g))
#define F7(name, symbol, A, B, C, D, E, G, H) \
	FORWARD(name, symbol, (A, B, C, D, E, G, H), (A a, B b, C c, D d, E e, G g, H h), (a, b, c, d, e, g, h))
#define F8(name, symbol, A, B, C, D, E, G, H, I) \
	FORWARD(name, symbol, (A, B, C, D, E, G, H, I), (A a, B b, C c, D d, E e, G g, H h, I i), (a, b, c, d, e, g, h, i))
#define F11(name, symbol, A, B, C, D, E, G, H, I, J, K, L) \
	FORWARD(name, symbol, (A, B, C, D, E, G, H, I, J, K, L), (A a, B b, C c, D d, E e, G g, H h, I i, J j, K k, L l), \
		(a, b, c, d, e, g, h, i, j, k, l))
#include "functions.h"
