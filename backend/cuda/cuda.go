// Package cuda is backend.Device on NVIDIA GPUs from compute capability 8.0 (A100) on,
// through gorgonia.org/cu and kernels of its own, whose PTX is embedded.
//
// It is built with -tags cuda (make cuda), which needs neither CUDA nor a driver: the
// driver's library is looked for when a device is opened or listed. Other builds have no
// CUDA, and say which command makes one that has.
package cuda

import (
	"errors"

	"sift/backend"
	"sift/fault"
)

// Options choose a device and how it computes.
type Options struct {
	// Select is "" for the first device, or the index that List gives.
	Select string
	// Precision is F32, or BF16 to keep activations in bfloat16 and multiply on tensor cores;
	// parameters, their gradients, statistics and sums stay float32. None means F32.
	Precision backend.DType
	// CuBLAS hands matrix products to cuBLAS, which must be installed. A row's last bits may
	// then depend on how many rows there are.
	CuBLAS bool
	// TF32 lets cuBLAS round float32 operands to 10 bits of fraction, which tensor cores multiply.
	TF32 bool
}

// Physical describes a device that could be opened, or why it cannot be.
type Physical struct {
	Index       int    // Options.Select opens it by this number
	Name        string // as the driver gives it
	Capability  string // compute capability, "8.0"
	Driver      string // the newest version of CUDA the driver supports, "12.4"
	MemoryBytes int64
	CuBLAS      string // the library that was found, with its version; empty if none
	Reason      string // why it does not open; empty if it should
}

// ErrCuBLAS is what an error of Open wraps where cuBLAS alone does not open.
var ErrCuBLAS = errors.New("no cuBLAS")

// none is the error of a machine, device or build without CUDA.
func none(format string, args ...any) error {
	return fault.New(fault.Device, "cuda: "+format, args...)
}
