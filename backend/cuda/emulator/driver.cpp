// The driver's library on host memory: what package cuda and gorgonia.org/cu call of it,
// with the symbols that a driver exports. One device, an "emulated A100".
//
// A stream keeps its work and does nothing until somebody waits for it, so that a missing
// wait shows. Device memory is full of NaN when it is given out, and copies outside an
// allocation are refused. Calls can be told to fail:
//
//	emulator_fail("cuMemAlloc_v2", 3, 2)      the third call from now returns 2
//	SIFT_EMULATOR_FAIL=cuMemAlloc_v2:3:2,...  the same from the start
//	SIFT_EMULATOR_MEMORY=BYTES                what the device has, 4 GiB if unset
//	SIFT_EMULATOR_REPORT=FILE                 how often each function was called, and what was left when the device was closed
//
// A kernel that does what a GPU does not allow, and the codes that a GPU does not survive,
// make every later call fail with the same code.
#include "driver.h"
#include "engine.h"
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

using namespace emulator;

namespace {

std::recursive_mutex guard;
typedef std::lock_guard<std::recursive_mutex> Hold;

struct Fault {
	std::string function;
	int nth;
	CUresult code;
};
std::vector<Fault> faults;
std::map<std::string, int> calls;
CUresult sticky = CUDA_SUCCESS;
size_t inUse, most = (size_t)4 << 30;
bool started;

// fatal are the codes after which a context is of no more use.
bool fatal(CUresult r) { return r == 214 || (r >= 700 && r < 720 && r != 701) || r == 999; }

// entered counts a call and returns what it shall fail with.
CUresult entered(const char *function) {
	calls[function]++;
	for (auto f = faults.begin(); f != faults.end(); ++f)
		if (f->function == function && --f->nth == 0) {
			CUresult r = f->code;
			faults.erase(f);
			if (fatal(r)) sticky = r;
			return r;
		}
	return sticky;
}

#define ENTER \
	Hold hold(guard); \
	if (CUresult r = entered(__func__)) return r;

std::map<CUdeviceptr, size_t> memory; // allocations, by their first byte

// inside reports whether n bytes at p lie in one allocation.
bool inside(CUdeviceptr p, size_t n) {
	auto m = memory.upper_bound(p);
	if (m == memory.begin()) return false;
	--m;
	return p + n <= m->first + m->second;
}

struct Event {
	u64 number = 0; // of the last record asked for, 0: never
	u64 reached = 0;
	timespec when;
};

struct Command {
	std::function<CUresult()> run;
	Event *waits = nullptr; // runs only when its record numbered `number` has been reached
	u64 number = 0;
};

struct Graph {
	std::vector<Command> commands;
	std::vector<const Kernel *> shape; // what an update must agree with
};

struct Stream {
	std::deque<Command> queue;
	bool blocking = true;
	Graph *capture = nullptr;
};

Stream legacy;
std::map<Stream *, bool> streams{{&legacy, true}};

Stream *of(CUstream s) { return s ? (Stream *)s : &legacy; }

// advance runs the stream up to what it must wait for; it reports whether anything ran.
bool advance(Stream *s) {
	bool ran = false;
	while (!s->queue.empty()) {
		Command &c = s->queue.front();
		if (c.waits && c.waits->reached < c.number) return ran;
		Command now = std::move(c);
		s->queue.pop_front();
		ran = true;
		if (now.run && !sticky) {
			CUresult r = now.run();
			if (r) sticky = r;
		}
	}
	return ran;
}

// drain runs a stream to its end, and others as far as it waits for them.
CUresult drain(Stream *s) {
	while (!s->queue.empty()) {
		bool ran = advance(s);
		if (s->queue.empty()) break;
		for (auto &other : streams)
			if (other.first != s) ran = advance(other.first) || ran;
		if (!ran) {
			fprintf(stderr, "emulator: streams wait for one another for ever\n");
			return sticky = CUDA_ERROR_LAUNCH_TIMEOUT;
		}
	}
	return sticky;
}

CUresult drainAll() {
	for (auto &s : streams)
		if (CUresult r = drain(s.first)) return r;
	return sticky;
}

CUresult enqueue(CUstream stream, Command c, const Kernel *shape = nullptr) {
	Stream *s = of(stream);
	if (!streams.count(s)) return CUDA_ERROR_INVALID_HANDLE;
	if (s->capture) {
		s->capture->commands.push_back(std::move(c));
		s->capture->shape.push_back(shape);
		return CUDA_SUCCESS;
	}
	s->queue.push_back(std::move(c));
	return CUDA_SUCCESS;
}
CUresult enqueue(CUstream stream, std::function<CUresult()> run) { return enqueue(stream, Command{std::move(run)}); }

struct Function {
	const Kernel *kernel;
	int dynamic = 48 << 10;
};
struct Module {
	std::map<std::string, Function *> functions;
};

int context; // its address is the one context there is

// write_report says how often each function was called and what was not given back, in the file that
// SIFT_EMULATOR_REPORT names.
void write_report() {
	const char *path = getenv("SIFT_EMULATOR_REPORT");
	FILE *f = path && *path ? fopen(path, "w") : nullptr;
	if (!f) return;
	for (auto &c : calls) fprintf(f, "call %s %d\n", c.first.c_str(), c.second);
	fprintf(f, "left allocations %zu\n", memory.size());
	fprintf(f, "left streams %zu\n", streams.size() - 1);
	fclose(f);
}

void start() {
	if (started) return;
	started = true;
	if (const char *m = getenv("SIFT_EMULATOR_MEMORY")) most = strtoull(m, nullptr, 10);
	if (const char *list = getenv("SIFT_EMULATOR_FAIL")) {
		std::string text = list;
		for (size_t at = 0; at < text.size();) {
			size_t end = text.find(',', at);
			if (end == std::string::npos) end = text.size();
			char name[128];
			int nth, code;
			if (sscanf(text.substr(at, end - at).c_str(), "%127[^:]:%d:%d", name, &nth, &code) == 3) faults.push_back(Fault{name, nth, (CUresult)code});
			at = end + 1;
		}
	}
}

const char *names[] = {"CUDA_SUCCESS"};

}

