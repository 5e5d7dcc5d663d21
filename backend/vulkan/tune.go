//go:build cgo && linux

package vulkan

import "sift/backend"

// tuner holds the choice of kernels.
type tuner struct {
	gemm *product
}

// startTuning chooses the kernels.
func (d *device) startTuning() error {
	for i := range products {
		p := &products[i]
		if !d.allows(p) {
			continue
		}
		if d.tuner.gemm == nil || (d.caps.cpu && (p.lanes > 0 || p.name == "blocked32x32")) {
			d.tuner.gemm = p
		}
	}
	return nil
}

// choose returns the kernel for a product.
func (d *device) choose(a backend.GemmArgs) *product { return d.tuner.gemm }
