// The emulated driver's streams, events and graphs. See driver.cpp.
#include "driver.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace emulator;

namespace emulator {

static void all_streams(std::function<void(Stream *)> f) {
	for (Context *c : contexts) {
		f(&c->legacy);
		for (Stream *s : c->streams) f(s);
	}
}

// one runs the first command of a stream unless that waits; it reports whether it ran.
static bool one(Stream *s) {
	if (s->queue.empty()) return false;
	Context *c = s->context;
	if (s->queue.front().waits && !s->queue.front().waits->reached && !c->sticky) return false;
	Command now = std::move(s->queue.front());
	s->queue.pop_front();
	if (now.run && !c->sticky) {
		CUresult r = injected("work", c);
		if (!r) r = now.run();
		if (r && !c->sticky) c->sticky = r;
	}
	if (now.reaches) {
		clock_gettime(CLOCK_MONOTONIC, &now.reaches->when);
		now.reaches->reached = true;
	}
	return true;
}

static CUresult stuck(Context *c) {
	fprintf(stderr, "emulator: streams wait for one another for ever\n");
	return c->sticky = CUDA_ERROR_LAUNCH_TIMEOUT;
}

// drain runs a stream to its end, and of the others only what it waits for: the latest that
// they may run. SIFT_EMULATOR_STREAMS=early makes the others run first: the earliest.
CUresult drain(Stream *s) {
	const char *order = getenv("SIFT_EMULATOR_STREAMS");
	bool early = order && !strcmp(order, "early");
	while (early) {
		bool ran = false;
		all_streams([&](Stream *other) { ran = (other != s && one(other)) || ran; });
		if (!ran && !one(s)) break;
	}
	while (!s->queue.empty()) {
		bool ran = false;
		while (one(s)) ran = true;
		if (s->queue.empty()) break;
		all_streams([&](Stream *other) { ran = one(other) || ran; });
		if (!ran) return stuck(s->context);
	}
	return s->context->sticky;
}

CUresult drain_all(Context *c) {
	drain(&c->legacy);
	for (Stream *s : c->streams) drain(s);
	return c->sticky;
}

void step() { all_streams(one); }

static bool capturing() {
	bool is = false;
	all_streams([&](Stream *s) { is = is || s->capture; });
	return is;
}

CUresult capture_forbids() {
	bool forbidden = false;
	all_streams([&](Stream *s) {
		if (!s->capture || s->mode == CU_STREAM_CAPTURE_MODE_RELAXED) return;
		if (s->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && s->by != std::this_thread::get_id()) return;
		forbidden = s->invalid = true;
	});
	return forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

// of is the stream that a handle stands for, null if there is none such.
static Stream *of(Context *c, CUstream s) {
	if (!s) return &c->legacy;
	for (Context *any : contexts)
		if (any->streams.count((Stream *)s)) return (Stream *)s;
	return nullptr;
}

static Event *of(CUevent e) {
	for (Context *c : contexts)
		if (c->events.count((Event *)e)) return (Event *)e;
	return nullptr;
}

// behind makes a stream wait for what another has to do by now.
static void behind(Stream *s, Stream *other) {
	if (s == other || other->queue.empty() || other->context != s->context) return;
	MarkOf m = std::make_shared<Mark>();
	other->queue.push_back(Command{nullptr, nullptr, m});
	s->queue.push_back(Command{nullptr, m});
}

CUresult enqueue(Context *c, CUstream stream, Command command) {
	Stream *s = of(c, stream);
	if (!s) return CUDA_ERROR_INVALID_HANDLE;
	if (s->context->sticky) return s->context->sticky;
	if (s->capture) {
		if (s->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
		s->capture->commands.push_back(std::move(command));
		return CUDA_SUCCESS;
	}
	// The legacy stream and the blocking ones wait for one another.
	if (s == &s->context->legacy) {
		for (Stream *other : s->context->streams) {
			if (other->blocking && other->capture) {
				other->invalid = true;
				return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
			}
			if (other->blocking) behind(s, other);
		}
	} else if (s->blocking) {
		behind(s, &s->context->legacy);
	}
	s->queue.push_back(std::move(command));
	return CUDA_SUCCESS;
}

void free_streams(Context *c) {
	CUresult before = c->sticky;
	c->sticky = CUDA_ERROR_CONTEXT_IS_DESTROYED; // so that nothing runs, but marks are reached
	drain_all(c);
	c->sticky = before;
	for (Stream *s : c->streams) delete s;
	for (Event *e : c->events) delete e;
	for (Graph *g : c->graphs) delete g;
	for (Graph *g : c->executables) delete g;
}

static Graph *graph_of(CUgraph g) {
	for (Context *c : contexts)
		if (c->graphs.count((Graph *)g)) return (Graph *)g;
	return nullptr;
}
static Graph *graph_of(CUgraphExec g) {
	for (Context *c : contexts)
		if (c->executables.count((Graph *)g)) return (Graph *)g;
	return nullptr;
}

}

#define STREAM(s, handle) \
	Stream *s = of(c, handle); \
	if (!s) return CUDA_ERROR_INVALID_HANDLE; \
	if (s->context->sticky) return s->context->sticky;
#define EVENT(e, handle) \
	Event *e = of(handle); \
	if (!e) return CUDA_ERROR_INVALID_HANDLE;
#define GRAPH(g, handle) \
	Graph *g = graph_of(handle); \
	if (!g) return CUDA_ERROR_INVALID_VALUE;

extern "C" {

CUresult cuStreamCreate(CUstream *s, unsigned flags) {
	ENTER_CONTEXT;
	if (flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
	Stream *n = new Stream{c, flags != CU_STREAM_NON_BLOCKING};
	c->streams.insert(n);
	*s = (CUstream)n;
	return CUDA_SUCCESS;
}
CUresult cuStreamCreateWithPriority(CUstream *s, unsigned flags, int) { return cuStreamCreate(s, flags); }
CUresult cuStreamDestroy_v2(CUstream stream) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	if (!stream) return CUDA_ERROR_INVALID_HANDLE;
	// A driver lets the work end later; nobody could see the difference.
	CUresult r = drain(s);
	s->context->streams.erase(s);
	delete s;
	return r;
}
CUresult cuStreamSynchronize(CUstream stream) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	if (s->capture) {
		s->invalid = true;
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	return drain(s);
}
CUresult cuStreamQuery(CUstream stream) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	if (s->capture) {
		s->invalid = true;
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	if (s->queue.empty()) return CUDA_SUCCESS;
	step();
	return c->sticky ? c->sticky : CUDA_ERROR_NOT_READY;
}
CUresult cuStreamGetFlags(CUstream stream, unsigned *flags) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	*flags = s->blocking ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING;
	return CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	EVENT(e, event);
	if (s->capture) {
		// Within the capture of one stream the order is kept anyway; more than one is not emulated.
		if (e->captured) return CUDA_SUCCESS;
		s->invalid = true;
		return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
	}
	if (e->captured) return CUDA_ERROR_CAPTURED_EVENT;
	if (!e->last || e->last->reached) return CUDA_SUCCESS;
	return enqueue(c, stream, Command{nullptr, e->last});
}

CUresult cuEventCreate(CUevent *e, unsigned flags) {
	ENTER_CONTEXT;
	Event *n = new Event{c, !(flags & CU_EVENT_DISABLE_TIMING), nullptr};
	c->events.insert(n);
	*e = (CUevent)n;
	return CUDA_SUCCESS;
}
CUresult cuEventDestroy_v2(CUevent event) {
	ENTER_CONTEXT;
	EVENT(e, event);
	e->context->events.erase(e);
	delete e;
	return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	EVENT(e, event);
	if (e->context != s->context) return CUDA_ERROR_INVALID_HANDLE;
	e->captured = s->capture != nullptr;
	if (e->captured) return CUDA_SUCCESS;
	e->last = std::make_shared<Mark>();
	return enqueue(c, stream, Command{nullptr, nullptr, e->last});
}
CUresult cuEventSynchronize(CUevent event) {
	ENTER_CONTEXT;
	EVENT(e, event);
	if (e->captured) return CUDA_ERROR_CAPTURED_EVENT;
	MarkOf m = e->last;
	while (m && !m->reached) {
		bool ran = false;
		all_streams([&](Stream *s) {
			if (!m->reached) ran = one(s) || ran;
		});
		if (!ran) return stuck(c);
	}
	return c->sticky;
}
CUresult cuEventQuery(CUevent event) {
	ENTER_CONTEXT;
	SAFE;
	EVENT(e, event);
	if (e->captured) return CUDA_ERROR_CAPTURED_EVENT;
	if (!e->last || e->last->reached) return CUDA_SUCCESS;
	step();
	return c->sticky ? c->sticky : CUDA_ERROR_NOT_READY;
}
CUresult cuEventElapsedTime(float *ms, CUevent first, CUevent second) {
	ENTER_CONTEXT;
	EVENT(a, first);
	EVENT(b, second);
	if (!a->timed || !b->timed || !a->last || !b->last) return CUDA_ERROR_INVALID_HANDLE;
	if (!a->last->reached || !b->last->reached) return CUDA_ERROR_NOT_READY;
	timespec from = a->last->when, to = b->last->when;
	*ms = (to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) * 1e-6;
	return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	if (!stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (s->capture) return CUDA_ERROR_ILLEGAL_STATE;
	s->capture.reset(new Graph{s->context, {}});
	s->invalid = false;
	s->mode = mode;
	s->by = std::this_thread::get_id();
	return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *to) {
	ENTER_CONTEXT;
	STREAM(s, stream);
	*to = nullptr;
	if (!s->capture) return CUDA_ERROR_ILLEGAL_STATE;
	if (s->mode != CU_STREAM_CAPTURE_MODE_RELAXED && s->by != std::this_thread::get_id()) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	std::unique_ptr<Graph> g = std::move(s->capture);
	if (s->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	s->context->graphs.insert(g.get());
	*to = (CUgraph)g.release();
	return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *to, CUgraph graph, unsigned long long) {
	ENTER_CONTEXT;
	GRAPH(g, graph);
	Graph *n = new Graph(*g);
	g->context->executables.insert(n);
	*to = (CUgraphExec)n;
	return CUDA_SUCCESS;
}
CUresult cuGraphExecUpdate(CUgraphExec executable, CUgraph graph, CUgraphNode *node, CUgraphExecUpdateResult *result) {
	ENTER_CONTEXT;
	GRAPH(to, executable);
	GRAPH(from, graph);
	*node = nullptr;
	bool same = to->commands.size() == from->commands.size();
	for (size_t i = 0; same && i < to->commands.size(); i++) same = to->commands[i].shape == from->commands[i].shape;
	*result = same ? CU_GRAPH_EXEC_UPDATE_SUCCESS : CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
	if (!same) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
	to->commands = from->commands;
	return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
	ENTER_CONTEXT;
	GRAPH(g, executable);
	for (const Command &command : g->commands)
		if (CUresult r = enqueue(c, stream, command)) return r;
	return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
	ENTER_CONTEXT;
	GRAPH(g, executable);
	g->context->executables.erase(g);
	delete g;
	return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
	ENTER_CONTEXT;
	GRAPH(g, graph);
	g->context->graphs.erase(g);
	delete g;
	return CUDA_SUCCESS;
}
}
