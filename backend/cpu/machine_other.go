//go:build cgo && unix && !linux

package cpu

import "runtime"

// cores counts the processors; what they share is unknown here.
func cores() int { return runtime.NumCPU() }
