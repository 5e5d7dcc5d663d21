//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// words returns t as 32-bit words, of which a float64 has two.
func words(t backend.Tensor) backend.Tensor {
	if n := t.DType.Size() / 4; n > 1 {
		t.Off, t.Cols, t.Stride = t.Off*n, t.Cols*n, t.Stride*n
	}
	t.DType = backend.F32
	return t
}

// Zero sets x to 0, whatever its type.
func (d *device) Zero(x backend.Tensor) error {
	if x.Len() == 0 {
		return nil
	}
	return d.elementwise("fill", false, [3]backend.Tensor{words(x)}, 0)
}

// Copy sets dst to src, whatever their type.
func (d *device) Copy(dst, src backend.Tensor) error {
	if src.Len() == 0 {
		return nil
	}
	return d.elementwise("copy", false, [3]backend.Tensor{words(dst), words(src)}, 0)
}

// Convert is Copy: this device has one floating type.
func (d *device) Convert(dst, src backend.Tensor) error { return d.Copy(dst, src) }

// Add sets y to y + x.
func (d *device) Add(y, x backend.Tensor) error {
	if x.Len() == 0 {
		return nil
	}
	return d.elementwise("add", true, [3]backend.Tensor{y, x}, 0)
}

// GatherRows sets dst_i to src[index_i]. Where src is more than one binding, each part of it
// fills the rows that are in it.
func (d *device) GatherRows(dst, src, index backend.Tensor) error {
	if dst.Len() == 0 {
		return nil
	}
	step, table := d.rows(dst), d.rows(src)
	for at := 0; at < dst.Rows; at += step {
		dst, index := dst.RowRange(at, min(step, dst.Rows-at)), index.ColRange(at, min(step, dst.Rows-at))
		for first := 0; first < max(src.Rows, 1); first += table {
			part := src.RowRange(first, min(table, src.Rows-first))
			p := d.newPass(dst.Rows, dst.Cols, wide(dst, part))
			c := d.call("gather", p.local, p.width)
			c.write(dst)
			c.read(part)
			c.read(index)
			c.update(d.status)
			c.u32(uint32(first), uint32(part.Rows), uint32(src.Rows), uint32(at))
			if err := p.run(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// ScatterAddRows adds src_i to dst[index_i], i ascending. First the indices that occur more
// than once are linked; then the first of each adds up all its rows.
func (d *device) ScatterAddRows(dst, src, index backend.Tensor) error {
	if src.Len() == 0 {
		return nil
	}
	step, table := d.rows(src), d.rows(dst)
	links, err := d.scratch(min(step, src.Rows))
	if err != nil {
		return err
	}
	for at := 0; at < src.Rows; at += step {
		n := min(step, src.Rows-at)
		src, index, links := src.RowRange(at, n), index.ColRange(at, n), links.ColRange(0, n)
		c := d.call("scatter_links", d.linkLocal())
		c.write(links)
		c.read(index)
		c.update(d.status)
		c.u32(uint32(n), uint32(dst.Rows), uint32(at))
		if err := c.linear(n); err != nil {
			return err
		}
		for first := 0; first < dst.Rows; first += table {
			part := dst.RowRange(first, min(table, dst.Rows-first))
			p := d.newPass(n, src.Cols, wide(part, src))
			c := d.call("scatter", p.local, p.width)
			c.update(part)
			c.read(src)
			c.read(index)
			c.read(links)
			c.u32(uint32(first), uint32(part.Rows))
			if err := p.run(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkLocal is the workgroup of scatter_links, whose invocations each read the whole list.
func (d *device) linkLocal() uint32 {
	if d.caps.cpu {
		return 8
	}
	return uint32(min(64, d.caps.maxInvocations))
}
