//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// Dropout sets y to x with each element zeroed with probability P or divided by 1-P.
func (d *device) Dropout(y, x backend.Tensor, drop backend.Drop) error {
	if x.Len() == 0 {
		return nil
	}
	if drop.P == 0 {
		if y == x {
			return nil
		}
		return d.Copy(y, x)
	}
	step := d.rows(y, x, drop.RowKey)
	for at := 0; at < x.Rows; at += step {
		n := min(step, x.Rows-at)
		y, x, key := y.RowRange(at, n), x.RowRange(at, n), drop.RowKey.RowRange(at, n)
		p := d.newPass(n, x.Cols, wide(y, x))
		c := d.call("dropout", p.local, p.width)
		c.write(y)
		c.read(x)
		c.read(key)
		c.drop(drop)
		if err := p.run(c); err != nil {
			return err
		}
	}
	return nil
}
