// The word that tells the host of an index outside its table: the first to be found stays.
// Included by kernels whose binding STATUS is device.status.
layout(set = 0, binding = STATUS, std430) buffer StatusWords { uint status[]; };

const uint badIndex = 1u, badLabel = 2u;

void report(uint off, uint code, uint row, int value) {
    if (atomicCompSwap(status[off], 0u, code) == 0u) {
        status[off + 1u] = row;
        status[off + 2u] = uint(value);
    }
}
