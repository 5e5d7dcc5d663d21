//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// rowwise is how a kernel that reduces over rows (shaders/rowwise.glsl) goes over a matrix:
// lanes invocations share a row, and load width elements at once.
type rowwise struct {
	local, lanes, width, tail uint32
}

// newRowwise chooses for rows of cols columns of the given tensors. On a GPU a workgroup takes a
// row; on a software driver each invocation takes one by itself, without barriers.
func (d *device) newRowwise(cols int, ts ...backend.Tensor) rowwise {
	r := rowwise{width: 4, tail: flag(cols%4 != 0)}
	for _, t := range ts {
		if t.Absent() {
			continue
		}
		bits := t.Off
		if t.Rows > 1 {
			bits |= t.Stride
		}
		switch {
		case bits%2 != 0:
			r.width = 1
		case bits%4 != 0:
			r.width = min(r.width, 2)
		}
	}
	r.local = 64
	for int(r.local) > d.caps.maxInvocations {
		r.local /= 2
	}
	r.lanes = r.local
	if d.caps.cpu {
		r.local, r.lanes = 8, 1
	}
	return r
}

// run dispatches enough workgroups for n rows.
func (r rowwise) run(c *call, n int) error {
	if r.lanes == 1 {
		return c.linear(n)
	}
	return c.groups(n)
}
