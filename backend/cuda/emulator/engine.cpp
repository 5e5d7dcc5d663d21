// Runs kernels on the processor, block by block, with a fibre for each thread, to show what
// does not need a GPU: indices, barriers, the layout of fragments, the order of sums.
//
// Threads of a block run one after another, each until it waits: at a barrier for the
// block, at a shuffle or a product for its warp, which the last lane to arrive does for all.
// SIFT_EMULATOR_ORDER says in which order lanes, warps and blocks go: forward, reversed or
// shuffled (by SIFT_EMULATOR_SEED); a missing barrier gives other results in another order.
// SIFT_EMULATOR_THREADS host threads, one for each processor if unset, take blocks.
//
// Errors, which end the launch: threads that wait for others which have ended or wait
// elsewhere, addresses that belong to nothing, misaligned vectors, too much shared memory.
// Shared memory is full of NaN before each block, and an asynchronous copy is made only
// when it is waited for.
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
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

thread_local Place *where;
std::string (*describe)(const void *);

static std::map<std::string, Kernel> &kernels() {
	static std::map<std::string, Kernel> all;
	return all;
}

void add(const char *name, void (*run)(const void *), size_t bytes, u32 threads) {
	if (!kernels().emplace(name, Kernel{name, run, bytes, threads}).second) {
		fprintf(stderr, "emulator: two kernels are called %s\n", name);
		abort();
	}
}

const Kernel *find(const std::string &name) {
	auto k = kernels().find(name);
	return k == kernels().end() ? nullptr : &k->second;
}

// switch_stack saves the registers that a call must keep, leaves the stack pointer in *save and
// goes on where `to` left off. It jumps instead of returning: lanes that all go on at one
// place are then predicted.
extern "C" void emulator_switch_stack(void **save, void *to);
#if defined(__x86_64__)
asm(R"(
.text
.hidden emulator_switch_stack
.globl emulator_switch_stack
.type emulator_switch_stack, @function
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
	pop %rcx
	jmp *%rcx
.size emulator_switch_stack, .-emulator_switch_stack
)");

// new_stack prepares a stack, whose end is aligned to 16, on which `first` begins.
static void *new_stack(void *end, void (*first)()) {
	u64 *top = (u64 *)end;
	*--top = 0; // where `first` would return to
	*--top = (u64)first;
	top -= 6;
	memset(top, 0, 48);
	return top;
}
#elif defined(__aarch64__)
asm(R"(
.text
.hidden emulator_switch_stack
.globl emulator_switch_stack
.type emulator_switch_stack, %function
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
	br x30
.size emulator_switch_stack, .-emulator_switch_stack
)");

static void *new_stack(void *end, void (*first)()) {
	u64 *top = (u64 *)end - 20;
	memset(top, 0, 160);
	top[11] = (u64)first; // x30
	return top;
}
#else
// Elsewhere by ucontext: a stack "pointer" is then the address of a context.
extern "C" void emulator_switch_stack(void **save, void *to) {
	ucontext_t mine;
	*save = &mine;
	swapcontext(&mine, (ucontext_t *)to);
}

static void *new_stack(void *end, void (*first)()) {
	ucontext_t *c = (ucontext_t *)(((uintptr_t)end - sizeof *c) & ~(uintptr_t)63);
	getcontext(c);
	c->uc_stack.ss_size = 48 << 10;
	c->uc_stack.ss_sp = (char *)c - c->uc_stack.ss_size;
	c->uc_link = nullptr;
	makecontext(c, first, 0);
	return c;
}
#endif

enum State : u32 { READY, AT_BARRIER, AT_WARP, ENDED };

struct Copy {
	void *to;
	const void *from;
	u32 bytes;
};

