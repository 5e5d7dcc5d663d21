// The driver's library on host memory: what package cuda and gorgonia.org/cu call of it,
// with the symbols that a driver exports. One device or more, each an "emulated A100". This
// file has devices and contexts, memory.cpp memory and copies, stream.cpp streams, events
// and graphs, module.cpp kernels, blas.cpp cuBLAS, engine.cpp what runs a kernel.
//
// A stream keeps its work and does nothing until somebody waits for it, so that a missing
// wait shows: host memory is read and written when the work runs. Device memory is full of
// NaN when it is given out and inaccessible around it and once it is freed; copies outside
// an allocation are refused, as are calls on a thread without a current context. A kernel
// that does what a GPU does not allow, and the codes that a context does not survive, make
// every later call in the context fail with the same code.
//
// Settings, all optional:
//
//	SIFT_EMULATOR_MEMORY=BYTES    what a device has; 4 GiB
//	SIFT_EMULATOR_DEVICES=N       how many there are; 1
//	SIFT_EMULATOR_CAPABILITY=75   their compute capability; 80
//	SIFT_EMULATOR_VERSION=11040   the version of CUDA that the driver supports; 12040
//	SIFT_EMULATOR_FAIL=cuMemAlloc_v2:3:2,...   the third call returns 2: see emulator_fail
//	SIFT_EMULATOR_REPORT=FILE     how often each function was called, and what was left when a primary context was released
//	SIFT_EMULATOR_TRACE=1         a line on standard error for each kernel that ran
//	SIFT_EMULATOR_ORDER, SIFT_EMULATOR_SEED, SIFT_EMULATOR_THREADS   see engine.cpp
#include "driver.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace emulator;

