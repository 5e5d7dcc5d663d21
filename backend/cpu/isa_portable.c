//go:build unix

/* The kernels in portable C, four lanes at a time: any processor with a C compiler. */
#define SIFT_TABLE sift_portable
#include "kernels.h"