#ifdef __SANITIZE_ADDRESS__
const size_t stackBytes = 512 << 10; // the checker's frames are large
#else
const size_t stackBytes = 64 << 10;
#endif
const size_t pageBytes = 64 << 10; // a multiple of any processor's page
const size_t staticBytes = 48 << 10, sharedBytes = 163 << 10; // what sm_80 has for static variables and for all
const u32 mostThreads = 1024;

struct Fibre {
	Place place; // first: `where` is a fibre's address
	State state;
	char *stack = nullptr; // lowest usable address; an inaccessible page lies below
	void *at = nullptr;    // saved stack pointer
	Operands *operands;
	std::vector<Copy> copies;   // asked for, oldest first
	std::vector<size_t> groups; // how many copies each closed group has
	size_t closed;              // copies that are in a group
#ifdef __SANITIZE_ADDRESS__
	void *fake = nullptr;
#endif
};

// Variable is a SHARED variable of the running block.
struct Variable {
	const void *key;
	size_t at;
};

enum How { FORWARD, REVERSED, SHUFFLED };

// Worker runs blocks, on a thread of its own or on the caller's.
struct Worker {
	Fibre fibres[mostThreads];
	Fibre scheduler;
	u32 warp = 0, position = 0, arrived = 0; // of the running warp: its first thread, lanes begun, lanes at a warp-wide operation
	u32 lanes[32], warps[mostThreads / 32];  // in what order they go
	unsigned char *memory = nullptr, *shared = nullptr, *dynamic = nullptr;
	std::vector<Variable> variables;
	size_t used = 0, given = 0; // bytes of static and of dynamic shared memory
	const Kernel *kernel = nullptr;
	const void *params = nullptr;
	How how = FORWARD;
	u64 random = 1;
	volatile bool inside = false; // a kernel's code is running
	Outcome outcome = FINE;
	std::string fault;

	Worker();
	~Worker();
	Fibre *running() { return (Fibre *)where; }
	void prepare(u32 threads);
	bool block(u32 x, u32 y, u32 z, u32 grid, u32 threads);
	void go(Fibre *from, Fibre *to, bool last);
	void wait(Fibre *f, State s);
	void stop(Outcome o, const char *what);
	bool together(Fibre *f);
	void arrange(u32 *list, u32 n);
	void diverged();
};

static thread_local Worker *worker __attribute__((tls_model("initial-exec")));

static void broken(Worker *w, Outcome o, const Place &p, const char *what) {
	char text[512];
	snprintf(text, sizeof text, "kernel %s, block %u,%u,%u, thread %u: %s", w->kernel->name.c_str(), p.x, p.y, p.z, p.thread, what);
	w->fault = text;
	w->outcome = o;
}

Worker::Worker() {
	// Dynamic memory ends where an inaccessible page begins; all before it is accessible.
	size_t all = 8 * pageBytes;
	memory = (unsigned char *)mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory, pageBytes, PROT_NONE) || mprotect(memory + all - pageBytes, pageBytes, PROT_NONE)) abort();
	shared = memory + pageBytes;
	scheduler.place = Place{};
	stack_t now = {};
	if (sigaltstack(nullptr, &now) == 0 && now.ss_flags & SS_DISABLE) {
		// A thread that overflows its fibre's stack needs another one to say so.
		stack_t other = {};
		other.ss_size = 64 << 10;
		other.ss_sp = malloc(other.ss_size);
		sigaltstack(&other, nullptr);
	}
}

Worker::~Worker() {
	for (Fibre &f : fibres)
		if (f.stack) munmap(f.stack - pageBytes, stackBytes + pageBytes);
	munmap(memory, 8 * pageBytes);
}

// first is where a fibre begins.
static void first() {
	Worker *w = worker;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
	w->kernel->run(w->params);
	w = worker;
	w->wait(w->running(), ENDED);
	abort(); // an ended fibre is not resumed
}

static char *end_of(Fibre *f, u32 i) {
	// Stacks begin at different sets of the cache.
	return f->stack + stackBytes - 128 * (i % 32);
}

