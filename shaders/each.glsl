// main of the kernels that treat a matrix element by element. The kernel includes this last,
// having defined
//
//   p, its push constants, with the members rows, units, chunks and repeat;
//   void unit(uint row, uint u), the work on unit u of a row: four columns if WIDTH is 4, one if it is 1.
//
// A workgroup takes repeat * local size neighbouring units of one row, so that finding the row
// divides once a workgroup and what depends on the row alone is uniform.
void main() {
    uint group = groupIndex();
    uint row = group / p.chunks;
    if (row >= p.rows) {
        return;
    }
    uint u = (group - row * p.chunks) * (gl_WorkGroupSize.x * p.repeat) + gl_LocalInvocationID.x;
    for (uint k = 0u; k < p.repeat; k++) {
        if (u < p.units) {
            unit(row, u);
        }
        u += gl_WorkGroupSize.x;
    }
}
