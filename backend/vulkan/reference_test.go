//go:build cgo && linux

package vulkan

import (
	"sift/backend"
	"sift/backend/cpu"
)

// reference is the device that others are measured against.
func reference() backend.Device { return cpu.NewReference(backend.F32) }
