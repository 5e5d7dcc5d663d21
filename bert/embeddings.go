package bert

import "sift/backend"

// embeddings is x_t = dropout(LayerNorm(word[id_t] + position[p_t] + type[y_t])).
type embeddings struct {
	word, position, kind    backend.Tensor // [V,H], [P,H], [Y,H]; kind absent without token types
	dWord, dPosition, dKind backend.Tensor // absent where frozen
	norm                    norm
}

// forward sets x [T,H] and keeps a, whose Z is the sum of the three vectors.
func (l *embeddings) forward(s *backend.Stream, x backend.Tensor, in *inputs, a normActs, d backend.Drop) {
	e := backend.EmbedArgs{Out: a.Z, IDs: in.ids, Positions: in.positions, Word: l.word, Position: l.position}
	if !l.kind.Absent() {
		e.Types, e.Type = in.types, l.kind
	}
	s.Embed(e)
	s.LayerNorm(backend.LayerNormArgs{Y: x, Mean: a.Mean, Rstd: a.Rstd, X: a.Z,
		Gamma: l.norm.Gamma, Beta: l.norm.Beta, Eps: l.norm.Eps})
	if d.P > 0 {
		s.Dropout(x, x, d)
	}
}

// backward adds to the gradients of the tables and of the LayerNorm. dy [T,H] is
// overwritten; dz [T,H] is scratch.
func (l *embeddings) backward(s *backend.Stream, dz, dy backend.Tensor, in *inputs, a normActs, d backend.Drop) {
	if d.P > 0 {
		s.Dropout(dy, dy, d)
	}
	l.norm.backward(s, dz, backend.Tensor{}, dy, a, backend.Drop{})
	if !l.dWord.Absent() {
		s.ScatterAddRows(l.dWord, dz, in.ids)
	}
	if !l.dPosition.Absent() {
		s.ScatterAddRows(l.dPosition, dz, in.positions)
	}
	if !l.dKind.Absent() {
		s.ScatterAddRows(l.dKind, dz, in.types)
	}
}