void Worker::prepare(u32 threads) {
	for (u32 i = 0; i < threads; i++) {
		Fibre &f = fibres[i];
		if (!f.stack) {
			char *all = (char *)mmap(nullptr, stackBytes + pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			if (all == MAP_FAILED || mprotect(all, pageBytes, PROT_NONE)) {
				fprintf(stderr, "emulator: no memory for stacks\n");
				abort();
			}
			f.stack = all + pageBytes;
		}
#ifdef __SANITIZE_ADDRESS__
		ASAN_UNPOISON_MEMORY_REGION(f.stack, stackBytes); // a fibre that an error ended leaves its frames
		f.fake = nullptr;
#endif
		f.at = new_stack(end_of(&f, i), first);
		f.state = READY;
		f.copies.clear();
		f.groups.clear();
		f.closed = 0;
	}
}

// go leaves one fibre for another; last if the first one is never resumed.
inline void Worker::go(Fibre *from, Fibre *to, bool last) {
	where = &to->place;
#ifdef __SANITIZE_ADDRESS__
	static thread_local const void *home;
	static thread_local size_t homeBytes;
	if (to == &scheduler) __sanitizer_start_switch_fiber(last ? nullptr : &from->fake, home, homeBytes);
	else __sanitizer_start_switch_fiber(last ? nullptr : &from->fake, to->stack, stackBytes);
	bool first = from == &scheduler;
	if (first && !home) {
		pthread_attr_t a;
		void *at;
		pthread_getattr_np(pthread_self(), &a);
		pthread_attr_getstack(&a, &at, &homeBytes);
		pthread_attr_destroy(&a);
		home = at;
	}
#else
	(void)last;
#endif
	emulator_switch_stack(&from->at, to->at);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}

// wait ends or suspends a fibre and goes on with the next lane; the last one does what the
// warp has met for.
void Worker::wait(Fibre *f, State s) {
	f->state = s;
	if (++position < 32) {
		go(f, &fibres[warp + lanes[position]], s == ENDED);
	} else if (arrived == 32 && together(f)) {
		arrived = 0;
		for (u32 l = 0; l < 32; l++) fibres[warp + l].state = READY;
		arrange(lanes, 32);
		position = 0;
		Fibre *to = &fibres[warp + lanes[0]];
		if (to != f) go(f, to, false);
	} else {
		go(f, &scheduler, s == ENDED);
	}
}

// stop ends the launch with an error of the running thread.
void Worker::stop(Outcome o, const char *what) {
	Fibre *f = running();
	broken(this, o, f->place, what);
	f->state = ENDED;
	go(f, &scheduler, true);
	abort();
}

// arrange fills list with 0 .. n-1 in the order asked for.
void Worker::arrange(u32 *list, u32 n) {
	for (u32 i = 0; i < n; i++) list[i] = how == REVERSED ? n - 1 - i : i;
	if (how != SHUFFLED) return;
	for (u32 i = n; i > 1; i--) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		std::swap(list[i - 1], list[(random >> 33) % i]);
	}
}

static const char *kinds[] = {"warp_barrier", "shuffle_xor", "shuffle", "load_matrices", "load_matrices_transposed", "mma"};

// diverged says which lanes of the running warp do not meet the others.
void Worker::diverged() {
	Fibre *waits = nullptr, *other = nullptr;
	for (u32 l = 0; l < 32; l++) {
		Fibre *f = &fibres[warp + l];
		if (f->state == AT_WARP) waits = waits ? waits : f;
	}
	for (u32 l = 0; l < 32; l++) {
		Fibre *f = &fibres[warp + l];
		if (f->state != AT_WARP || f->operands->kind != waits->operands->kind) other = other ? other : f;
	}
	char text[256];
	snprintf(text, sizeof text, "divergent: it waits for its warp at %s, but thread %u %s%s", kinds[waits->operands->kind], other->place.thread,
		other->state == ENDED ? "has ended" : other->state == AT_BARRIER ? "waits at barrier" : "waits at ",
		other->state == AT_WARP ? kinds[other->operands->kind] : "");
	broken(this, FAILED, waits->place, text);
}

