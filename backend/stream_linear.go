package backend

// Gemm sets C to act(Alpha op(A) op(B) + Beta C + bias).
func (s *Stream) Gemm(a GemmArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("gemm")
	m, n, k := a.C.Rows, a.C.Cols, a.A.Cols
	if a.TransA {
		k = a.A.Rows
	}
	// A and B are of one type; C and Pre of that or Float.
	in, out := c.float, c.float
	if a.A.DType == c.act {
		in = c.act
	}
	if a.C.DType == c.act {
		out = in
	}
	c.want("C", a.C, out, m, n)
	if a.TransA {
		c.want("A (transposed)", a.A, in, k, m)
	} else {
		c.want("A", a.A, in, m, k)
	}
	if a.TransB {
		c.want("B (transposed)", a.B, in, n, k)
	} else {
		c.want("B", a.B, in, k, n)
	}
	c.maybe("Bias", a.Bias, c.float, 1, n)
	c.maybe("Pre", a.Pre, out, m, n)
	c.activation(a.Act)
	c.apart("C", a.C, "A", a.A)
	c.apart("C", a.C, "B", a.B)
	c.apart("C", a.C, "Bias", a.Bias)
	c.apart("C", a.C, "Pre", a.Pre)
	c.apart("Pre", a.Pre, "A", a.A)
	c.apart("Pre", a.Pre, "B", a.B)
	c.apart("Pre", a.Pre, "Bias", a.Bias)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Gemm(a))
	}
}

// ColSum adds the sum over the rows of src to dst.
func (s *Stream) ColSum(dst, src Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("column sum")
	c.want("src", src, c.act, src.Rows, src.Cols)
	c.want("dst", dst, c.float, 1, src.Cols)
	c.apart("dst", dst, "src", src)
	if s.ready(&c) {
		s.ran(c.op, s.dev.ColSum(dst, src))
	}
}

// GeluBackward sets dx to dy * act'(pre); dx may be dy.
func (s *Stream) GeluBackward(dx, dy, pre Tensor, act Activation) {
	if s.err != nil {
		return
	}
	c := s.begin("gelu backward")
	c.want("dy", dy, c.act, dy.Rows, dy.Cols)
	c.want("dx", dx, c.act, dy.Rows, dy.Cols)
	c.want("pre", pre, c.act, dy.Rows, dy.Cols)
	c.activation(act)
	c.apartOrSame("dx", dx, "dy", dy)
	c.apart("dx", dx, "pre", pre)
	if s.ready(&c) {
		s.ran(c.op, s.dev.GeluBackward(dx, dy, pre, act))
	}
}

// Tanh sets y to tanh(x).
func (s *Stream) Tanh(y, x Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("tanh")
	c.want("x", x, c.act, x.Rows, x.Cols)
	c.want("y", y, c.act, x.Rows, x.Cols)
	c.apart("y", y, "x", x)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Tanh(y, x))
	}
}

// TanhBackward sets dx to dy * (1 - y^2); dx may be dy.
func (s *Stream) TanhBackward(dx, dy, y Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("tanh backward")
	c.want("dy", dy, c.act, dy.Rows, dy.Cols)
	c.want("dx", dx, c.act, dy.Rows, dy.Cols)
	c.want("y", y, c.act, dy.Rows, dy.Cols)
	c.apartOrSame("dx", dx, "dy", dy)
	c.apart("dx", dx, "y", y)
	if s.ready(&c) {
		s.ran(c.op, s.dev.TanhBackward(dx, dy, y))
	}
}

func (c *checks) activation(act Activation) {
	if act > GeluTanh {
		c.fail("activation %d is unknown", act)
	}
}
