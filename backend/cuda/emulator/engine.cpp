// Runs kernels on the processor, block by block, with a fibre for each thread, to show what
// does not need a GPU: indices, barriers, the layout of fragments, the order of sums.
//
// Threads of a block run one after another, each until it waits: at a barrier for the
// block, at a shuffle or a product for its warp. SIFT_EMULATOR_ORDER says in which order:
// forward, reversed or shuffled; a missing barrier gives other results in another order.
// Errors, which end the launch: threads that wait for others that have ended or wait
// elsewhere, misaligned vector copies, too much shared memory. Shared memory is full of NaN
// before each block, and an asynchronous copy is made only when it is waited for.
//
// What this cannot show: how a GPU orders memory between threads without barriers, limits
// of registers, timing, and the last bits of exp2_fast and of sums inside mma.
#include "engine.h"
#include "device.h"
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

thread_local Place *where;

static std::map<std::string, Kernel> &kernels() {
	static std::map<std::string, Kernel> all;
	return all;
}

void add(const char *name, void (*run)(const void *), size_t bytes, u32 threads) { kernels()[name] = Kernel{name, run, bytes, threads}; }

const Kernel *find(const std::string &name) {
	auto k = kernels().find(name);
	return k == kernels().end() ? nullptr : &k->second;
}

