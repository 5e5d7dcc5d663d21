// Tests of the emulator itself: that what is right runs, in every order, and that each
// mistake is found. Without arguments it runs all tests; `selftest speed` measures;
// `selftest mistake N [n]` makes one mistake of kernels.cu with its parameter n.
#include "../engine.h"
#include "kernels.h"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vector>

using namespace emulator;

static int failures;

static void check(bool ok, const char *what) {
	if (ok) return;
	failures++;
	printf("FAIL %s\n", what);
}

static const char *orders[] = {"forward", "reversed", "shuffled"};

static bool run(const char *name, u32 x, u32 threads, const void *in, void *out, i32 n, i32 which, size_t dynamic = 0, Outcome *o = nullptr) {
	SelfParams p = {(u64)in, (u64)out, n, which};
	return launch(*find(name), x, 1, 1, threads, dynamic, &p, o);
}

static u32 state = 1;
static u32 next() { return state = state * 1664525u + 1013904223u; }
static f32 number() { return (i32)(next() >> 8) / (f32)(1 << 23) - 1; }
static u16 rounded(f32 x) { return (__builtin_bit_cast(u32, x) + 0x8000) >> 16; }
static f32 widened(u16 x) { return __builtin_bit_cast(f32, (u32)x << 16); }

// What is right gives the same in every order, with one host thread and with more.
static void orderFree() {
	std::vector<f32> in(5000);
	for (f32 &x : in) x = number();
	std::vector<f32> want;
	for (const char *order : orders) {
		setenv("SIFT_EMULATOR_ORDER", order, 1);
		std::vector<f32> out(9);
		check(run("self_sum", 9, 256, in.data(), out.data(), 5000, 0), "self_sum runs");
		if (want.empty()) want = out;
		check(memcmp(out.data(), want.data(), 36) == 0, "self_sum gives other bits in another order");
		std::vector<u32> turned(128), lanes(64);
		check(run("self_no_barrier", 2, 64, 0, turned.data(), 0, 1) && run("self_no_warp_barrier", 2, 32, 0, lanes.data(), 0, 1), "with barriers");
		for (u32 i = 0; i < 128; i++) check(turned[i] == 63 - i % 64, "with a barrier");
		for (u32 i = 0; i < 64; i++) check(lanes[i] == 31 - i % 32, "with a barrier of the warp");
		std::vector<u32> count(3 * 4 * 5 * 64);
		SelfParams p = {0, (u64)count.data(), 0, 4};
		check(launch(*find("self_place"), 5, 4, 3, 64, 0, &p), "self_place runs");
		for (u32 c : count) check(c == 1, "a thread is run once");
	}
}

// stderr_of returns what f writes to standard error.
template <class F> static std::string stderr_of(F f) {
	fflush(stderr);
	char name[] = "/tmp/selftestXXXXXX", text[2000] = {};
	int file = mkstemp(name), old = dup(2);
	unlink(name);
	dup2(file, 2);
	f();
	fflush(stderr);
	dup2(old, 2);
	close(old);
	ssize_t n = pread(file, text, sizeof text - 1, 0);
	close(file);
	return std::string(text, n > 0 ? n : 0);
}

// A missing barrier shows as other results in another order.
static void missingBarriers() {
	for (const char *kernel : {"self_no_barrier", "self_no_warp_barrier"}) {
		bool differ = false;
		std::vector<u32> one;
		for (const char *order : orders) {
			setenv("SIFT_EMULATOR_ORDER", order, 1);
			std::vector<u32> out(64);
			check(run(kernel, 1, kernel[8] == 'b' ? 64 : 32, 0, out.data(), 0, 0), "without a barrier");
			differ = differ || (!one.empty() && one != out);
			one = out;
		}
		check(differ, "a missing barrier does not show");
	}
	u32 last[3];
	for (int i = 0; i < 3; i++) {
		setenv("SIFT_EMULATOR_ORDER", orders[i], 1);
		run("self_blocks", 1000, 32, 0, &last[i], 0, 0);
	}
	check(last[0] > 900 && last[1] < 100, "blocks go in the order asked for");
	setenv("SIFT_EMULATOR_ORDER", "sideways", 1);
	std::string text = stderr_of([&] { check(!run("self_blocks", 1, 32, 0, last, 0, 0), "an order that there is not"); });
	check(text.find("there are forward, reversed and shuffled") != std::string::npos, "the orders there are");
	setenv("SIFT_EMULATOR_ORDER", "forward", 1);
}

