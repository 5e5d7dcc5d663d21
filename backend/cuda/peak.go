//go:build cuda && cgo && linux

package cuda

import (
	"gorgonia.org/cu"

	"sift/backend"
)

// Multiply-adds a clock and multiprocessor by compute capability, from NVIDIA's programming
// guide and white papers. Of 8.6 and 8.9 tensor cores differ between parts of one capability.
var (
	floatRate  = map[int]int{80: 64, 86: 128, 87: 128, 89: 128, 90: 128}
	tensorRate = map[int]int{80: 1024, 90: 2048} // bfloat16; TF32 has half
)

// Peak is multiprocessors times clock times the rate of the cores that products go to.
func (d *device) Peak() (gflops float64, by string) {
	rate, by := floatRate[d.capability], "multiply-adds in float32"
	switch {
	case d.act == backend.BF16:
		rate, by = tensorRate[d.capability], "tensor cores in bfloat16"
	case d.tf32:
		rate, by = tensorRate[d.capability]/2, "tensor cores in TF32"
	}
	clock, err := d.handle.Attribute(cu.ClockRate) // kHz
	if err != nil || rate == 0 {
		return 0, by
	}
	return 2 * float64(d.multiprocessors) * float64(clock) * 1e3 * float64(rate) / 1e9, by
}
