package cpu

import "sift/backend"

// Embed sets Out_t to Word[IDs_t] + Position[Positions_t] + Type[Types_t]. Its backward
// pass is three times ScatterAddRows.
func (r *reference[T]) Embed(a backend.EmbedArgs) error {
	out := view[T](a.Out)
	if out.rows == 0 {
		return nil
	}
	word, position, kind := view[T](a.Word), view[T](a.Position), view[T](a.Type)
	ids, positions := view[int32](a.IDs).row(0), view[int32](a.Positions).row(0)
	var kinds []int32
	if !a.Types.Absent() {
		kinds = view[int32](a.Types).row(0)
	}
	for t := range out.rows {
		if err := within(t, ids[t], word.rows); err != nil {
			return err
		}
		if err := within(t, positions[t], position.rows); err != nil {
			return err
		}
		o, w, p := out.row(t), word.row(int(ids[t])), position.row(int(positions[t]))
		if kinds == nil {
			for j := range o {
				o[j] = T(float64(w[j]) + float64(p[j]))
			}
			continue
		}
		if err := within(t, kinds[t], kind.rows); err != nil {
			return err
		}
		y := kind.row(int(kinds[t]))
		for j := range o {
			o[j] = T(float64(w[j]) + float64(p[j]) + float64(y[j]))
		}
	}
	return nil
}
