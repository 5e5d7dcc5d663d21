//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// sumChunk is the number of rows that a sum over rows adds up at a time. It and the limit of
// what a dispatch takes are fixed, so that a sum depends on nothing but the rows.
const (
	sumChunk = 32
	sumParts = 4 << 20 // floats of chunk sums at once
)

// sumPlan cuts a sum over rows, of which fit can be bound at once, into steps of whole chunks,
// such that the chunk sums of a step, width floats each, can be bound as well.
func (d *device) sumPlan(fit, width int) (step, chunk int) {
	chunk = min(sumChunk, fit)
	parts := min(sumParts, int(d.caps.maxRange/4)) / width
	return min(fit/chunk, max(parts, 1)) * chunk, chunk
}

// ColSum adds the sum over the rows of src to dst: the gradient of Gemm's bias. Chunks of rows
// are summed first, each upwards, then the chunks' sums, upwards.
func (d *device) ColSum(dst, src backend.Tensor) error {
	if src.Len() == 0 {
		return nil
	}
	step, chunk := d.sumPlan(min(d.rows(src), src.Rows), src.Cols)
	chunks := (min(step, src.Rows) + chunk - 1) / chunk
	scratch, err := d.scratch(chunks * src.Cols)
	if err != nil {
		return err
	}
	for at := 0; at < src.Rows; at += step {
		src := src.RowRange(at, min(step, src.Rows-at))
		chunks := (src.Rows + chunk - 1) / chunk
		parts := scratch.ColRange(0, chunks*src.Cols).Reshape(chunks, src.Cols)
		p := d.newPass(chunks, src.Cols, wide(src, parts))
		c := d.call("colsum", p.local, p.width)
		c.write(parts)
		c.read(src)
		c.u32(uint32(chunk), uint32(src.Rows))
		if err := p.run(c); err != nil {
			return err
		}
		if err := d.addParts(dst, parts); err != nil {
			return err
		}
	}
	return nil
}

// addParts adds the sum over the rows of parts, upwards, to dst.
func (d *device) addParts(dst, parts backend.Tensor) error {
	p := d.newPass(1, dst.Cols, wide(dst, parts))
	p.repeat = 1 // there are few columns: let there be as many workgroups as possible
	c := d.call("colsum_add", p.local, p.width)
	c.update(dst)
	c.read(parts)
	c.u32(uint32(parts.Rows))
	return p.run(c)
}
