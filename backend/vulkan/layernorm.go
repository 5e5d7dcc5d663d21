//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// LayerNorm sets Z = dropout(X) + Residual and Y = (Z - mean) * rstd * Gamma + Beta, row by row,
// with the mean and the biased variance taken over the columns of the stored Z.
func (d *device) LayerNorm(a backend.LayerNormArgs) error {
	if a.X.Len() == 0 {
		return nil
	}
	key := a.Drop.RowKey
	if a.Drop.P == 0 {
		key = backend.Tensor{}
	}
	step := d.rows(a.Y, a.Z, a.Mean, a.Rstd, a.X, a.Residual, key)
	for at := 0; at < a.X.Rows; at += step {
		n := min(step, a.X.Rows-at)
		y, z, x, residual := rowsOf(a.Y, at, n), rowsOf(a.Z, at, n), rowsOf(a.X, at, n), rowsOf(a.Residual, at, n)
		r := d.newRowwise(x.Cols, y, z, x, residual, a.Gamma, a.Beta)
		c := d.call("layernorm", r.local, r.lanes, r.width, r.tail, flag(!z.Absent()), flag(!residual.Absent()), flag(a.Drop.P > 0))
		c.write(y)
		c.write(z)
		c.write(rowsOf(a.Mean, at, n))
		c.write(rowsOf(a.Rstd, at, n))
		c.read(x)
		c.read(residual)
		c.read(a.Gamma)
		c.read(a.Beta)
		c.read(rowsOf(key, at, n))
		c.drop(a.Drop)
		c.u32(uint32(n), uint32(x.Cols))
		c.f32(1/float64(x.Cols), a.Eps)
		if err := r.run(c, n); err != nil {
			return err
		}
	}
	return nil
}

// rowsOf is RowRange of a tensor that may be absent.
func rowsOf(t backend.Tensor, at, n int) backend.Tensor {
	if t.Absent() {
		return t
	}
	return t.RowRange(at, n)
}

// LayerNormBackward: with n = (Z - mean) * rstd and g = DY * Gamma,
//
//	DZ = rstd * (g - mean_j g_j - n * mean_j (g_j n_j)),  DX = DZ * mask / (1-P)
//	DGamma += sum_t DY n,  DBeta += sum_t DY
//
// The sums over rows are made of chunks as in ColSum.
func (d *device) LayerNormBackward(a backend.LayerNormBackwardArgs) error {
	if a.DY.Len() == 0 {
		return nil
	}
	if err := d.layerNormInput(a); err != nil {
		return err
	}
	if a.DGamma.Absent() && a.DBeta.Absent() {
		return nil
	}
	return d.layerNormParams(a)
}

// layerNormInput computes DZ and DX.
func (d *device) layerNormInput(a backend.LayerNormBackwardArgs) error {
	key := a.Drop.RowKey
	if a.Drop.P == 0 || a.DX.Absent() {
		key = backend.Tensor{}
	}
	step := d.rows(a.DZ, a.DX, a.DY, a.Z, a.Mean, a.Rstd, key)
	for at := 0; at < a.DY.Rows; at += step {
		n := min(step, a.DY.Rows-at)
		dz, dx, dy, z := rowsOf(a.DZ, at, n), rowsOf(a.DX, at, n), rowsOf(a.DY, at, n), rowsOf(a.Z, at, n)
		r := d.newRowwise(dy.Cols, dz, dx, dy, z, a.Gamma)
		c := d.call("layernorm_backward", r.local, r.lanes, r.width, r.tail, flag(!dx.Absent()), flag(!key.Absent()))
		c.write(dz)
		c.write(dx)
		c.read(dy)
		c.read(z)
		c.read(rowsOf(a.Mean, at, n))
		c.read(rowsOf(a.Rstd, at, n))
		c.read(a.Gamma)
		c.read(rowsOf(key, at, n))
		c.drop(a.Drop)
		c.u32(uint32(n), uint32(dy.Cols))
		c.f32(1 / float64(dy.Cols))
		if err := r.run(c, n); err != nil {
			return err
		}
	}
	return nil
}

// layerNormParams accumulates DGamma and DBeta.
func (d *device) layerNormParams(a backend.LayerNormBackwardArgs) error {
	rows, h := a.DY.Rows, a.DY.Cols
	step, chunk := d.sumPlan(min(d.rows(a.DY, a.Z, a.Mean, a.Rstd), rows), 2*h)
	scratch, err := d.scratch((min(step, rows) + chunk - 1) / chunk * 2 * h)
	if err != nil {
		return err
	}
	for at := 0; at < rows; at += step {
		n := min(step, rows-at)
		dy, z := a.DY.RowRange(at, n), a.Z.RowRange(at, n)
		chunks := (n + chunk - 1) / chunk
		parts := scratch.ColRange(0, chunks*2*h).Reshape(chunks, 2*h)
		p := d.newPass(chunks, h, wide(dy, z, parts))
		c := d.call("layernorm_params", p.local, p.width)
		c.write(parts)
		c.read(dy)
		c.read(z)
		c.read(a.Mean.RowRange(at, n))
		c.read(a.Rstd.RowRange(at, n))
		c.u32(uint32(chunk), uint32(n))
		if err := p.run(c); err != nil {
			return err
		}
		if !a.DGamma.Absent() {
			if err := d.addParts(a.DGamma, parts.ColRange(0, h)); err != nil {
				return err
			}
		}
		if !a.DBeta.Absent() {
			if err := d.addParts(a.DBeta, parts.ColRange(h, h)); err != nil {
				return err
			}
		}
	}
	return nil
}
