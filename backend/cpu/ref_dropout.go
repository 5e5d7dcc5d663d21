package cpu

import (
	"sift/backend"
	"sift/backend/philox"
)

// Dropout sets y to x with each element zeroed with probability P or divided by 1-P.
// Applied to dy with the same Drop it gives dx.
func (r *reference[T]) Dropout(y, x backend.Tensor, d backend.Drop) error {
	ym, xm := view[T](y), view[T](x)
	mask := newMask(d)
	for t := range xm.rows {
		yr, xr := ym.row(t), xm.row(t)
		first := mask.row(t, len(xr))
		for j, v := range xr {
			yr[j] = T(float64(v) * mask.factor(first+uint64(j)))
		}
	}
	return nil
}

// mask tells which elements a Drop keeps. It remembers the last Philox block, since
// four neighbours share one.
type mask struct {
	drop      backend.Drop
	threshold uint32
	kept      float64 // what a kept element is multiplied by
	rowKey    matrix[int32]
	sample    uint64
	block     uint64 // number of the block in words; valid if known
	known     bool
	words     [4]uint32
}

func newMask(d backend.Drop) mask {
	m := mask{drop: d, threshold: philox.Threshold(d.P), kept: 1 / (1 - d.P)}
	if d.P > 0 {
		m.rowKey = view[int32](d.RowKey)
	}
	return m
}

// row turns to the sample of row t and returns the element index of the first of its
// cols columns.
func (m *mask) row(t, cols int) uint64 {
	if m.drop.P == 0 {
		return 0
	}
	key := m.rowKey.row(t)
	m.sample = uint64(uint32(key[2])) | uint64(uint32(key[3]))<<32
	m.known = false
	return uint64(uint32(key[1])) * uint64(cols)
}

// factor returns 0 for a dropped element of the present sample and 1/(1-P) for a kept one.
func (m *mask) factor(element uint64) float64 {
	if m.drop.P == 0 {
		return 1
	}
	if !m.known || m.block != element/4 {
		m.block, m.known = element/4, true
		// The counter of philox.Dropout.
		m.words = philox.Block(philox.Key(m.drop.Seed), [4]uint32{uint32(element / 4),
			m.drop.Site | uint32(m.sample>>32)<<16, m.drop.Update, uint32(m.sample)})
	}
	if m.words[element%4] < m.threshold {
		return 0
	}
	return m.kept
}