CUresult emulator_queue(CUstream s, std::function<void()> run) {
	Hold hold(guard);
	if (CUresult r = entered("cublasGemmEx")) return r;
	return enqueue(s, [=] {
		run();
		return CUDA_SUCCESS;
	});
}

extern "C" {

// What tests ask of the emulator.
void emulator_fail(const char *function, int nth, int code) {
	Hold hold(guard);
	faults.push_back(Fault{function, nth, (CUresult)code});
}
void emulator_reset(void) {
	Hold hold(guard);
	faults.clear();
	calls.clear();
	sticky = CUDA_SUCCESS;
	for (auto &s : streams) {
		s.first->queue.clear();
		s.first->capture = nullptr;
	}
}
int emulator_calls(const char *function) {
	Hold hold(guard);
	return calls[function];
}
unsigned long long emulator_bytes(void) {
	Hold hold(guard);
	return inUse;
}

CUresult cuInit(unsigned) {
	start();
	ENTER;
	return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *v) {
	ENTER;
	const char *given = getenv("SIFT_EMULATOR_VERSION");
	*v = given && *given ? atoi(given) : 12040;
	return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult, const char **s) {
	*s = names[0];
	return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char **s) {
	*s = "error of the emulator";
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *n) {
	ENTER;
	const char *given = getenv("SIFT_EMULATOR_DEVICES");
	*n = given && *given ? atoi(given) : 1;
	return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *d, int i) {
	ENTER;
	*d = i;
	return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *s, int n, CUdevice) {
	ENTER;
	snprintf(s, n, "emulated A100");
	return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid *u, CUdevice) {
	ENTER;
	memset(u, 0, sizeof *u);
	return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t *n, CUdevice) {
	ENTER;
	*n = most;
	return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice) {
	ENTER;
	const char *given = getenv("SIFT_EMULATOR_CAPABILITY");
	int capability = given && *given ? atoi(given) : 80;
	switch ((int)a) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = capability / 10; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = capability % 10; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 108; break;
	case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = 1024; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = 48 << 10; break;
	case 97: *v = 163 << 10; break; // with opt-in
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *v = 1410000; break;
	default: *v = 0;
	}
	return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice) {
	ENTER;
	*c = (CUcontext)&context;
	return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
	ENTER;
	write_report();
	return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext) {
	ENTER;
	return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize(void) {
	ENTER;
	return drainAll();
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t n) {
	ENTER;
	if (n == 0) return CUDA_ERROR_INVALID_VALUE;
	if (n > most - inUse) return CUDA_ERROR_OUT_OF_MEMORY;
	// Exactly as long as asked for: the address checker then sees what lies beyond.
	void *m;
	if (posix_memalign(&m, 512, n)) return CUDA_ERROR_OUT_OF_MEMORY;
	memset(m, 0xff, n);
	*p = (CUdeviceptr)m;
	memory[*p] = n;
	inUse += n;
	return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr p) {
	ENTER;
	if (CUresult r = drainAll()) return r;
	auto m = memory.find(p);
	if (m == memory.end()) return CUDA_ERROR_INVALID_VALUE;
	memset((void *)p, 0xff, m->second);
	inUse -= m->second;
	memory.erase(m);
	free((void *)p);
	return CUDA_SUCCESS;
}
CUresult cuMemGetInfo_v2(size_t *rest, size_t *all) {
	ENTER;
	*rest = most - inUse;
	*all = most;
	return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **p, size_t n, unsigned) {
	ENTER;
	return posix_memalign(p, 4096, n) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *p) {
	ENTER;
	free(p);
	return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, CUstream s) {
	ENTER;
	if (!inside(to, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(s, [=] {
		memcpy((void *)to, from, n);
		return CUDA_SUCCESS;
	});
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, CUstream s) {
	ENTER;
	if (!inside(from, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(s, [=] {
		memcpy(to, (const void *)from, n);
		return CUDA_SUCCESS;
	});
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
	ENTER;
	if (!inside(from, n) || !inside(to, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(s, [=] {
		memmove((void *)to, (const void *)from, n);
		return CUDA_SUCCESS;
	});
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char v, size_t n, CUstream s) {
	ENTER;
	if (!inside(to, n)) return CUDA_ERROR_INVALID_VALUE;
	return enqueue(s, [=] {
		memset((void *)to, v, n);
		return CUDA_SUCCESS;
	});
}

CUresult cuStreamCreate(CUstream *s, unsigned flags) {
	ENTER;
	Stream *n = new Stream;
	n->blocking = !(flags & CU_STREAM_NON_BLOCKING);
	streams[n] = true;
	*s = (CUstream)n;
	return CUDA_SUCCESS;
}
CUresult cuStreamDestroy_v2(CUstream s) {
	ENTER;
	drain(of(s));
	streams.erase(of(s));
	delete of(s);
	return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream s) {
	ENTER;
	if (of(s)->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	return drain(of(s));
}
CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned) {
	ENTER;
	Event *v = (Event *)e;
	if (v->number == 0) return CUDA_SUCCESS;
	return enqueue(s, Command{nullptr, v, v->number});
}

CUresult cuEventCreate(CUevent *e, unsigned) {
	ENTER;
	*e = (CUevent) new Event;
	return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent e) {
	ENTER;
	if (CUresult r = drainAll()) return r;
	delete (Event *)e;
	return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent e, CUstream s) {
	ENTER;
	Event *v = (Event *)e;
	u64 number = ++v->number;
	return enqueue(s, [=] {
		v->reached = number;
		clock_gettime(CLOCK_MONOTONIC, &v->when);
		return CUDA_SUCCESS;
	});
}
CUresult cuEventSynchronize(CUevent e) {
	ENTER;
	Event *v = (Event *)e;
	while (v->reached < v->number) {
		bool ran = false;
		for (auto &s : streams) ran = advance(s.first) || ran;
		if (sticky) return sticky;
		if (!ran) return CUDA_ERROR_LAUNCH_TIMEOUT;
	}
	return sticky;
}
CUresult cuEventQuery(CUevent e) {
	ENTER;
	Event *v = (Event *)e;
	return v->reached < v->number ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuEventElapsedTime(float *ms, CUevent a, CUevent b) {
	ENTER;
	Event *from = (Event *)a, *to = (Event *)b;
	if (from->reached < from->number || to->reached < to->number) return CUDA_ERROR_NOT_READY;
	*ms = (to->when.tv_sec - from->when.tv_sec) * 1e3 + (to->when.tv_nsec - from->when.tv_nsec) * 1e-6;
	return CUDA_SUCCESS;
}

// A module is accepted if each entry of its PTX has a twin whose parameters are as long.
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
	ENTER;
	std::string ptx = (const char *)image;
	Module *m = new Module;
	for (size_t at = 0; (at = ptx.find(".entry ", at)) != std::string::npos;) {
		at += 7;
		size_t open = ptx.find('(', at), close = ptx.find(')', open);
		std::string name = ptx.substr(at, open - at);
		size_t first = ptx.find(".param ", open);
		size_t bracket = ptx.find('[', open);
		const Kernel *k = emulator::find(name);
		bool one = first < close && ptx.find(".param ", first + 1) > close && bracket < close;
		if (!k || !one || strtoull(ptx.c_str() + bracket + 1, nullptr, 10) != k->bytes) {
			fprintf(stderr, "emulator: the PTX entry %s has no twin with one parameter of the same size\n", name.c_str());
			return CUDA_ERROR_INVALID_IMAGE;
		}
		m->functions[name] = new Function{k};
	}
	*module = (CUmodule)m;
	return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
	ENTER;
	Module *m = (Module *)module;
	for (auto &f : m->functions) delete f.second;
	delete m;
	return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name) {
	ENTER;
	Module *m = (Module *)module;
	auto found = m->functions.find(name);
	if (found == m->functions.end()) return CUDA_ERROR_NOT_FOUND;
	*f = (CUfunction)found->second;
	return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
	ENTER;
	if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
		if (v > 163 << 10) return CUDA_ERROR_INVALID_VALUE;
		((Function *)f)->dynamic = v;
	}
	return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared, CUstream s,
	void **params, void **) {
	ENTER;
	Function *f = (Function *)function;
	if (!x || !y || !z || y > 65535 || z > 65535 || x > 0x7fffffff || !tx || tx > 1024 || ty != 1 || tz != 1 || (int)shared > f->dynamic)
		return CUDA_ERROR_INVALID_VALUE;
	const Kernel *k = f->kernel;
	std::string copy((const char *)params[0], k->bytes);
	return enqueue(s, Command{[=] { return launch(*k, x, y, z, tx, shared, copy.data()) ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED; }}, k);
}

CUresult cuStreamBeginCapture_v2(CUstream s, CUstreamCaptureMode) {
	ENTER;
	if (!s || of(s)->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	of(s)->capture = new Graph;
	return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream s, CUgraph *g) {
	ENTER;
	if (!of(s)->capture) return CUDA_ERROR_INVALID_VALUE;
	*g = (CUgraph)of(s)->capture;
	of(s)->capture = nullptr;
	return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *e, CUgraph g, unsigned long long) {
	ENTER;
	*e = (CUgraphExec) new Graph(*(Graph *)g);
	return CUDA_SUCCESS;
}
CUresult cuGraphExecUpdate(CUgraphExec e, CUgraph g, CUgraphNode *node, CUgraphExecUpdateResult *result) {
	ENTER;
	Graph *to = (Graph *)e, *from = (Graph *)g;
	*node = nullptr;
	if (to->shape != from->shape) {
		*result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
		return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
	}
	to->commands = from->commands;
	*result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
	return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec e, CUstream s) {
	ENTER;
	for (Command c : ((Graph *)e)->commands)
		if (CUresult r = enqueue(s, c)) return r;
	return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec e) {
	ENTER;
	delete (Graph *)e;
	return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph g) {
	ENTER;
	delete (Graph *)g;
	return CUDA_SUCCESS;
}
}
