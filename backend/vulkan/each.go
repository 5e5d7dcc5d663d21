//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// pass is how an element-wise kernel (shaders/each.glsl) goes over a matrix of rows x cols:
// in units of width columns, of which an invocation takes repeat.
type pass struct {
	rows, cols           int
	local, width, repeat uint32
}

// newPass chooses the shape of a pass. wide says that offsets and row strides are divisible by
// four: units are of four columns then if the columns are, too.
func (d *device) newPass(rows, cols int, wide bool) pass {
	p := pass{rows: rows, cols: cols, width: 1}
	if wide && cols%4 == 0 {
		p.width = 4
	}
	return d.inUnits(p)
}

// inUnits chooses how p.cols / p.width units of a row are shared out.
func (d *device) inUnits(p pass) pass {
	p.local, p.repeat = d.eachLocal(p.cols / int(p.width))
	return p
}

// eachLocal returns the workgroup's size and the units of an invocation for rows of so many
// units. A GPU wants many small workgroups; a software driver few large ones, since it starts
// them one by one, and gains nothing from more invocations than a processor's vector.
func (d *device) eachLocal(units int) (local, repeat uint32) {
	local, most := uint32(min(64, d.caps.maxInvocations)), uint32(4)
	if d.caps.cpu {
		local, most = 8, 64
	}
	repeat = 1
	for repeat < most && int(local*repeat) < units {
		repeat *= 2
	}
	return local, repeat
}

// run pushes what each.glsl expects after the kernel's own constants and dispatches.
func (p pass) run(c *call) error {
	units := p.cols / int(p.width)
	chunks := (units + int(p.local*p.repeat) - 1) / int(p.local*p.repeat)
	c.u32(uint32(p.rows), uint32(units), uint32(chunks), p.repeat)
	return c.groups(p.rows * chunks)
}

// wide reports whether all of the tensors can be read as vectors of four.
func wide(ts ...backend.Tensor) bool {
	for _, t := range ts {
		if !t.Absent() && !aligned(t) {
			return false
		}
	}
	return true
}

// window returns rows [i, i+n) and columns [j, j+m) of t.
func window(t backend.Tensor, i, n, j, m int) backend.Tensor { return t.RowRange(i, n).ColRange(j, m) }

// elementwise runs a kernel over tensors of one shape, bound in their order: the first updated
// or overwritten, the others read. Contiguous ones are one long row, whose last columns, if
// they are not a whole vector, take a dispatch of their own.
func (d *device) elementwise(name string, update bool, ts [3]backend.Tensor, spec uint32) error {
	n := len(ts)
	for n > 0 && ts[n-1].Absent() {
		n--
	}
	flat := true
	for _, t := range ts[:n] {
		flat = flat && t.Contiguous()
	}
	if flat {
		for i, t := range ts[:n] {
			ts[i] = t.Reshape(1, t.Len())
		}
	}
	all := ts[0]
	stepRows, stepCols := d.rows(ts[:n]...), all.Cols
	if all.Rows == 1 {
		stepCols = d.cols(ts[:n]...)
	}
	for i := 0; i < all.Rows; i += stepRows {
		rows := min(stepRows, all.Rows-i)
		for j := 0; j < all.Cols; {
			cols := min(stepCols, all.Cols-j)
			if rows == 1 && cols > 3 {
				cols &^= 3
			}
			var cut [3]backend.Tensor
			for k, t := range ts[:n] {
				cut[k] = window(t, i, rows, j, cols)
			}
			p := d.newPass(rows, cols, wide(cut[:n]...))
			c := d.call(name, p.local, p.width, spec)
			if update {
				c.update(cut[0])
			} else {
				c.write(cut[0])
			}
			for _, t := range cut[1:n] {
				c.read(t)
			}
			if err := p.run(c); err != nil {
				return err
			}
			j += cols
		}
	}
	return nil
}