typedef f32 F8 __attribute__((vector_size(32)));

// multiply is mma by the layout of fragments that PTX gives for m16n8k16: lane 4g + t holds of A,
// in its four words, rows g and g+8 at columns 2t and 2t+1, then the same at columns 2t+8 and
// 2t+9; of B rows 2t, 2t+1 and 2t+8, 2t+9 at column g; of D rows g and g+8 at columns 2t and 2t+1.
static void multiply(Operands **o) {
	alignas(32) f32 a[16][16], b[16][8], d[16][8];
	for (u32 l = 0; l < 32; l++) {
		u32 g = l / 4, t = 2 * (l % 4);
		const u32 *x = o[l]->a, *y = o[l]->b;
		const f32 *z = o[l]->d;
		auto two = [](f32 *p, u32 step, u32 word) {
			p[0] = __builtin_bit_cast(f32, word << 16);
			p[step] = __builtin_bit_cast(f32, word & 0xffff0000u);
		};
		two(&a[g][t], 1, x[0]);
		two(&a[g + 8][t], 1, x[1]);
		two(&a[g][t + 8], 1, x[2]);
		two(&a[g + 8][t + 8], 1, x[3]);
		two(&b[t][g], 8, y[0]);
		two(&b[t + 8][g], 8, y[1]);
		d[g][t] = z[0], d[g][t + 1] = z[1], d[g + 8][t] = z[2], d[g + 8][t + 1] = z[3];
	}
	for (u32 half = 0; half < 16; half += 8) {
		F8 sum[8];
#pragma GCC unroll 8
		for (u32 i = 0; i < 8; i++) sum[i] = *(F8 *)d[half + i];
		for (u32 k = 0; k < 16; k++) {
			F8 row = *(F8 *)b[k];
#pragma GCC unroll 8
			for (u32 i = 0; i < 8; i++) sum[i] += a[half + i][k] * row;
		}
#pragma GCC unroll 8
		for (u32 i = 0; i < 8; i++) *(F8 *)d[half + i] = sum[i];
	}
	for (u32 l = 0; l < 32; l++) {
		u32 g = l / 4, t = 2 * (l % 4);
		f32 *z = o[l]->d;
		z[0] = d[g][t], z[1] = d[g][t + 1], z[2] = d[g + 8][t], z[3] = d[g + 8][t + 1];
	}
}

// together does what the 32 lanes have arrived at; false if that is not one thing.
bool Worker::together(Fibre *) {
	Operands *o[32];
	u32 differ = 0;
	for (u32 l = 0; l < 32; l++) {
		o[l] = fibres[warp + l].operands;
		differ |= o[l]->kind ^ o[0]->kind;
	}
	if (differ) return false;
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
		for (u32 l = 0; l < 32; l++)
			for (u32 i = 0; i < 4; i++) o[l]->r[i] = ((const u32 *)o[8 * i + l / 4]->row)[l % 4];
		break;
	case LOAD_TRANSPOSED:
		for (u32 i = 0; i < 4; i++) {
			const u16 *row[8];
			for (u32 r = 0; r < 8; r++) row[r] = (const u16 *)o[8 * i + r]->row;
			for (u32 l = 0; l < 32; l++) o[l]->r[i] = row[2 * (l % 4)][l / 4] | (u32)row[2 * (l % 4) + 1][l / 4] << 16;
		}
		break;
	case MMA:
		multiply(o);
		break;
	}
	return true;
}

