//go:build cuda && cgo && linux

package cuda

import (
	"fmt"
	"reflect"

	"sift/fault"
)

// result is a CUresult.
type result int

const (
	success          result = 0
	outOfMemory      result = 2
	invalidPTX       result = 218
	unsupportedPTX   result = 222
	illegalAddress   result = 700
	launchTimeout    result = 702
	misaligned       result = 716
	launchFailed     result = 719
	unknownError     result = 999
	noBinary         result = 209
	uncorrectable    result = 214
	deviceNotPresent result = 100
)

// resultText is what the results that a user may meet mean.
var resultText = map[result]string{
	outOfMemory:      "out of memory",
	deviceNotPresent: "no device",
	noBinary:         "no kernel for this GPU",
	uncorrectable:    "uncorrectable memory error",
	invalidPTX:       "the driver rejects the kernels",
	unsupportedPTX:   "the driver is too old for the kernels",
	illegalAddress:   "a kernel touched an illegal address",
	launchTimeout:    "a kernel ran into the driver's time limit",
	misaligned:       "a kernel touched a misaligned address",
	launchFailed:     "a kernel failed",
	unknownError:     "unknown error",
}

func (r result) Error() string {
	if text, ok := resultText[r]; ok {
		return fmt.Sprintf("%s (CUDA error %d)", text, int(r))
	}
	return fmt.Sprintf("CUDA error %d", int(r))
}

// codeOf returns the CUresult in an error of package cu, whose type it does not export.
func codeOf(err error) result {
	if err == nil {
		return success
	}
	if r, ok := err.(result); ok {
		return r
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Int {
		return result(v.Int())
	}
	return unknownError
}

// lost reports whether a context is of no more use after r: everything but a refused
// request.
func (r result) lost() bool {
	switch r {
	case success, 1, outOfMemory, invalidPTX, unsupportedPTX, noBinary, 301, 500, 701, 801:
		return false
	}
	return true
}

// failed is the error of a driver call: err of package cu or a result. A device that is
// lost by it returns the same error from then on.
func (g *gpu) failed(what string, err error) error {
	r := codeOf(err)
	e := fault.New(fault.Device, "cuda: %s: %v", what, r)
	if r.lost() && g.gone == nil {
		g.gone = fault.New(fault.Device, "cuda: device lost: %s: %v", what, r)
		return g.gone
	}
	return e
}

// usable returns the error of a device that is lost or closed.
func (d *device) usable() error {
	if d.gone != nil {
		return d.gone
	}
	if d.closed {
		return fault.New(fault.Internal, "cuda: the device is closed")
	}
	return nil
}

// notes keep the first error of several calls that are all made.
type notes struct {
	gpu   *gpu
	first error
}

func (n *notes) note(what string, err error) {
	if err != nil && n.first == nil {
		n.first = n.gpu.failed(what, err)
	}
}
