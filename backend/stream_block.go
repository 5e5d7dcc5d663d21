package backend

// LayerNorm sets Z, Y, Mean and Rstd from X and Residual.
func (s *Stream) LayerNorm(a LayerNormArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("layer norm")
	t, h := a.X.Rows, a.X.Cols
	c.want("X", a.X, c.act, t, h)
	c.want("Y", a.Y, c.act, t, h)
	if a.Z.Absent() && (!a.Residual.Absent() || a.Drop.P != 0) {
		c.fail("Z is absent, with residual %s and dropout %g", a.Residual.String(), a.Drop.P)
	}
	c.maybe("Z", a.Z, c.act, t, h)
	c.maybe("Residual", a.Residual, c.act, t, h)
	c.want("Mean", a.Mean, c.float, t, 1)
	c.want("Rstd", a.Rstd, c.float, t, 1)
	c.want("Gamma", a.Gamma, c.float, 1, h)
	c.want("Beta", a.Beta, c.float, 1, h)
	c.drop(a.Drop, t)
	if h == 0 {
		c.fail("rows of X %s are empty", a.X.String())
	}
	c.apart("Y", a.Y, "X", a.X)
	c.apart("Y", a.Y, "Residual", a.Residual)
	c.apart("Y", a.Y, "Z", a.Z)
	c.apart("Z", a.Z, "X", a.X)
	c.apart("Z", a.Z, "Residual", a.Residual)
	c.apart("Mean", a.Mean, "Rstd", a.Rstd)
	if s.ready(&c) {
		s.ran(c.op, s.dev.LayerNorm(a))
	}
}

// LayerNormBackward sets DZ and DX and adds to DGamma and DBeta.
func (s *Stream) LayerNormBackward(a LayerNormBackwardArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("layer norm backward")
	t, h := a.DY.Rows, a.DY.Cols
	c.want("DY", a.DY, c.act, t, h)
	c.want("Z", a.Z, c.act, t, h)
	c.want("DZ", a.DZ, c.act, t, h)
	c.maybe("DX", a.DX, c.act, t, h)
	c.want("Mean", a.Mean, c.float, t, 1)
	c.want("Rstd", a.Rstd, c.float, t, 1)
	c.want("Gamma", a.Gamma, c.float, 1, h)
	c.maybe("DGamma", a.DGamma, c.float, 1, h)
	c.maybe("DBeta", a.DBeta, c.float, 1, h)
	c.drop(a.Drop, t)
	if h == 0 {
		c.fail("rows of DY %s are empty", a.DY.String())
	}
	c.apart("DZ", a.DZ, "DY", a.DY)
	c.apart("DZ", a.DZ, "Z", a.Z)
	c.apart("DZ", a.DZ, "DX", a.DX)
	c.apart("DX", a.DX, "DY", a.DY)
	c.apart("DX", a.DX, "Z", a.Z)
	c.apart("DGamma", a.DGamma, "DBeta", a.DBeta)
	c.apart("DGamma", a.DGamma, "Gamma", a.Gamma)
	if s.ready(&c) {
		s.ran(c.op, s.dev.LayerNormBackward(a))
	}
}

// Attention sets Out and LSE from QKV.
func (s *Stream) Attention(a AttentionArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("attention")
	t, h := a.Out.Rows, a.Out.Cols
	c.heads(a.Heads, h)
	c.want("Out", a.Out, c.act, t, h)
	c.want("LSE", a.LSE, c.float, t, a.Heads)
	c.want("QKV", a.QKV, c.act, t, 3*h)
	c.layout(a.Layout, t)
	c.drop(a.Drop, t)
	c.apart("Out", a.Out, "QKV", a.QKV)
	c.apart("Out", a.Out, "LSE", a.LSE)
	c.apart("LSE", a.LSE, "QKV", a.QKV)
	if s.ready(&c) {
		s.ran(c.op, s.dev.Attention(a))
	}
}

// AttentionBackward sets DQKV; Delta is scratch.
func (s *Stream) AttentionBackward(a AttentionBackwardArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("attention backward")
	t, h := a.DOut.Rows, a.DOut.Cols
	c.heads(a.Heads, h)
	c.want("DOut", a.DOut, c.act, t, h)
	c.want("Out", a.Out, c.act, t, h)
	c.want("LSE", a.LSE, c.float, t, a.Heads)
	c.want("Delta", a.Delta, c.float, t, a.Heads)
	c.want("QKV", a.QKV, c.act, t, 3*h)
	c.want("DQKV", a.DQKV, c.act, t, 3*h)
	c.layout(a.Layout, t)
	c.drop(a.Drop, t)
	c.apart("DQKV", a.DQKV, "QKV", a.QKV)
	c.apart("DQKV", a.DQKV, "DOut", a.DOut)
	c.apart("DQKV", a.DQKV, "Out", a.Out)
	c.apart("DQKV", a.DQKV, "LSE", a.LSE)
	c.apart("DQKV", a.DQKV, "Delta", a.Delta)
	c.apart("Delta", a.Delta, "QKV", a.QKV)
	c.apart("Delta", a.Delta, "DOut", a.DOut)
	c.apart("Delta", a.Delta, "Out", a.Out)
	c.apart("Delta", a.Delta, "LSE", a.LSE)
	if s.ready(&c) {
		s.ran(c.op, s.dev.AttentionBackward(a))
	}
}

func (c *checks) heads(heads, h int) {
	if heads <= 0 || h%heads != 0 {
		c.fail("%d heads do not divide %d columns", heads, h)
	}
}
