// The emulated driver's modules and launches. A module is accepted if each entry of its PTX
// has a twin on the processor with parameters of the same size and blocks of the same bound.
#include "driver.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace emulator;

namespace emulator {

struct Function {
	const Kernel *kernel;
	Context *context;
	int dynamic = 48 << 10; // bytes of shared memory that a launch may give
};

struct Module {
	Context *context;
	std::map<std::string, std::unique_ptr<Function>> functions;
};

static std::set<Function *> &functions = *new std::set<Function *>;

static void unload(Module *m) {
	for (auto &f : m->functions) functions.erase(f.second.get());
	m->context->modules.erase(m);
	delete m;
}

void free_modules(Context *c) {
	while (!c->modules.empty()) unload(*c->modules.begin());
}

// number_after is the number behind a word of PTX, -1 if the word is not there before `end`.
static long number_after(const std::string &ptx, const char *word, size_t from, size_t end = std::string::npos) {
	size_t at = ptx.find(word, from);
	return at >= end ? -1 : strtol(ptx.c_str() + at + strlen(word), nullptr, 10);
}

static CUresult load(Context *c, CUmodule *to, const char *image) {
	std::string ptx = image;
	// The first CUDA that knows a version of PTX: 7.0 came with 11.0, 8.0 with 12.0, and so on.
	int major = 0, minor = 0;
	size_t version = ptx.find(".version ");
	if (version == std::string::npos || sscanf(ptx.c_str() + version, ".version %d.%d", &major, &minor) != 2) return CUDA_ERROR_INVALID_PTX;
	if (1000 * (major + 4) + 10 * minor > setting("SIFT_EMULATOR_VERSION", 12040)) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
	if (number_after(ptx, ".target sm_", 0) > setting("SIFT_EMULATOR_CAPABILITY", 80)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
	std::unique_ptr<Module> m(new Module{c, {}});
	for (size_t at = 0; (at = ptx.find(".entry ", at)) != std::string::npos;) {
		at += 7;
		size_t open = ptx.find('(', at), close = ptx.find(')', open), body = ptx.find('{', close);
		if (body == std::string::npos) return CUDA_ERROR_INVALID_PTX;
		std::string name = ptx.substr(at, open - at);
		const Kernel *k = find(name);
		size_t param = ptx.find(".param ", open);
		bool one = param < close && ptx.find(".param ", param + 1) > close;
		if (!k || !one || number_after(ptx, "[", param, close) != (long)k->bytes || number_after(ptx, ".maxntid ", close, body) != (long)k->threads) {
			fprintf(stderr, "emulator: the PTX entry %s has no twin with one parameter of the same size and blocks of the same bound: %s\n", name.c_str(),
				k ? "it is older than its source" : "there is no such kernel here");
			return CUDA_ERROR_INVALID_IMAGE;
		}
		m->functions[name].reset(new Function{k, c});
	}
	for (auto &f : m->functions) functions.insert(f.second.get());
	c->modules.insert(m.get());
	*to = (CUmodule)m.release();
	return CUDA_SUCCESS;
}

static Function *of(CUfunction f) { return functions.count((Function *)f) ? (Function *)f : nullptr; }

static double seconds() {
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

}

#define FUNCTION(f, handle) \
	Function *f = of(handle); \
	if (!f) return CUDA_ERROR_INVALID_HANDLE;

extern "C" {

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
	ENTER_CONTEXT;
	SAFE;
	return load(c, module, (const char *)image);
}
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned, CUjit_option *, void **) {
	ENTER_CONTEXT;
	SAFE;
	return load(c, module, (const char *)image);
}
CUresult cuModuleUnload(CUmodule module) {
	ENTER_CONTEXT;
	SAFE;
	if (!c->modules.count((Module *)module)) return CUDA_ERROR_INVALID_HANDLE;
	if (CUresult r = drain_all(c)) return r;
	unload((Module *)module);
	return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name) {
	ENTER_CONTEXT;
	if (!c->modules.count((Module *)module)) return CUDA_ERROR_INVALID_HANDLE;
	Module *m = (Module *)module;
	auto found = m->functions.find(name);
	if (found == m->functions.end()) return CUDA_ERROR_NOT_FOUND;
	*f = (CUfunction)found->second.get();
	return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute a, int v) {
	ENTER_CONTEXT;
	FUNCTION(f, function);
	if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
	if (v < 0 || v > 163 << 10) return CUDA_ERROR_INVALID_VALUE;
	f->dynamic = v;
	return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *v, CUfunction_attribute a, CUfunction function) {
	ENTER_CONTEXT;
	FUNCTION(f, function);
	switch ((int)a) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = f->kernel->threads; break;
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *v = f->dynamic; break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS: *v = 64; break; // as good a number as another
	case CU_FUNC_ATTRIBUTE_PTX_VERSION: *v = 70; break;
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *v = 80; break;
	default: *v = 0;
	}
	return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t dynamic) {
	ENTER_CONTEXT;
	FUNCTION(f, function);
	if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
	size_t by = (164 << 10) / (dynamic + (1 << 10)); // a block takes 1 KiB beside its own
	*blocks = threads > (int)f->kernel->threads || dynamic > (size_t)f->dynamic ? 0 : std::min({(size_t)32, by, (size_t)2048 / ((threads + 31) / 32 * 32)});
	return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared, CUstream s,
	void **params, void **extra) {
	ENTER_CONTEXT;
	FUNCTION(f, function);
	const Kernel *k = f->kernel;
	if (f->context != c) return CUDA_ERROR_INVALID_HANDLE;
	if (!x || !y || !z || y > 65535 || z > 65535 || x > 0x7fffffff || !tx || tx > k->threads || ty != 1 || tz != 1 || shared > (unsigned)f->dynamic || !params ||
		extra) {
		fprintf(stderr, "emulator: kernel %s cannot be launched over %u x %u x %u blocks of %u x %u x %u threads, at most %u, with %u bytes of shared memory, at most %d\n",
			k->name.c_str(), x, y, z, tx, ty, tz, k->threads, shared, f->dynamic);
		return CUDA_ERROR_INVALID_VALUE;
	}
	// Parameters are copied now, as a driver does.
	std::string copy((const char *)params[0], k->bytes);
	return enqueue(c, s, Command{[=] {
		static const bool trace = setting("SIFT_EMULATOR_TRACE", 0);
		double start = trace ? seconds() : 0;
		Outcome o;
		launch(*k, x, y, z, tx, shared, copy.data(), &o);
		if (trace) fprintf(stderr, "emulator: %s %ux%ux%u blocks of %u threads, %u bytes: %.3f ms\n", k->name.c_str(), x, y, z, tx, shared, 1e3 * (seconds() - start));
		return o == REFUSED ? CUDA_ERROR_LAUNCH_FAILED : (CUresult)o;
	}, nullptr, nullptr, {"kernel", k}});
}
}