namespace emulator {

// Never destroyed: threads may call while the program ends.
std::recursive_mutex &guard = *new std::recursive_mutex;
std::vector<Device> &devices = *new std::vector<Device>;
std::set<Context *> &contexts = *new std::set<Context *>;

static std::map<std::string, int> &calls = *new std::map<std::string, int>;

struct Fault {
	std::string function;
	int nth; // 0: every call
	CUresult code;
};
static std::vector<Fault> &faults = *new std::vector<Fault>;
static bool started;
static thread_local std::vector<Context *> current;

int setting(const char *name, int otherwise) {
	const char *given = getenv(name);
	return given && *given ? atoi(given) : otherwise;
}

static void start() {
	if (started) return;
	started = true;
	devices.resize(std::max(setting("SIFT_EMULATOR_DEVICES", 1), 0));
	if (const char *m = getenv("SIFT_EMULATOR_MEMORY"))
		for (Device &d : devices) d.most = strtoull(m, nullptr, 10);
	const char *list = getenv("SIFT_EMULATOR_FAIL");
	std::string text = list ? list : "";
	for (size_t at = 0; at < text.size();) {
		size_t end = std::min(text.find(',', at), text.size());
		char name[128];
		int nth, code;
		if (sscanf(text.substr(at, end - at).c_str(), "%127[^:]:%d:%d", name, &nth, &code) == 3)
			faults.push_back(Fault{name, nth, (CUresult)code});
		else
			fprintf(stderr, "emulator: SIFT_EMULATOR_FAIL: %s is not FUNCTION:N:CODE\n", text.substr(at, end - at).c_str());
		at = end + 1;
	}
}

// fatal are the codes after which a context is of no more use.
static bool fatal(CUresult r) {
	switch ((int)r) {
	case 214: case 220: case 700: case 702: case 710: case 714: case 715: case 716: case 717: case 718: case 719: case 999: return true;
	}
	return false;
}

CUresult injected(const char *function, Context *c) {
	calls[function]++;
	bool call = strcmp(function, "work") != 0;
	if (call) calls["*"]++;
	for (auto f = faults.begin(); f != faults.end(); ++f) {
		if (f->function != function && !(call && f->function == "*")) continue;
		if (f->nth > 1) {
			f->nth--;
			continue;
		}
		CUresult r = f->code;
		if (f->nth == 1) faults.erase(f);
		if (c && fatal(r)) c->sticky = r;
		return r;
	}
	return CUDA_SUCCESS;
}

CUresult enter(const char *function, Context **c) {
	Context *mine = current.empty() ? nullptr : current.back();
	if (!contexts.count(mine)) mine = nullptr;
	if (CUresult r = injected(function, mine)) return r;
	if (!started) return CUDA_ERROR_NOT_INITIALIZED;
	if (!c) return CUDA_SUCCESS;
	*c = mine;
	return !mine ? CUDA_ERROR_INVALID_CONTEXT : mine->sticky;
}

static Context *make_context(int device, bool primary) {
	Context *c = new Context{device, primary};
	c->legacy.context = c;
	c->legacy.blocking = true;
	contexts.insert(c);
	return c;
}

static void end_context(Context *c) {
	free_streams(c);
	free_modules(c);
	free_memory(c);
	contexts.erase(c);
	delete c;
}

static void report(Context *c) {
	const char *path = getenv("SIFT_EMULATOR_REPORT");
	FILE *f = path && *path ? fopen(path, "w") : nullptr;
	if (!f) return;
	for (auto &n : calls)
		if (n.first != "*") fprintf(f, "call %s %d\n", n.first.c_str(), n.second);
	fprintf(f, "left allocations %zu\nleft pinned %zu\nleft streams %zu\nleft events %zu\nleft modules %zu\nleft graphs %zu\n", allocations(c), c->host.size(),
		c->streams.size(), c->events.size(), c->modules.size(), c->graphs.size() + c->executables.size());
	fclose(f);
}

static bool known(CUdevice d) { return d >= 0 && d < (int)devices.size(); }

static const struct {
	int code;
	const char *name, *text;
} results[] = {
	{0, "CUDA_SUCCESS", "no error"},
	{1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	{2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
	{100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
	{101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	{200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
	{201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
	{214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
	{218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
	{222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
	{400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
	{500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
	{600, "CUDA_ERROR_NOT_READY", "device not ready"},
	{700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
	{702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
	{716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
	{719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
	{801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
	{900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
	{901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
	{905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
	{906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
	{907, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
	{910, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed because it included changes which violated constraints specific to instantiated graph update"},
	{999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

}

extern "C" {

// What tests ask of the emulator.

// emulator_fail makes the nth call of a function from now return code, every call if nth is
// 0. The function is a driver's or cuBLAS's; "*" is any of them and "work" a piece of work
// that runs in a stream, whose failure shows at the next wait. Codes that a context does
// not survive on a GPU stay.
void emulator_fail(const char *function, int nth, int code) {
	Hold hold(guard);
	faults.push_back(Fault{function, nth, (CUresult)code});
}

// emulator_reset forgets what was to fail and has failed, calls counted, and queued work.
void emulator_reset(void) {
	Hold hold(guard);
	faults.clear();
	calls.clear();
	for (Context *c : contexts) {
		c->sticky = CUDA_ERROR_UNKNOWN; // so that nothing of the queues runs
		drain_all(c);
		c->sticky = CUDA_SUCCESS;
	}
}

// emulator_calls is how often a function was called, "*" for all together.
int emulator_calls(const char *function) {
	Hold hold(guard);
	return calls[function];
}

// emulator_bytes is the device memory in use; emulator_objects how many streams, events, modules, graphs and pinned
// blocks there are.
unsigned long long emulator_bytes(void) {
	Hold hold(guard);
	unsigned long long n = 0;
	for (Device &d : devices) n += d.used;
	return n;
}
int emulator_objects(void) {
	Hold hold(guard);
	size_t n = 0;
	for (Context *c : contexts) n += c->streams.size() + c->events.size() + c->modules.size() + c->graphs.size() + c->executables.size() + c->host.size();
	return n;
}

CUresult cuInit(unsigned) {
	Hold hold(guard);
	start();
	return injected(__func__, nullptr);
}
CUresult cuDriverGetVersion(int *v) {
	ENTER;
	*v = setting("SIFT_EMULATOR_VERSION", 12040);
	return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult r, const char **s) {
	for (auto &e : results)
		if (e.code == r) return *s = e.name, CUDA_SUCCESS;
	*s = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGetErrorString(CUresult r, const char **s) {
	for (auto &e : results)
		if (e.code == r) return *s = e.text, CUDA_SUCCESS;
	*s = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *n) {
	ENTER;
	*n = devices.size();
	return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *d, int i) {
	ENTER;
	if (!known(i)) return CUDA_ERROR_INVALID_DEVICE;
	*d = i;
	return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *s, int n, CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	snprintf(s, n, "emulated A100");
	return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid *u, CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	memset(u, 0, sizeof *u);
	memcpy(u, "emulated", 8);
	u->bytes[15] = d;
	return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t *n, CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	*n = devices[d].most;
	return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	int capability = setting("SIFT_EMULATOR_CAPABILITY", 80);
	switch ((int)a) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = capability / 10; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = capability % 10; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 108; break;
	case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = 1024; break;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *v = 2048; break;
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *v = 1024; break;
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *v = 64; break;
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *v = 0x7fffffff; break;
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *v = 65535; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = 48 << 10; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *v = 164 << 10; break;
	case 97: *v = 163 << 10; break; // for a block that asks for it
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *v = 65536; break;
	case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *v = 40 << 20; break;
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *v = 1410000; break;
	case 115: *v = setting("SIFT_EMULATOR_POOLS", 1); break; // cuMemAllocAsync
	case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *v = 1; break;
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: *v = 3; break;
	default: *v = 0;
	}
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *to, CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	if (!devices[d].retained++) devices[d].primary = make_context(d, true);
	*to = (CUcontext)devices[d].primary;
	return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	if (!devices[d].retained) return CUDA_ERROR_INVALID_CONTEXT;
	if (--devices[d].retained) return CUDA_SUCCESS;
	report(devices[d].primary);
	end_context(devices[d].primary);
	devices[d].primary = nullptr;
	return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice d, unsigned *flags, int *active) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	*flags = 0;
	*active = devices[d].retained > 0;
	return CUDA_SUCCESS;
}
CUresult cuCtxCreate_v2(CUcontext *to, unsigned, CUdevice d) {
	ENTER;
	if (!known(d)) return CUDA_ERROR_INVALID_DEVICE;
	current.push_back(make_context(d, false));
	*to = (CUcontext)current.back();
	return CUDA_SUCCESS;
}
CUresult cuCtxDestroy_v2(CUcontext old) {
	ENTER;
	Context *c = (Context *)old;
	if (!contexts.count(c) || c->primary) return CUDA_ERROR_INVALID_CONTEXT;
	if (!current.empty() && current.back() == c) current.pop_back();
	end_context(c);
	return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext to) {
	ENTER;
	if (to && !contexts.count((Context *)to)) return CUDA_ERROR_INVALID_CONTEXT;
	if (!current.empty()) current.pop_back();
	if (to) current.push_back((Context *)to);
	return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *to) {
	ENTER;
	*to = current.empty() ? nullptr : (CUcontext)current.back();
	return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent_v2(CUcontext to) {
	ENTER;
	if (!contexts.count((Context *)to)) return CUDA_ERROR_INVALID_CONTEXT;
	current.push_back((Context *)to);
	return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent_v2(CUcontext *to) {
	ENTER;
	if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
	*to = (CUcontext)current.back();
	current.pop_back();
	return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *d) {
	ENTER_CONTEXT;
	*d = c->device;
	return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize(void) {
	ENTER_CONTEXT;
	SAFE;
	return drain_all(c);
}
}