bool Worker::block(u32 x, u32 y, u32 z, u32 grid, u32 threads) {
	prepare(threads);
	for (u32 i = 0; i < threads; i++) fibres[i].place = Place{i, x, y, z, grid};
	size_t room = (given + 15) & ~(size_t)15;
	dynamic = memory + 7 * pageBytes - room;
#ifdef __SANITIZE_ADDRESS__
	ASAN_UNPOISON_MEMORY_REGION(shared, 6 * pageBytes);
#endif
	memset(shared, 0xff, staticBytes);
	memset(dynamic, 0xff, room);
#ifdef __SANITIZE_ADDRESS__
	// What no variable holds is out of bounds.
	ASAN_POISON_MEMORY_REGION(shared, 6 * pageBytes);
	ASAN_UNPOISON_MEMORY_REGION(dynamic, given);
#endif
	variables.clear();
	used = 0;
	for (;;) {
		arrange(warps, threads / 32);
		for (u32 w = 0; w < threads / 32; w++) {
			warp = 32 * warps[w];
			arrange(lanes, 32);
			position = arrived = 0;
			inside = true;
			go(&scheduler, &fibres[warp + lanes[0]], false);
			inside = false;
			if (!fault.empty()) return false;
			if (arrived) {
				diverged();
				return false;
			}
		}
		Fibre *ended = nullptr, *waits = nullptr;
		for (u32 i = 0; i < threads; i++) (fibres[i].state == ENDED ? ended : waits) = &fibres[i];
		if (!waits) return true;
		if (ended) {
			char text[128];
			snprintf(text, sizeof text, "divergent: it waits at barrier, but thread %u has ended", ended->place.thread);
			broken(this, FAILED, waits->place, text);
			return false;
		}
		for (u32 i = 0; i < threads; i++) fibres[i].state = READY;
	}
}

void *shared_memory(const void *key, size_t bytes, size_t align) {
	Worker *w = worker;
	for (Variable &v : w->variables)
		if (v.key == key) return w->shared + v.at;
	if (align < 16) align = 16;
	size_t at = (w->used + align - 1) & ~(align - 1);
	if (at + bytes > staticBytes) w->stop(FAILED, "its static shared memory exceeds 48 KiB");
	if (at + bytes + w->given > sharedBytes) w->stop(FAILED, "its static and dynamic shared memory exceed 163 KiB");
	w->used = at + bytes;
	w->variables.push_back(Variable{key, at});
#ifdef __SANITIZE_ADDRESS__
	w->used += 16; // out of bounds
	ASAN_UNPOISON_MEMORY_REGION(w->shared + at, bytes);
#endif
	return w->shared + at;
}

void *dynamic_memory(size_t bytes) {
	Worker *w = worker;
	if (bytes > w->given) {
		char text[128];
		snprintf(text, sizeof text, "it needs %zu bytes of dynamic shared memory and its launch gives %zu", bytes, w->given);
		w->stop(FAILED, text);
	}
	return w->dynamic;
}

// in_shared reports whether 16 bytes lie in what the block has of shared memory.
static bool in_shared(Worker *w, const void *p) {
	const unsigned char *c = (const unsigned char *)p;
	return (c >= w->shared && c + 16 <= w->shared + w->used) || (c >= w->dynamic && c + 16 <= w->dynamic + w->given);
}

void block_barrier() {
	Worker *w = worker;
	w->wait(w->running(), AT_BARRIER);
}

void warp_together(Operands *o) {
	Worker *w = worker;
	if (o->kind == LOAD || o->kind == LOAD_TRANSPOSED) {
		if ((uintptr_t)o->row & 15) w->stop(MISALIGNED, "a row of load_matrices is not aligned to 16 bytes");
		if (!in_shared(w, o->row)) w->stop(BAD_ADDRESS, "a row of load_matrices is outside shared memory");
	}
	Fibre *f = w->running();
	f->operands = o;
	w->arrived++;
	w->wait(f, AT_WARP);
}

