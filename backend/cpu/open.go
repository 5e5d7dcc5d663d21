package cpu

import (
	"sift/backend"
	"sift/fault"
)

// Options choose what Open opens.
type Options struct {
	// Threads that run an operation, the calling one included. 0 means one per
	// processor core this process may use.
	Threads int
	// ISA is the instruction set: auto (the best the processor has), avx512, avx2,
	// portable (C without intrinsics) or go (the reference, for comparison). The empty
	// string is auto.
	ISA string
}

// Open returns the float32 device of this machine's processor. Asking by name for an
// instruction set that the processor or this build lacks is an error of kind
// fault.Device; an unknown name is one of kind fault.Config.
//
// A build without cgo has the Go reference only: auto, portable and go open that.
func Open(o Options) (backend.Device, error) {
	if o.Threads < 0 {
		return nil, fault.New(fault.Config, "device.threads: %d is negative", o.Threads)
	}
	switch o.ISA {
	case "", "auto", "avx512", "avx2", "portable":
		return open(o)
	case "go":
		return NewReference(backend.F32), nil
	}
	return nil, fault.New(fault.Config, "device.isa: %q is not one of auto, avx512, avx2, portable, go", o.ISA)
}