// Each mistake ends the launch with the outcome a GPU has, and a line that says what and where.
static void mistakes() {
	alignas(64) static f32 in[1024], out[1024];
	struct {
		int which, n;
		Outcome outcome;
		const char *says;
	} list[] = {
		{0, 0, FAILED, "waits at barrier, but thread"},
		{1, 0, FAILED, "waits for its warp at shuffle_xor, but thread"},
		{2, 0, FAILED, "divergent"},
		{3, 0, FAILED, "waits at barrier"},
		{4, 0, MISALIGNED, "copy16"},
		{5, 0, MISALIGNED, "copy16"},
		{6, 0, MISALIGNED, "load_matrices is not aligned"},
		{7, 0, BAD_ADDRESS, "load_matrices is outside"},
		{8, 0, FAILED, "exceeds 48 KiB"},
		{9, 0, FAILED, "needs 128 bytes of dynamic shared memory and its launch gives 16"},
		{10, 0, BAD_ADDRESS, "illegal address"},
		{12, 1, MISALIGNED, "misaligned"},
		{13, 1 << 12, BAD_ADDRESS, "outside shared memory"},
		{15, 0, BAD_ADDRESS, "overflows the stack"},
	};
#ifdef __SANITIZE_ADDRESS__
	const bool checker = true;
#else
	const bool checker = false;
#endif
	for (const char *order : orders) {
		setenv("SIFT_EMULATOR_ORDER", order, 1);
		for (auto &m : list) {
			if (checker && m.which >= 10) continue; // the checker ends the program: see below
			Outcome o = FINE;
			bool ok = true;
			std::string text = stderr_of([&] { ok = run("self_mistake", 3, 64, in, out, m.n, m.which, 16, &o); });
			if (ok || o != m.outcome || text.find(m.says) == std::string::npos || text.find("kernel self_mistake, block") == std::string::npos) {
				failures++;
				printf("FAIL mistake %d, %s: outcome %d, %s", m.which, order, o, text.c_str());
			}
			// The engine is as good as before.
			u32 turned[64];
			check(run("self_no_barrier", 1, 64, 0, turned, 0, 1) && turned[0] == 63, "a launch after a mistake");
		}
	}
	setenv("SIFT_EMULATOR_ORDER", "forward", 1);
	stderr_of([] {
		Outcome o;
		check(!run("self_sum", 1, 512, in, out, 0, 0, 0, &o) && o == REFUSED, "a block larger than KERNEL says");
		check(!run("self_sum", 1, 100, in, out, 0, 0, 0, &o) && o == REFUSED, "a block of no whole warps");
		check(!run("self_sum", 1, 64, in, out, 0, 0, 164 << 10, &o) && o == REFUSED, "more shared memory than there is");
	});
}

// A copy that was not waited for has not been made.
static void copies() {
	alignas(16) static u32 in[256], out[512];
	for (u32 &x : in) x = next();
	for (int which = 0; which < 3; which++) {
		memset(out, 0, sizeof out);
		check(run("self_copy", 1, 64, in, out, 0, which), "self_copy runs");
		for (u32 part = 0; part < 2; part++)
			for (u32 t = 0; t < 64; t++) {
				alignas(4) unsigned char want[16];
				u32 row = 63 - t, bytes = part ? 16 : row % 17;
				memset(want, 0, 16);
				memcpy(want, &in[4 * row], bytes);
				if (which <= (int)part) memset(want, 0xff, 16);
				check(memcmp(want, &out[256 * part + 4 * t], 16) == 0, "what copy16 leaves");
			}
	}
}