void copy_later(void *to, const void *from, u32 bytes) {
	Worker *w = worker;
	if (((uintptr_t)to | (uintptr_t)from) & 15) w->stop(MISALIGNED, "an address of copy16 is not aligned to 16 bytes");
	if (bytes > 16) w->stop(FAILED, "copy16 of more than 16 bytes");
	if (!in_shared(w, to)) w->stop(BAD_ADDRESS, "copy16 to outside shared memory");
	if (bytes && in_shared(w, from)) w->stop(BAD_ADDRESS, "copy16 from shared memory");
	// Touched now, so that a bad address is found where it is given.
	for (u32 i = 0; i < bytes; i++) (void)((const volatile char *)from)[i];
	w->running()->copies.push_back(Copy{to, from, bytes});
}

void close_group() {
	Fibre *f = worker->running();
	f->groups.push_back(f->copies.size() - f->closed);
	f->closed = f->copies.size();
}

void wait_groups(int most) {
	Fibre *f = worker->running();
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

// A kernel that touches what is no memory ends as on a GPU, with an error of the launch: the
// signal makes the fibre go on in `touched`, on its own stack begun anew.
struct Touch {
	const void *address;
	bool misaligned;
};
static thread_local Touch touch __attribute__((tls_model("initial-exec")));

extern "C" __attribute__((visibility("hidden"), noreturn)) void emulator_touched() {
	Worker *w = worker;
	Fibre *f = w->running();
	std::string text;
	if (touch.misaligned) {
		text = "a misaligned vector";
	} else if ((const char *)touch.address >= f->stack - pageBytes && (const char *)touch.address < f->stack) {
		text = "it overflows the stack that the emulator gives a thread";
	} else if ((const unsigned char *)touch.address >= w->memory && (const unsigned char *)touch.address < w->memory + 8 * pageBytes) {
		text = "an address outside shared memory";
	} else {
		char at[32];
		snprintf(at, sizeof at, "%p", touch.address);
		text = std::string("an illegal address, ") + at;
		if (describe) text += describe(touch.address);
	}
	w->stop(touch.misaligned ? MISALIGNED : BAD_ADDRESS, text.c_str());
	abort();
}

// Kernels are compiled so that an access whose address is no multiple of its type's alignment
// calls this: what follows is fixed by the compiler.
struct Access {
	const char *file;
	u32 line, column;
};
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(const Access *a, const void *) {
	const char *name = strrchr(a->file, '/');
	char text[256];
	snprintf(text, sizeof text, "a misaligned address, %s:%u", name ? name + 1 : a->file, a->line);
	worker->stop(MISALIGNED, text);
}

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(__SANITIZE_ADDRESS__)
static struct sigaction previous;

static void handler(int number, siginfo_t *info, void *context) {
	Worker *w = worker;
	if (w && w->inside && where != &w->scheduler.place) {
		ucontext_t *c = (ucontext_t *)context;
		Fibre *f = w->running();
		touch.address = info->si_addr;
		touch.misaligned = number == SIGBUS;
		uintptr_t end = (uintptr_t)end_of(f, f->place.thread) & ~(uintptr_t)15;
#if defined(__x86_64__)
		touch.misaligned = touch.misaligned || info->si_code == SI_KERNEL; // a general protection fault, which has no address
		c->uc_mcontext.gregs[REG_RSP] = (greg_t)(end - 8);
		c->uc_mcontext.gregs[REG_RIP] = (greg_t)&emulator_touched;
#else
		c->uc_mcontext.sp = end;
		c->uc_mcontext.pc = (u64)&emulator_touched;
#endif
		return;
	}
	// Somebody else's fault.
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(number, info, context);
	} else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
		signal(number, SIG_DFL);
	} else {
		previous.sa_handler(number);
	}
}

static void watch() {
	struct sigaction a = {};
	a.sa_sigaction = handler;
	a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	sigfillset(&a.sa_mask);
	sigaction(SIGSEGV, &a, &previous);
}
#else
static void watch() {}
#endif

