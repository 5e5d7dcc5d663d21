package backend

// The operations below are those of Kernels, where they are described; here is what
// each requires of its arguments.

// Zero sets x to 0. Any element type.
func (s *Stream) Zero(x Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("zero")
	c.want("x", x, x.DType, x.Rows, x.Cols)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Zero(x))
	}
}

// Copy sets dst to src: same shape and element type, any strides.
func (s *Stream) Copy(dst, src Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("copy")
	c.want("src", src, src.DType, src.Rows, src.Cols)
	c.want("dst", dst, src.DType, src.Rows, src.Cols)
	c.apart("dst", dst, "src", src)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Copy(dst, src))
	}
}

// Add sets y to y + x.
func (s *Stream) Add(y, x Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("add")
	c.either("x", x, x.Rows, x.Cols)
	c.want("y", y, x.DType, x.Rows, x.Cols)
	c.apart("y", y, "x", x)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Add(y, x))
	}
}

// Convert sets dst to src rounded to dst's type; one is Float, the other Act.
func (s *Stream) Convert(dst, src Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("convert")
	c.either("src", src, src.Rows, src.Cols)
	c.either("dst", dst, src.Rows, src.Cols)
	c.apart("dst", dst, "src", src)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Convert(dst, src))
	}
}

// Embed sets Out_t to the sum of the word, position and type vectors of row t.
func (s *Stream) Embed(a EmbedArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("embed")
	t, h := a.Out.Rows, a.Out.Cols
	c.want("Out", a.Out, c.act, t, h)
	c.want("IDs", a.IDs, I32, 1, t)
	c.want("Positions", a.Positions, I32, 1, t)
	c.want("Word", a.Word, c.float, a.Word.Rows, h)
	c.want("Position", a.Position, c.float, a.Position.Rows, h)
	if a.Types.Absent() != a.Type.Absent() {
		c.fail("Types is %s but Type is %s", a.Types.String(), a.Type.String())
	}
	c.maybe("Types", a.Types, I32, 1, t)
	c.maybe("Type", a.Type, c.float, a.Type.Rows, h)
	c.apart("Out", a.Out, "Word", a.Word)
	c.apart("Out", a.Out, "Position", a.Position)
	c.apart("Out", a.Out, "Type", a.Type)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Embed(a))
	}
}

// GatherRows sets dst_i to src[index_i].
func (s *Stream) GatherRows(dst, src, index Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("gather rows")
	c.either("src", src, src.Rows, src.Cols)
	c.want("dst", dst, src.DType, dst.Rows, src.Cols)
	c.want("index", index, I32, 1, dst.Rows)
	c.apart("dst", dst, "src", src)
	if s.ready(&c) {
		s.ran(c.op, s.dev.GatherRows(dst, src, index))
	}
}

// ScatterAddRows adds src_i to dst[index_i], i ascending.
func (s *Stream) ScatterAddRows(dst, src, index Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("scatter-add rows")
	c.want("src", src, c.act, src.Rows, src.Cols)
	c.either("dst", dst, dst.Rows, src.Cols)
	c.want("index", index, I32, 1, src.Rows)
	c.apart("dst", dst, "src", src)
	if s.ready(&c) {
		s.ran(c.op, s.dev.ScatterAddRows(dst, src, index))
	}
}

// Dropout sets y to dropout(x); y may be x.
func (s *Stream) Dropout(y, x Tensor, d Drop) {
	if s.err != nil {
		return
	}
	c := s.begin("dropout")
	c.want("x", x, c.act, x.Rows, x.Cols)
	c.want("y", y, c.act, x.Rows, x.Cols)
	c.drop(d, x.Rows)
	c.apartOrSame("y", y, "x", x)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Dropout(y, x, d))
	}
}
