//go:build cgo && unix

package cpu

// #include "sift.h"
import "C"

import (
	"time"
	"unsafe"
)

const (
	peakSteps  = 4 << 20 // about 20 ms
	peakChains = 12      // as in peak.h
	peakTries  = 5
)

// Peak measures the most float32 arithmetic that threads threads can do together with
// the named instruction set (both as in Options), in 10^9 operations a second, a multiply-add
// counting two: the ceiling to quote a kernel's speed against, in the same run. It takes
// about a tenth of a second.
func Peak(threads int, isa string) (gflops float64, err error) {
	dev, err := open(Options{Threads: threads, ISA: isa})
	if err != nil {
		return 0, err
	}
	d := dev.(*device)
	defer d.Close()
	lanes := map[string]float64{"portable": 4, "avx2": 8, "avx512": 16}[d.info.ISA]
	for range peakTries {
		a := C.struct_op_peak{steps: peakSteps}
		start := time.Now()
		if err := d.run(C.OP_PEAK, unsafe.Pointer(&a)); err != nil {
			return 0, err
		}
		work := 2 * lanes * peakChains * peakSteps * float64(d.info.Threads)
		gflops = max(gflops, work/1e9/time.Since(start).Seconds())
	}
	return gflops, nil
}
