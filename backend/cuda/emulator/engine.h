// How the emulated driver runs kernels.
#ifndef SIFT_EMULATOR_ENGINE_H
#define SIFT_EMULATOR_ENGINE_H
#include <stddef.h>
#include <string>
#include "../kernels/types.h"

namespace emulator {

// Kernel is a kernel's twin on the processor.
struct Kernel {
	std::string name;
	void (*run)(const void *params);
	size_t bytes; // of its parameter struct
	u32 threads;  // that a block may have at most
};

void add(const char *name, void (*run)(const void *), size_t bytes, u32 threads);
const Kernel *find(const std::string &name);

// What a launch comes to: the numbers of CUresult.
enum Outcome { FINE = 0, REFUSED = 1, BAD_ADDRESS = 700, MISALIGNED = 716, FAILED = 719 };

// launch runs all blocks. It returns false, having said why on standard error, if the kernel
// did what a GPU does not allow; *outcome, if asked for, tells what.
bool launch(const Kernel &k, u32 x, u32 y, u32 z, u32 threads, size_t dynamic, const void *params, Outcome *outcome = nullptr);

// describe, if set, says what lies at an address that a kernel should not have touched.
extern std::string (*describe)(const void *);

// Entry makes a twin of a kernel that takes its parameters by value.
template <auto f> struct Entry;
template <class P, void (*f)(P)> struct Entry<f> {
	static void run(const void *params) { f(*(const P *)params); }
	static constexpr size_t bytes = sizeof(P);
};

struct Registered {
	Registered(const char *name, void (*run)(const void *), size_t bytes, u32 threads) { add(name, run, bytes, threads); }
};

}

// REGISTER is written for each kernel by scripts/cuda/emulator.
#define REGISTER(name, threads) \
	static emulator::Registered registered_##name(#name, emulator::Entry<&name>::run, emulator::Entry<&name>::bytes, threads);

#endif
