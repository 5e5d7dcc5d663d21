package cpu

import (
	"sift/backend"
	"sift/fault"
)

// Zero sets x to 0.
func (r *reference[T]) Zero(x backend.Tensor) error {
	switch x.DType {
	case backend.F32:
		clearRows(view[float32](x))
	case backend.F64:
		clearRows(view[float64](x))
	case backend.I32:
		clearRows(view[int32](x))
	default:
		return fault.New(fault.Internal, "reference: no %s tensors", x.DType)
	}
	return nil
}

func clearRows[E any](x matrix[E]) {
	for i := range x.rows {
		clear(x.row(i))
	}
}

// Copy sets dst to src.
func (r *reference[T]) Copy(dst, src backend.Tensor) error {
	switch src.DType {
	case backend.F32:
		copyRows(view[float32](dst), view[float32](src))
	case backend.F64:
		copyRows(view[float64](dst), view[float64](src))
	case backend.I32:
		copyRows(view[int32](dst), view[int32](src))
	default:
		return fault.New(fault.Internal, "reference: no %s tensors", src.DType)
	}
	return nil
}

// Convert is Copy: this device has one floating type.
func (r *reference[T]) Convert(dst, src backend.Tensor) error { return r.Copy(dst, src) }

func copyRows[E any](dst, src matrix[E]) {
	for i := range src.rows {
		copy(dst.row(i), src.row(i))
	}
}

// Add sets y to y + x.
func (r *reference[T]) Add(y, x backend.Tensor) error {
	ym, xm := view[T](y), view[T](x)
	for i := range xm.rows {
		yr, xr := ym.row(i), xm.row(i)
		for j, v := range xr {
			yr[j] += v
		}
	}
	return nil
}

// GatherRows sets dst_i to src[index_i].
func (r *reference[T]) GatherRows(dst, src, index backend.Tensor) error {
	dm, sm := view[T](dst), view[T](src)
	if dm.rows == 0 {
		return nil
	}
	for i, k := range view[int32](index).row(0) {
		if err := within(i, k, sm.rows); err != nil {
			return err
		}
		copy(dm.row(i), sm.row(int(k)))
	}
	return nil
}

// ScatterAddRows adds src_i to dst[index_i], i ascending.
func (r *reference[T]) ScatterAddRows(dst, src, index backend.Tensor) error {
	dm, sm := view[T](dst), view[T](src)
	if sm.rows == 0 {
		return nil
	}
	for i, k := range view[int32](index).row(0) {
		if err := within(i, k, dm.rows); err != nil {
			return err
		}
		dr := dm.row(int(k))
		for j, v := range sm.row(i) {
			dr[j] += v
		}
	}
	return nil
}

// within requires the i-th of a list of row numbers to be one of n rows.
func within(i int, k int32, n int) error {
	if k < 0 || int(k) >= n {
		return fault.New(fault.Internal, "index %d at %d is outside the table's %d rows", k, i, n)
	}
	return nil
}
