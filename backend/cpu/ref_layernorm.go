package cpu

import (
	"math"

	"sift/backend"
)

// LayerNorm sets Z = dropout(X) + Residual and Y = (Z - mean) * rstd * Gamma + Beta, row
// by row, with the mean and the biased variance taken over the columns of the stored Z.
func (r *reference[T]) LayerNorm(a backend.LayerNormArgs) error {
	x := view[T](a.X)
	if x.rows == 0 {
		return nil
	}
	y, z, residual := view[T](a.Y), view[T](a.Z), view[T](a.Residual)
	mean, rstd := view[T](a.Mean), view[T](a.Rstd)
	gamma, beta := view[T](a.Gamma).row(0), view[T](a.Beta).row(0)
	drop := newMask(a.Drop)
	h := float64(x.cols)
	for t := range x.rows {
		zr := x.row(t)
		if z.rows > 0 {
			zr = z.row(t)
			first := drop.row(t, x.cols)
			for j, v := range x.row(t) {
				s := float64(v) * drop.factor(first+uint64(j))
				if residual.rows > 0 {
					s += float64(residual.row(t)[j])
				}
				zr[j] = T(s)
			}
		}
		var m, variance float64
		for _, v := range zr {
			m += float64(v)
		}
		m /= h
		for _, v := range zr {
			variance += (float64(v) - m) * (float64(v) - m)
		}
		variance /= h
		scale := 1 / math.Sqrt(variance+a.Eps)
		for j, v := range zr {
			y.row(t)[j] = T((float64(v)-m)*scale*float64(gamma[j]) + float64(beta[j]))
		}
		mean.row(t)[0], rstd.row(t)[0] = T(m), T(scale)
	}
	return nil
}

// LayerNormBackward: with n = (Z - mean) * rstd and g = DY * Gamma,
//
//	DZ = rstd * (g - mean_j g_j - n * mean_j (g_j n_j)),  DX = DZ * mask / (1-P)
//	DGamma += sum_t DY n,  DBeta += sum_t DY
func (r *reference[T]) LayerNormBackward(a backend.LayerNormBackwardArgs) error {
	dy := view[T](a.DY)
	if dy.rows == 0 {
		return nil
	}
	z, dz, dx := view[T](a.Z), view[T](a.DZ), view[T](a.DX)
	mean, rstd := view[T](a.Mean), view[T](a.Rstd)
	gamma := view[T](a.Gamma).row(0)
	drop := newMask(a.Drop)
	scratch := r.floats(3 * dy.cols)
	n, dGamma, dBeta := scratch[:dy.cols], scratch[dy.cols:2*dy.cols], scratch[2*dy.cols:]
	clear(dGamma)
	clear(dBeta)
	h := float64(dy.cols)
	for t := range dy.rows {
		m, scale := float64(mean.row(t)[0]), float64(rstd.row(t)[0])
		dyr := dy.row(t)
		var sumG, sumGN float64
		for j, v := range z.row(t) {
			n[j] = (float64(v) - m) * scale
			d := float64(dyr[j])
			g := d * float64(gamma[j])
			sumG += g
			sumGN += g * n[j]
			dGamma[j] += d * n[j]
			dBeta[j] += d
		}
		dzr := dz.row(t)
		for j, d := range dyr {
			dzr[j] = T(scale * (float64(d)*float64(gamma[j]) - sumG/h - n[j]*sumGN/h))
		}
		if dx.rows > 0 {
			first := drop.row(t, dy.cols)
			for j, v := range dzr {
				dx.row(t)[j] = T(float64(v) * drop.factor(first+uint64(j)))
			}
		}
	}
	accumulate[T](a.DGamma, dGamma)
	accumulate[T](a.DBeta, dBeta)
	return nil
}
