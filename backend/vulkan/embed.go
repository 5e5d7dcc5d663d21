//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

// Embed sets Out_t to Word[IDs_t] + Position[Positions_t] + Type[Types_t]. Tables of more than
// one binding are taken part by part: a dispatch fills the rows whose three indices lie in the
// parts it has.
func (d *device) Embed(a backend.EmbedArgs) error {
	if a.Out.Len() == 0 {
		return nil
	}
	step := d.rows(a.Out)
	words, places, kinds := d.rows(a.Word), d.rows(a.Position), d.rows(a.Type)
	for at := 0; at < a.Out.Rows; at += step {
		n := min(step, a.Out.Rows-at)
		b := a
		b.Out, b.IDs, b.Positions = a.Out.RowRange(at, n), a.IDs.ColRange(at, n), a.Positions.ColRange(at, n)
		if !a.Types.Absent() {
			b.Types = a.Types.ColRange(at, n)
		}
		for i := 0; i < max(a.Word.Rows, 1); i += words {
			b.Word = a.Word.RowRange(i, min(words, a.Word.Rows-i))
			for j := 0; j < max(a.Position.Rows, 1); j += places {
				b.Position = a.Position.RowRange(j, min(places, a.Position.Rows-j))
				for k := 0; k < max(a.Type.Rows, 1); k += kinds {
					if !a.Type.Absent() {
						b.Type = a.Type.RowRange(k, min(kinds, a.Type.Rows-k))
					}
					if err := d.embed(a, b, at, i, j, k); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// embed fills the rows of the block b of a, which begins at row at and has the tables from
// rows word, position and kind on.
func (d *device) embed(a, b backend.EmbedArgs, at, word, position, kind int) error {
	p := d.newPass(b.Out.Rows, b.Out.Cols, wide(b.Out, b.Word, b.Position, b.Type))
	c := d.call("embed", p.local, p.width, flag(!a.Types.Absent()))
	c.write(b.Out)
	c.read(b.IDs)
	c.read(b.Positions)
	c.read(b.Types)
	c.read(b.Word)
	c.read(b.Position)
	c.read(b.Type)
	c.update(d.status)
	c.u32(uint32(word), uint32(b.Word.Rows), uint32(a.Word.Rows))
	c.u32(uint32(position), uint32(b.Position.Rows), uint32(a.Position.Rows))
	c.u32(uint32(kind), uint32(b.Type.Rows), uint32(a.Type.Rows))
	c.u32(uint32(at))
	return p.run(c)
}
