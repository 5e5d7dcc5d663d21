// What the emulated cuBLAS asks of the emulated driver.
#ifndef SIFT_EMULATOR_DRIVER_H
#define SIFT_EMULATOR_DRIVER_H
#include "../driver/cuda.h"
#include <functional>

// emulator_queue appends work to a stream.
CUresult emulator_queue(CUstream s, std::function<void()> run);

#endif
