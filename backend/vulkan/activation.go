//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// GeluBackward sets dx to dy * act'(pre).
func (d *device) GeluBackward(dx, dy, pre backend.Tensor, act backend.Activation) error {
	if dy.Len() == 0 {
		return nil
	}
	return d.elementwise("gelu_backward", false, [3]backend.Tensor{dx, dy, pre}, uint32(act))
}

// Tanh sets y to tanh(x).
func (d *device) Tanh(y, x backend.Tensor) error {
	if x.Len() == 0 {
		return nil
	}
	return d.elementwise("tanh", false, [3]backend.Tensor{y, x}, 0)
}

// TanhBackward sets dx to dy * (1 - y^2).
func (d *device) TanhBackward(dx, dy, y backend.Tensor) error {
	if dy.Len() == 0 {
		return nil
	}
	return d.elementwise("tanh_backward", false, [3]backend.Tensor{dx, dy, y}, 0)
}
