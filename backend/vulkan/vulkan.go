// Package vulkan is backend.Device on any GPU that Vulkan 1.1 drives, and on software
// drivers where asked for. Commands are recorded as the model calls them and handed over
// at the next wait; kernels are the SPIR-V of package shaders.
//
// It needs no Vulkan headers or library to build: the loader is looked for when a device
// is opened or listed. Builds without cgo have no Vulkan, and say so.
package vulkan

import (
	"sift/backend"
	"sift/fault"
)

// Options choose a device and how it computes.
type Options struct {
	// Select is "" for the best GPU (discrete before integrated before virtual), "cpu" for a
	// software driver, or the index that List gives.
	Select string
	// Precision is F32, or F16 to round the operands of matrix products to float16; sums and
	// everything else stay in float32. None means F32.
	Precision backend.DType
	// Tuning pins the choice of kernels to what a device's Tuning returned; nil takes it from
	// the cache directory or measures.
	Tuning []byte
	// CacheDir holds compiled pipelines and tuning; "" is the user's cache directory, "-" none.
	CacheDir string
	// Validation turns on the Khronos validation layer with synchronisation validation; Close
	// then returns an error that quotes its messages, if there are any.
	Validation bool

	// For tests.
	maxRange int64                      // upper bound on maxStorageBufferRange, 0: the device's
	style    string                     // "cpu" or "gpu": which kernels to take, "": by the device's type
	fail     func(what string) vkResult // asked before each call that can fail; 0 lets it happen
}

// vkResult is a VkResult; 0 is success.
type vkResult int32

// Physical describes a device that could be opened.
type Physical struct {
	Index       int    // Options.Select opens it by this number
	Name        string // as the driver gives it
	Type        string // discrete, integrated, virtual, cpu or other
	Driver      string
	API         string // the version of Vulkan
	MemoryBytes int64  // of the largest device-local heap
}

// none is the error of a machine or build without Vulkan.
func none(format string, args ...any) error {
	return fault.New(fault.Device, "vulkan: "+format, args...)
}