// Job is a launch that several workers take blocks of.
struct Job {
	const Kernel *kernel;
	const void *params;
	u32 x, y, z, threads;
	size_t dynamic;
	How how;
	u64 seed, step; // of the order of blocks
	u64 next, blocks;
	int working;
	Outcome outcome;
	std::string fault;
};

// Never destroyed: helpers wait while the program ends.
static std::mutex &lock = *new std::mutex;
static std::condition_variable &changed = *new std::condition_variable;
static Job *job;

static void take_blocks(Job *j) {
	static thread_local std::unique_ptr<Worker> mine(new Worker);
	Worker *w = worker = mine.get();
	w->kernel = j->kernel;
	w->params = j->params;
	w->given = j->dynamic;
	w->how = j->how;
	w->fault.clear();
	Place *outer = where;
	where = &w->scheduler.place;
	std::unique_lock<std::mutex> held(lock);
	while (j->next < j->blocks) {
		u64 n = j->next++;
		held.unlock();
		if (j->how == REVERSED) n = j->blocks - 1 - n;
		if (j->how == SHUFFLED) n = (u64)((unsigned __int128)n * j->step + j->seed) % j->blocks;
		w->random = (n + 1) * 2 + j->seed;
		bool ok = w->block(n % j->x, n / j->x % j->y, n / j->x / j->y, j->x, j->threads);
		held.lock();
		if (!ok && j->fault.empty()) {
			j->fault = w->fault;
			j->outcome = w->outcome;
			j->next = j->blocks;
		}
	}
	where = outer;
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

static u64 gcd(u64 a, u64 b) { return b ? gcd(b, a % b) : a; }

bool launch(const Kernel &k, u32 x, u32 y, u32 z, u32 threads, size_t dynamic, const void *params, Outcome *outcome) {
	static const bool helped = [] {
		watch();
		const char *given = getenv("SIFT_EMULATOR_THREADS");
		int n = given && *given ? atoi(given) : (int)std::thread::hardware_concurrency();
		for (int i = 1; i < n; i++) std::thread(helper).detach();
		return n > 1;
	}();
	Outcome o;
	if (!outcome) outcome = &o;
	*outcome = REFUSED;
	if (threads == 0 || threads % 32 || threads > k.threads || threads > mostThreads || dynamic > sharedBytes) {
		fprintf(stderr, "emulator: kernel %s with %u threads and %zu bytes of shared memory; it is made for multiples of 32 up to %u\n", k.name.c_str(),
			threads, dynamic, k.threads);
		return false;
	}
	const char *order = getenv("SIFT_EMULATOR_ORDER"), *seed = getenv("SIFT_EMULATOR_SEED");
	std::string how = order && *order ? order : "forward";
	if (how != "forward" && how != "reversed" && how != "shuffled") {
		fprintf(stderr, "emulator: SIFT_EMULATOR_ORDER is %s; there are forward, reversed and shuffled\n", order);
		return false;
	}
	Job j{&k, params, x, y, z, threads, dynamic, how == "reversed" ? REVERSED : how == "shuffled" ? SHUFFLED : FORWARD,
		seed && *seed ? strtoull(seed, nullptr, 10) : 1, 1, 0, (u64)x * y * z, 0, FINE, ""};
	// Shuffled blocks go in steps that have no divisor in common with their number.
	j.step = j.seed * 2654435761u + j.blocks * 618 / 1000;
	while (j.blocks && gcd(j.step, j.blocks) != 1) j.step++;
	if (helped && j.blocks > 1) {
		std::lock_guard<std::mutex> held(lock);
		job = &j;
		changed.notify_all();
	}
	take_blocks(&j);
	std::unique_lock<std::mutex> held(lock);
	changed.wait(held, [&] { return j.working == 0; });
	if (job == &j) job = nullptr;
	*outcome = j.outcome;
	if (j.fault.empty()) return true;
	fprintf(stderr, "emulator: %s\n", j.fault.c_str());
	return false;
}

}
