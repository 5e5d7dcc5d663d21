// What the parts of the emulated driver share: contexts, streams and what they are to do.
#ifndef SIFT_EMULATOR_DRIVER_H
#define SIFT_EMULATOR_DRIVER_H
#include "../driver/cuda.h"
#include "engine.h"
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>
#include <time.h>

// The prototypes that callers go by, under the driver's names.
extern "C" {
#define F0(name, symbol) CUresult symbol(void);
#define F1(name, symbol, A) CUresult symbol(A);
#define F2(name, symbol, A, B) CUresult symbol(A, B);
#define F3(name, symbol, A, B, C) CUresult symbol(A, B, C);
#define F4(name, symbol, A, B, C, D) CUresult symbol(A, B, C, D);
#define F5(name, symbol, A, B, C, D, E) CUresult symbol(A, B, C, D, E);
#define F6(name, symbol, A, B, C, D, E, G) CUresult symbol(A, B, C, D, E, G);
#define F7(name, symbol, A, B, C, D, E, G, H) CUresult symbol(A, B, C, D, E, G, H);
#define F8(name, symbol, A, B, C, D, E, G, H, I) CUresult symbol(A, B, C, D, E, G, H, I);
#define F11(name, symbol, A, B, C, D, E, G, H, I, J, K, L) CUresult symbol(A, B, C, D, E, G, H, I, J, K, L);
#include "../driver/functions.h"
#include "../driver/undefine.h"
}

namespace emulator {

// Everything of the driver is done under one lock.
extern std::recursive_mutex &guard;
typedef std::lock_guard<std::recursive_mutex> Hold;

// Mark is a point in a stream that others wait for.
struct Mark {
	bool reached = false;
	timespec when = {};
};
typedef std::shared_ptr<Mark> MarkOf;

// Command is a piece of a stream's work: it runs once `waits` has been reached.
struct Command {
	std::function<CUresult()> run;
	MarkOf waits, reaches;
	std::pair<const char *, const void *> shape; // what an update of a graph must agree with: kind of work, kernel
};

struct Context;

struct Graph {
	Context *context;
	std::vector<Command> commands;
};

struct Stream {
	Context *context;
	bool blocking;
	std::deque<Command> queue;
	std::unique_ptr<Graph> capture; // being made
	bool invalid = false;           // the capture has met what it may not
	CUstreamCaptureMode mode;
	std::thread::id by;
};

struct Event {
	Context *context;
	bool timed;
	MarkOf last; // of the last record
	bool captured = false;
};

struct Module;
struct Function;

struct Context {
	int device;
	bool primary;
	CUresult sticky = CUDA_SUCCESS;
	Stream legacy; // the stream 0
	std::set<Stream *> streams;
	std::set<Event *> events;
	std::set<Module *> modules;
	std::set<Graph *> graphs, executables;
	std::map<void *, size_t> host; // pinned memory
};

struct Device {
	Context *primary = nullptr;
	int retained = 0;
	size_t used = 0, most = (size_t)4 << 30;
};
extern std::vector<Device> &devices;
extern std::set<Context *> &contexts;

// enter counts a call and returns what it is to fail with: as told, else, where the call
// needs a context, *c being that of the thread, what the context fails with.
CUresult enter(const char *function, Context **c);

#define ENTER \
	Hold hold(guard); \
	if (CUresult r = enter(__func__, nullptr)) return r;
#define ENTER_CONTEXT \
	Hold hold(guard); \
	Context *c; \
	if (CUresult r = enter(__func__, &c)) return r;
// SAFE refuses what may not be done while a stream is being captured.
#define SAFE \
	if (CUresult r = capture_forbids()) return r;

// injected returns what the call, or "work" for a piece of it that runs, was told to fail with.
CUresult injected(const char *function, Context *c);
CUresult capture_forbids();

// enqueue appends work to a stream of the context, or to what is being captured from it.
CUresult enqueue(Context *c, CUstream s, Command command);

// drain runs a stream, or all of a context's, to the end, and others as far as they are waited for.
CUresult drain(Stream *s);
CUresult drain_all(Context *c);
// step lets each stream do one piece of work: time passes for those who ask again and again.
void step();

// inside reports whether n bytes at p lie in one allocation.
bool inside(CUdeviceptr p, size_t n);

// What is left of a context that ends.
void free_memory(Context *c);
void free_streams(Context *c);
void free_modules(Context *c);
size_t allocations(Context *c);

const Kernel *kernel_of(CUfunction f);

int setting(const char *name, int otherwise);

}

#endif
