// Parameters of the kernels that test the emulator.
#ifndef SIFT_EMULATOR_SELFTEST_H
#define SIFT_EMULATOR_SELFTEST_H
#include "../../kernels/types.h"

typedef struct SelfParams {
	u64 in, out;
	i32 n, which;
} SelfParams;

#endif
