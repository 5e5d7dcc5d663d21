//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// CrossEntropy, per row of logits x with m = max x and w_j = exp(x_j - m), in one pass:
//
//	LSE = m + log sum w,  Loss = LSE - x[label],  Entropy = log sum w - sum w (x - m) / sum w
func (d *device) CrossEntropy(a backend.CrossEntropyArgs) error {
	if a.Logits.Len() == 0 {
		return nil
	}
	step := d.rows(a.Logits, a.Loss, a.Entropy, a.LSE, a.Correct)
	for at := 0; at < a.Logits.Rows; at += step {
		n := min(step, a.Logits.Rows-at)
		x := a.Logits.RowRange(at, n)
		r := d.newRowwise(x.Cols, x)
		c := d.call("crossentropy", r.local, r.lanes, r.width, r.tail)
		c.write(a.Loss.RowRange(at, n))
		c.write(a.Entropy.RowRange(at, n))
		c.write(a.LSE.RowRange(at, n))
		c.write(a.Correct.RowRange(at, n))
		c.read(x)
		c.read(a.Labels.ColRange(at, n))
		c.update(d.status)
		c.u32(uint32(at), uint32(n), uint32(x.Cols))
		if err := r.run(c, n); err != nil {
			return err
		}
	}
	return nil
}

// CrossEntropyBackward sets DLogits = Scale * (exp(Logits - LSE) - onehot(label)), and rows
// without a label to 0.
func (d *device) CrossEntropyBackward(a backend.CrossEntropyBackwardArgs) error {
	if a.Logits.Len() == 0 {
		return nil
	}
	step := d.rows(a.Logits, a.DLogits, a.LSE)
	for at := 0; at < a.Logits.Rows; at += step {
		n := min(step, a.Logits.Rows-at)
		dx, x := a.DLogits.RowRange(at, n), a.Logits.RowRange(at, n)
		p := d.newPass(n, x.Cols, wide(dx, x))
		if even := (dx.Off|dx.Stride|x.Off|x.Stride|x.Cols)%2 == 0; even && p.width == 1 {
			p.width = 2
			p = d.inUnits(p)
		}
		c := d.call("crossentropy_backward", p.local, p.width)
		c.write(dx)
		c.read(x)
		c.read(a.LSE.RowRange(at, n))
		c.read(a.Labels.ColRange(at, n))
		c.update(d.status)
		c.f32(a.Scale)
		c.u32(uint32(at), uint32(x.Cols))
		if err := p.run(c); err != nil {
			return err
		}
	}
	return nil
}
