// The emulated driver's memory: allocations and copies.
#include "driver.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

using namespace emulator;

namespace emulator {

// Allocation is device memory. In a plain build it is mapped by itself and ends, but for
// the alignment of its first byte, where an inaccessible page begins; the bytes around it
// keep their pattern, or a kernel wrote outside. With the address checker it is a block of
// the heap.
struct Allocation {
	size_t bytes;
	Context *context;
	char *pages;      // the accessible ones
	size_t pageBytes; // in all
	bool leaving;     // its cuMemFreeAsync waits in a stream
};
static std::map<CUdeviceptr, Allocation> &memory = *new std::map<CUdeviceptr, Allocation>;

const size_t alignBytes = 256; // what a driver promises
const int untouched = 0xff;

#ifdef __SANITIZE_ADDRESS__
static char *map(size_t n, Allocation *a) {
	void *p;
	if (posix_memalign(&p, alignBytes, n)) return nullptr;
	a->pages = nullptr;
	return (char *)p;
}
static void unmap(CUdeviceptr at, Allocation &) { free((void *)at); }
#else
// left is memory that was freed, kept inaccessible for a while.
static std::deque<std::pair<char *, size_t>> &left = *new std::deque<std::pair<char *, size_t>>;

static char *map(size_t n, Allocation *a) {
	size_t page = sysconf(_SC_PAGESIZE), room = (n + alignBytes - 1) / alignBytes * alignBytes;
	a->pageBytes = (room + page - 1) / page * page;
	char *all = (char *)mmap(nullptr, a->pageBytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED) return nullptr;
	a->pages = all + page;
	if (mprotect(a->pages, a->pageBytes, PROT_READ | PROT_WRITE)) {
		munmap(all, a->pageBytes + 2 * page);
		return nullptr;
	}
	memset(a->pages, untouched, a->pageBytes);
	return a->pages + a->pageBytes - room;
}
static void unmap(CUdeviceptr, Allocation &a) {
	size_t page = sysconf(_SC_PAGESIZE);
	mmap(a.pages, a.pageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	left.emplace_back(a.pages - page, a.pageBytes + 2 * page);
	if (left.size() > 4096) {
		munmap(left.front().first, left.front().second);
		left.pop_front();
	}
}
#endif

// kept reports whether nobody wrote around an allocation.
static bool kept(CUdeviceptr at, Allocation &a) {
	if (!a.pages) return true;
	for (char *p = a.pages; p < a.pages + a.pageBytes; p++) {
		if (p == (char *)at) p += a.bytes;
		if (p < a.pages + a.pageBytes && (unsigned char)*p != untouched) {
			fprintf(stderr, "emulator: something was written %lld bytes from the start of an allocation of %zu\n", (long long)(p - (char *)at), a.bytes);
			return false;
		}
	}
	return true;
}

static CUresult allocate(Context *c, CUdeviceptr *p, size_t n) {
	Device &d = devices[c->device];
	if (n == 0) return CUDA_ERROR_INVALID_VALUE;
	if (n > d.most - d.used) return CUDA_ERROR_OUT_OF_MEMORY;
	Allocation a{n, c};
	char *at = map(n, &a);
	if (!at) return CUDA_ERROR_OUT_OF_MEMORY;
	memset(at, untouched, n);
	*p = (CUdeviceptr)at;
	memory[*p] = a;
	d.used += n;
	return CUDA_SUCCESS;
}

static CUresult release(CUdeviceptr p) {
	auto m = memory.find(p);
	Context *c = m->second.context;
	CUresult r = kept(p, m->second) ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
	unmap(p, m->second);
	devices[c->device].used -= m->second.bytes;
	memory.erase(m);
	if (r) c->sticky = r;
	return r;
}

bool inside(CUdeviceptr p, size_t n) {
	auto m = memory.upper_bound(p);
	if (m == memory.begin()) return false;
	--m;
	return p - m->first <= m->second.bytes && n <= m->second.bytes - (p - m->first);
}

size_t allocations(Context *c) {
	return std::count_if(memory.begin(), memory.end(), [=](auto &m) { return m.second.context == c; });
}

void free_memory(Context *c) {
	for (auto m = memory.begin(); m != memory.end();) {
		auto now = m++;
		if (now->second.context != c) continue;
		unmap(now->first, now->second);
		devices[c->device].used -= now->second.bytes;
		memory.erase(now);
	}
	for (auto &h : c->host) free(h.first);
}

// near says what lies at an address where nothing is.
static std::string near(const void *p) {
	CUdeviceptr at = (CUdeviceptr)p;
	auto m = memory.upper_bound(at);
	char text[128];
	if (m != memory.begin()) {
		auto before = std::prev(m);
		CUdeviceptr end = before->first + before->second.bytes;
		if (at - end < 1 << 20) {
			snprintf(text, sizeof text, ": %llu bytes behind an allocation of %zu", at - end, before->second.bytes);
			return text;
		}
	}
	if (m != memory.end() && m->first - at < 1 << 20) {
		snprintf(text, sizeof text, ": %llu bytes before an allocation of %zu", m->first - at, m->second.bytes);
		return text;
	}
	return ": no memory of the device is near, perhaps any more";
}
static const bool describing = (describe = near, true);

// filled is a command that writes n elements.
template <class T> static Command filled(CUdeviceptr to, T v, size_t n) {
	return Command{[=] {
		if (!inside(to, n * sizeof(T))) return CUDA_ERROR_ILLEGAL_ADDRESS;
		std::fill((T *)to, (T *)to + n, v);
		return CUDA_SUCCESS;
	}, nullptr, nullptr, {"set", nullptr}};
}

// copied is a command that copies between device and host memory, which is read and written when it runs.
static Command copied(const char *kind, void *to, const void *from, size_t n, bool toDevice, bool fromDevice) {
	return Command{[=] {
		if ((toDevice && !inside((CUdeviceptr)to, n)) || (fromDevice && !inside((CUdeviceptr)from, n))) return CUDA_ERROR_ILLEGAL_ADDRESS;
		memcpy(to, from, n);
		return CUDA_SUCCESS;
	}, nullptr, nullptr, {kind, nullptr}};
}

static bool overlap(CUdeviceptr a, CUdeviceptr b, size_t n) {
	if (n == 0 || (a < b ? b - a : a - b) >= n) return false;
	fprintf(stderr, "emulator: a copy of %zu bytes whose source and target overlap\n", n);
	return true;
}

// now runs a command on the legacy stream and waits for it.
static CUresult now(Context *c, Command command) {
	CUresult r = enqueue(c, nullptr, std::move(command));
	return r ? r : drain(&c->legacy);
}

}

extern "C" {

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t n) {
	ENTER_CONTEXT;
	SAFE;
	return allocate(c, p, n);
}
CUresult cuMemFree_v2(CUdeviceptr p) {
	ENTER_CONTEXT;
	SAFE;
	if (p == 0) return CUDA_SUCCESS;
	if (CUresult r = drain_all(c)) return r;
	auto m = memory.find(p);
	return m == memory.end() || m->second.leaving ? CUDA_ERROR_INVALID_VALUE : release(p);
}
CUresult cuMemAllocAsync(CUdeviceptr *p, size_t n, CUstream) {
	ENTER_CONTEXT;
	SAFE;
	return allocate(c, p, n);
}
CUresult cuMemFreeAsync(CUdeviceptr p, CUstream s) {
	ENTER_CONTEXT;
	SAFE;
	auto m = memory.find(p);
	if (m == memory.end() || m->second.leaving) return CUDA_ERROR_INVALID_VALUE;
	m->second.leaving = true;
	return enqueue(c, s, Command{[=] { return release(p); }, nullptr, nullptr, {"free", nullptr}});
}
CUresult cuMemGetInfo_v2(size_t *rest, size_t *all) {
	ENTER_CONTEXT;
	Device &d = devices[c->device];
	*rest = d.most - d.used;
	*all = d.most;
	return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *n, CUdeviceptr p) {
	ENTER_CONTEXT;
	auto m = memory.upper_bound(p);
	if (m == memory.begin() || !inside(p, 1)) return CUDA_ERROR_INVALID_VALUE;
	--m;
	if (base) *base = m->first;
	if (n) *n = m->second.bytes;
	return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **p, size_t n, unsigned) {
	ENTER_CONTEXT;
	SAFE;
	if (n == 0) return CUDA_ERROR_INVALID_VALUE;
	if (posix_memalign(p, 4096, n)) return CUDA_ERROR_OUT_OF_MEMORY;
	memset(*p, untouched, n);
	c->host[*p] = n;
	return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *p) {
	ENTER_CONTEXT;
	SAFE;
	if (CUresult r = drain_all(c)) return r;
	if (!c->host.erase(p)) return CUDA_ERROR_INVALID_VALUE;
	free(p);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s) {
	ENTER_CONTEXT;
	if (!inside(to, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(c, s, copied("to device", (void *)to, from, n, true, false));
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s) {
	ENTER_CONTEXT;
	if (!inside(from, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(c, s, copied("from device", to, (const void *)from, n, false, true));
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
	ENTER_CONTEXT;
	if (!inside(from, n) || !inside(to, n) || overlap(to, from, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(c, s, copied("on device", (void *)to, (const void *)from, n, true, true));
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t n) {
	ENTER_CONTEXT;
	SAFE;
	if (!inside(to, n)) return CUDA_ERROR_INVALID_VALUE;
	return now(c, copied("to device", (void *)to, from, n, true, false));
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t n) {
	ENTER_CONTEXT;
	SAFE;
	if (!inside(from, n)) return CUDA_ERROR_INVALID_VALUE;
	return now(c, copied("from device", to, (const void *)from, n, false, true));
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) {
	ENTER_CONTEXT;
	SAFE;
	if (!inside(from, n) || !inside(to, n) || overlap(to, from, n)) return CUDA_ERROR_INVALID_VALUE;
	return now(c, copied("on device", (void *)to, (const void *)from, n, true, true));
}

#define SET(bits, T, name, async) \
	CUresult async(CUdeviceptr to, T v, size_t n, CUstream s) { \
		ENTER_CONTEXT; \
		if (to % sizeof v || n > SIZE_MAX / sizeof v || !inside(to, n * sizeof v)) return CUDA_ERROR_INVALID_VALUE; \
		return enqueue(c, s, filled(to, v, n)); \
	} \
	CUresult name(CUdeviceptr to, T v, size_t n) { \
		ENTER_CONTEXT; \
		SAFE; \
		if (to % sizeof v || n > SIZE_MAX / sizeof v || !inside(to, n * sizeof v)) return CUDA_ERROR_INVALID_VALUE; \
		return now(c, filled(to, v, n)); \
	}
SET(8, unsigned char, cuMemsetD8_v2, cuMemsetD8Async)
SET(16, unsigned short, cuMemsetD16_v2, cuMemsetD16Async)
SET(32, unsigned, cuMemsetD32_v2, cuMemsetD32Async)
}
