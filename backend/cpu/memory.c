//go:build unix

/* Memory of buffers and workspaces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sift.h"

/* Pages of 2 MiB save the many TLB misses of a training step; the kernel gives them on request. */
#define HUGE_PAGE (2l << 20)

void *sift_alloc(long bytes) {
	if (bytes < HUGE_PAGE) {
		void *p = NULL;
		if (posix_memalign(&p, 64, bytes > 0 ? (size_t)bytes : 1) != 0)
			return NULL;
		return memset(p, 0, bytes > 0 ? (size_t)bytes : 1);
	}
	if (bytes > INT64_MAX - 2 * HUGE_PAGE)
		return NULL;
	long size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	char *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	long head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
	if (head > 0)
		munmap(p, head);
	p += head;
	if (HUGE_PAGE > head)
		munmap(p + size, HUGE_PAGE - head);
#ifdef MADV_HUGEPAGE
	madvise(p, size, MADV_HUGEPAGE);
#endif
	return p;
}

void sift_free(void *p, long bytes) {
	if (p == NULL)
		return;
	if (bytes < HUGE_PAGE)
		free(p);
	else
		munmap(p, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}
