//go:build !cgo || !unix

package cpu

import (
	"sift/backend"
	"sift/fault"
)

const noCgo = "cpu: %s needs the C kernels, and this build has none (CGO_ENABLED=0)"

func open(o Options) (backend.Device, error) {
	if o.ISA == "avx512" || o.ISA == "avx2" {
		return nil, fault.New(fault.Device, noCgo, o.ISA)
	}
	return NewReference(backend.F32), nil
}

// Peak needs the C kernels.
func Peak(threads int, isa string) (gflops float64, err error) {
	return 0, fault.New(fault.Device, noCgo, "measuring the peak")
}