// ldmatrix and mma against their definitions in the PTX manual: row and column of every
// element of a fragment, one at a time.
static void fragments() {
	alignas(16) static u16 in[32][8];
	static u32 out[32][4];
	for (auto &row : in)
		for (u16 &x : row) x = next() >> 16;
	for (int transposed = 0; transposed < 2; transposed++) {
		check(run("self_load", 1, 32, in, out, 0, transposed), "self_load runs");
		for (int matrix = 0; matrix < 4; matrix++)
			for (int i = 0; i < 8; i++)
				for (int j = 0; j < 8; j++) {
					// Element (i, j) of what is loaded lies in lane 4 i + j / 2, in half j % 2.
					u16 want = transposed ? in[8 * matrix + j][i] : in[8 * matrix + i][j];
					check((u16)(out[4 * i + j / 2][matrix] >> 16 * (j % 2)) == want, "an element of ldmatrix");
				}
	}
	static f32 a[16][16], b[16][8], c[16][8];
	static u32 words[32][10];
	static f32 d[32][4];
	for (auto &row : a)
		for (f32 &x : row) x = widened(rounded(number()));
	for (auto &row : b)
		for (f32 &x : row) x = widened(rounded(number()));
	for (auto &row : c)
		for (f32 &x : row) x = number();
	for (int lane = 0; lane < 32; lane++) {
		int group = lane >> 2, inGroup = lane % 4;
		for (int i = 0; i < 8; i++) { // a0 .. a7
			int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
			int col = inGroup * 2 + (i & 1) + (i >= 4 ? 8 : 0);
			words[lane][i / 2] |= (u32)rounded(a[row][col]) << 16 * (i % 2);
		}
		for (int i = 0; i < 4; i++) { // b0 .. b3
			int row = inGroup * 2 + (i & 1) + (i >= 2 ? 8 : 0);
			words[lane][4 + i / 2] |= (u32)rounded(b[row][group]) << 16 * (i % 2);
		}
		for (int i = 0; i < 4; i++) { // c0 .. c3
			f32 x = c[i < 2 ? group : group + 8][inGroup * 2 + (i & 1)];
			memcpy(&words[lane][6 + i], &x, 4);
		}
	}
	check(run("self_mma", 1, 32, words, d, 0, 0), "self_mma runs");
	for (int lane = 0; lane < 32; lane++)
		for (int i = 0; i < 4; i++) {
			int row = (lane >> 2) + (i < 2 ? 0 : 8), col = (lane % 4) * 2 + (i & 1);
			f32 want = c[row][col];
			for (int k = 0; k < 16; k++) want += a[row][k] * b[k][col];
			check(memcmp(&d[lane][i], &want, 4) == 0, "an element of mma");
		}
}

static double now() {
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void speed() {
	setenv("SIFT_EMULATOR_THREADS", "1", 1);
	static u32 out[256];
	const int n = 20000;
	double best[2] = {1e9, 1e9};
	for (int i = 0; i < 5; i++) {
		double a = now();
		run("self_switch", 1, 256, 0, out, n, 0);
		double b = now();
		run("self_products", 1, 256, 0, out, n / 4, 0);
		best[0] = fmin(best[0], b - a);
		best[1] = fmin(best[1], now() - b);
	}
	printf("one processor: %.0f million switches and %.2f million mma a second\n", 256.0 * n / best[0] / 1e6, 8.0 * n / 4 / best[1] / 1e6);
}

int main(int n, char **arg) {
	if (n > 1 && !strcmp(arg[1], "speed")) {
		speed();
		return 0;
	}
	if (n > 2 && !strcmp(arg[1], "mistake")) {
		f32 *in = (f32 *)aligned_alloc(64, 4096), *out = (f32 *)aligned_alloc(64, 4096);
		return run("self_mistake", 1, 64, in, out, n > 3 ? atoi(arg[3]) : 0, atoi(arg[2]), 16) ? 0 : 1;
	}
	orderFree();
	missingBarriers();
	mistakes();
	copies();
	fragments();
	if (failures == 0) printf("ok\n");
	return failures ? 1 : 0;
}