// switch_stack saves the registers that a call must keep, leaves the stack pointer in *save and
// goes on where `to` left off.
extern "C" void emulator_switch_stack(void **save, void *to);
#if defined(__x86_64__)
asm(R"(
.text
.hidden emulator_switch_stack
.globl emulator_switch_stack
emulator_switch_stack:
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret
)");
static const int savedWords = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.hidden emulator_switch_stack
.globl emulator_switch_stack
emulator_switch_stack:
	sub sp, sp, #160
	stp x19, x20, [sp]
	stp x21, x22, [sp, #16]
	stp x23, x24, [sp, #32]
	stp x25, x26, [sp, #48]
	stp x27, x28, [sp, #64]
	stp x29, x30, [sp, #80]
	stp d8, d9, [sp, #96]
	stp d10, d11, [sp, #112]
	stp d12, d13, [sp, #128]
	stp d14, d15, [sp, #144]
	mov x2, sp
	str x2, [x0]
	mov sp, x1
	ldp x19, x20, [sp]
	ldp x21, x22, [sp, #16]
	ldp x23, x24, [sp, #32]
	ldp x25, x26, [sp, #48]
	ldp x27, x28, [sp, #64]
	ldp x29, x30, [sp, #80]
	ldp d8, d9, [sp, #96]
	ldp d10, d11, [sp, #112]
	ldp d12, d13, [sp, #128]
	ldp d14, d15, [sp, #144]
	add sp, sp, #160
	ret
)");
#else
#error "the emulator knows how to switch stacks on x86-64 and arm64 only"
#endif

enum State { READY, AT_BARRIER, AT_WARP, ENDED };

struct Copy {
	void *to;
	const void *from;
	u32 bytes;
};

const size_t stackBytes = 128 << 10;
const u64 canary = 0x5ca1ab1e0ddba11;
const size_t staticBytes = 48 << 10;

struct Fibre {
	Place place;
	State state;
	void *stack = nullptr; // lowest address
	void *at = nullptr;    // saved stack pointer
	Operands *operands;
	std::vector<Copy> copies; // asked for, oldest first
	std::vector<size_t> groups; // how many copies each closed group has
	size_t closed;            // copies that are in a group
#ifdef __SANITIZE_ADDRESS__
	void *fake = nullptr;
#endif
};

// Variable is a SHARED variable of the running block.
struct Variable {
	const void *key;
	size_t at, bytes;
};

// Worker runs blocks, on a thread of its own or on the caller's.
struct Worker {
	std::vector<Fibre> fibres;
	std::vector<unsigned char> memory; // static, then dynamic shared memory, 16-byte aligned
	unsigned char *shared = nullptr;
	std::vector<Variable> variables;
	size_t used = 0, dynamic = 0;
	void *scheduler = nullptr;
	Fibre *running = nullptr;
	const Kernel *kernel = nullptr;
	const void *params = nullptr;
	u64 random = 1;
	std::string fault;
	std::vector<u32> order, lanes;
#ifdef __SANITIZE_ADDRESS__
	const void *home = nullptr;
	size_t homeBytes = 0;
	void *fake = nullptr;
#endif

	~Worker() {
		for (Fibre &f : fibres)
			if (f.stack) munmap(f.stack, stackBytes);
	}
	void prepare(u32 threads);
	bool block(u32 x, u32 y, u32 z, u32 grid, u32 threads);
	bool warp(u32 first);
	bool together(u32 first);
	void resume(Fibre *f);
	void suspend(State s);
	void arrange(std::vector<u32> &list, u32 n);
	void broken(const char *what);
};

static thread_local Worker *worker __attribute__((tls_model("initial-exec")));

void Worker::broken(const char *what) {
	if (!fault.empty()) return;
	char text[256];
	Place p = running ? running->place : Place{};
	snprintf(text, sizeof text, "kernel %s, block %u,%u,%u, thread %u: %s", kernel->name.c_str(), p.x, p.y, p.z, p.thread, what);
	fault = text;
}

// first is where a fibre begins.
static void first() {
	Worker *w = worker;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(nullptr, &w->home, &w->homeBytes);
#endif
	w->kernel->run(w->params);
	worker->suspend(ENDED);
	abort(); // an ended fibre is not resumed
}

void Worker::prepare(u32 threads) {
	while (fibres.size() < threads) fibres.emplace_back();
	for (u32 i = 0; i < threads; i++) {
		Fibre &f = fibres[i];
		if (!f.stack) {
			f.stack = mmap(nullptr, stackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			if (f.stack == MAP_FAILED) abort();
			*(u64 *)f.stack = canary;
		}
		u64 *top = (u64 *)((char *)f.stack + stackBytes);
#if defined(__x86_64__)
		*--top = 0; // where the first function would return to; keeps the stack aligned as after a call
		*--top = (u64)&first;
		top -= savedWords;
		memset(top, 0, 8 * savedWords);
#else
		top -= 20;
		memset(top, 0, 160);
		top[11] = (u64)&first; // x30
#endif
		f.at = top;
		f.state = READY;
		f.copies.clear();
		f.groups.clear();
		f.closed = 0;
	}
}

void Worker::resume(Fibre *f) {
	running = f;
	where = &f->place;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(&fake, f->stack, stackBytes);
#endif
	emulator_switch_stack(&scheduler, f->at);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
	if (*(u64 *)f->stack != canary) {
		fprintf(stderr, "emulator: kernel %s overflows its stack of %zu bytes\n", kernel->name.c_str(), stackBytes);
		abort();
	}
}

void Worker::suspend(State s) {
	Fibre *f = running;
	f->state = s;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(s == ENDED ? nullptr : &f->fake, home, homeBytes);
#endif
	emulator_switch_stack(&f->at, scheduler);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(f->fake, &home, &homeBytes);
#endif
}

// arrange fills list with 0 .. n-1 in the order asked for.
void Worker::arrange(std::vector<u32> &list, u32 n) {
	static const char *given = getenv("SIFT_EMULATOR_ORDER");
	static const char how = given && *given ? *given : 'f';
	list.resize(n);
	for (u32 i = 0; i < n; i++) list[i] = how == 'r' ? n - 1 - i : i;
	if (how != 's') return;
	for (u32 i = n; i > 1; i--) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		std::swap(list[i - 1], list[(random >> 33) % i]);
	}
}

// warp runs a warp until all of its lanes wait at a barrier or have ended.
bool Worker::warp(u32 first) {
	for (;;) {
		arrange(lanes, 32);
		for (u32 l : lanes) {
			Fibre *f = &fibres[first + l];
			if (f->state == READY) resume(f);
			if (!fault.empty()) return false;
		}
		u32 waiting = 0;
		for (u32 l = 0; l < 32; l++) waiting += fibres[first + l].state == AT_WARP;
		if (waiting == 0) return true;
		if (waiting < 32) {
			broken("the lanes of its warp diverge at a warp-wide operation");
			return false;
		}
		if (!together(first)) return false;
		for (u32 l = 0; l < 32; l++) fibres[first + l].state = READY;
	}
}

// together does what the 32 lanes have arrived at.
bool Worker::together(u32 first) {
	Operands *o[32];
	for (u32 l = 0; l < 32; l++) {
		o[l] = fibres[first + l].operands;
		if (o[l]->kind != o[0]->kind) {
			broken("the lanes of its warp wait at different operations");
			return false;
		}
	}
	switch (o[0]->kind) {
	case SYNC:
		break;
	case SHUFFLE_XOR:
		for (u32 l = 0; l < 32; l++) o[l]->out = o[(l ^ o[l]->which) & 31]->in;
		break;
	case SHUFFLE:
		for (u32 l = 0; l < 32; l++) o[l]->out = o[o[l]->which & 31]->in;
		break;
	case LOAD:
	case LOAD_TRANSPOSED:
		for (u32 l = 0; l < 32; l++)
			if ((uintptr_t)o[l]->row & 15) {
				broken("a row of load_matrices is not aligned to 16 bytes");
				return false;
			}
		for (u32 l = 0; l < 32; l++)
			for (u32 i = 0; i < 4; i++) {
				if (o[0]->kind == LOAD) {
					memcpy(&o[l]->r[i], (const char *)o[8 * i + l / 4]->row + 4 * (l % 4), 4);
				} else {
					u16 two[2];
					for (u32 k = 0; k < 2; k++) memcpy(&two[k], (const char *)o[8 * i + 2 * (l % 4) + k]->row + 2 * (l / 4), 2);
					o[l]->r[i] = two[0] | (u32)two[1] << 16;
				}
			}
		break;
	case MMA: {
		// Lane l = 4 g + t holds of A, in its four words: rows g and g+8 at columns 2t, then the
		// same at 2t+8; of B: rows 2t and 2t+8 at column g; of D: rows g and g+8 at columns 2t.
		f32 a[16][16], b[16][8], d[16][8];
		for (u32 l = 0; l < 32; l++) {
			u32 g = l / 4, t = l % 4;
			for (u32 i = 0; i < 4; i++)
				for (u32 k = 0; k < 2; k++) a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + k] = __builtin_bit_cast(f32, o[l]->a[i] >> 16 * k << 16);
			for (u32 i = 0; i < 2; i++)
				for (u32 k = 0; k < 2; k++) b[2 * t + 8 * i + k][g] = __builtin_bit_cast(f32, o[l]->b[i] >> 16 * k << 16);
			for (u32 i = 0; i < 4; i++) d[g + 8 * (i >> 1)][2 * t + (i & 1)] = o[l]->d[i];
		}
		for (u32 i = 0; i < 16; i++)
			for (u32 k = 0; k < 16; k++)
				for (u32 j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
		for (u32 l = 0; l < 32; l++)
			for (u32 i = 0; i < 4; i++) o[l]->d[i] = d[l / 4 + 8 * (i >> 1)][2 * (l % 4) + (i & 1)];
		break;
	}
	}
	return true;
}

bool Worker::block(u32 x, u32 y, u32 z, u32 grid, u32 threads) {
	prepare(threads);
	for (u32 i = 0; i < threads; i++) fibres[i].place = Place{i, x, y, z, grid};
	memset(shared, 0xff, staticBytes + dynamic);
	variables.clear();
	used = 0;
	for (;;) {
		arrange(order, threads / 32);
		std::vector<u32> warps = order;
		for (u32 w : warps)
			if (!warp(32 * w)) return false;
		u32 ended = 0;
		for (u32 i = 0; i < threads; i++) ended += fibres[i].state == ENDED;
		if (ended == threads) return true;
		if (ended > 0) {
			broken("it waits at a barrier that other threads of its block never reach");
			return false;
		}
		for (u32 i = 0; i < threads; i++) fibres[i].state = READY;
	}
}

void *shared_memory(const void *key, size_t bytes) {
	Worker *w = worker;
	for (Variable &v : w->variables)
		if (v.key == key) return w->shared + v.at;
	size_t at = (w->used + 15) & ~(size_t)15;
	if (at + bytes > staticBytes) {
		w->broken("its static shared memory exceeds 48 KiB");
		w->suspend(ENDED);
	}
	w->used = at + bytes;
	w->variables.push_back(Variable{key, at, bytes});
	return w->shared + at;
}

void *dynamic_memory(size_t bytes) {
	Worker *w = worker;
	if (bytes > w->dynamic) {
		w->broken("it uses more dynamic shared memory than its launch gives");
		w->suspend(ENDED);
	}
	return w->shared + staticBytes;
}

void block_barrier() { worker->suspend(AT_BARRIER); }

void warp_together(Operands *o) {
	worker->running->operands = o;
	worker->suspend(AT_WARP);
}

void copy_later(void *to, const void *from, u32 bytes) {
	if (((uintptr_t)to | (uintptr_t)from) & 15 || bytes > 16) {
		worker->broken("copy16 with a misaligned address or more than 16 bytes");
		worker->suspend(ENDED);
	}
	worker->running->copies.push_back(Copy{to, from, bytes});
}

void close_group() {
	Fibre *f = worker->running;
	f->groups.push_back(f->copies.size() - f->closed);
	f->closed = f->copies.size();
}

void wait_groups(int most) {
	Fibre *f = worker->running;
	size_t done = 0, n = f->groups.size() > (size_t)most ? f->groups.size() - most : 0;
	for (size_t g = 0; g < n; g++)
		for (size_t i = 0; i < f->groups[g]; i++, done++) {
			Copy &c = f->copies[done];
			memcpy(c.to, c.from, c.bytes);
			memset((char *)c.to + c.bytes, 0, 16 - c.bytes);
		}
	f->groups.erase(f->groups.begin(), f->groups.begin() + n);
	f->copies.erase(f->copies.begin(), f->copies.begin() + done);
	f->closed -= done;
}

// Job is a launch that several workers take blocks of.
struct Job {
	const Kernel *kernel;
	const void *params;
	u32 x, y, z, threads;
	size_t dynamic;
	u64 next, blocks;
	int working;
	std::string fault;
};

static std::mutex lock;
static std::condition_variable changed;
static Job *job;

static void take_blocks(Job *j) {
	static thread_local Worker mine;
	worker = &mine;
	mine.kernel = j->kernel;
	mine.params = j->params;
	mine.dynamic = j->dynamic;
	mine.fault.clear();
	mine.running = nullptr;
	mine.memory.resize(staticBytes + j->dynamic + 128);
	mine.shared = (unsigned char *)(((uintptr_t)mine.memory.data() + 127) & ~(uintptr_t)127);
	std::vector<u32> order;
	std::unique_lock<std::mutex> held(lock);
	while (j->next < j->blocks && j->fault.empty()) {
		u64 n = j->next++;
		held.unlock();
		static const char *given = getenv("SIFT_EMULATOR_ORDER");
		if (given && *given == 'r') n = j->blocks - 1 - n;
		mine.random = n + 1;
		bool ok = mine.block(n % j->x, n / j->x % j->y, n / j->x / j->y, j->x, j->threads);
		held.lock();
		if (!ok && j->fault.empty()) j->fault = mine.fault;
	}
}

static void helper() {
	std::unique_lock<std::mutex> held(lock);
	for (;;) {
		changed.wait(held, [] { return job && job->next < job->blocks; });
		Job *j = job;
		j->working++;
		held.unlock();
		take_blocks(j);
		held.lock();
		j->working--;
		changed.notify_all();
	}
}

bool launch(const Kernel &k, u32 x, u32 y, u32 z, u32 threads, size_t dynamic, const void *params) {
	static const bool helped = [] {
		const char *given = getenv("SIFT_EMULATOR_THREADS");
		int n = given && *given ? atoi(given) : (int)std::thread::hardware_concurrency();
		for (int i = 1; i < n; i++) std::thread(helper).detach();
		return n > 1;
	}();
	if (threads == 0 || threads % 32 || threads > k.threads) {
		fprintf(stderr, "emulator: kernel %s: %u threads; it is made for multiples of 32 up to %u\n", k.name.c_str(), threads, k.threads);
		return false;
	}
	Job j{&k, params, x, y, z, threads, dynamic, 0, (u64)x * y * z, 0, ""};
	if (helped && j.blocks > 1) {
		std::lock_guard<std::mutex> held(lock);
		job = &j;
		changed.notify_all();
	}
	take_blocks(&j);
	std::unique_lock<std::mutex> held(lock);
	changed.wait(held, [&] { return j.working == 0; });
	if (job == &j) job = nullptr;
	if (j.fault.empty()) return true;
	fprintf(stderr, "emulator: %s\n", j.fault.c_str());
	return false;
}

}
