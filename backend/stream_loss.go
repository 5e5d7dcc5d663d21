package backend

// CrossEntropy sets Loss, Entropy, LSE and Correct from Logits and Labels.
func (s *Stream) CrossEntropy(a CrossEntropyArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("cross-entropy")
	n, v := a.Logits.Rows, a.Logits.Cols
	c.want("Logits", a.Logits, c.float, n, v)
	c.want("Labels", a.Labels, I32, 1, n)
	c.want("Loss", a.Loss, c.float, n, 1)
	c.want("Entropy", a.Entropy, c.float, n, 1)
	c.want("LSE", a.LSE, c.float, n, 1)
	c.want("Correct", a.Correct, c.float, n, 1)
	if v == 0 {
		c.fail("rows of Logits %s are empty", a.Logits.String())
	}
	c.apart("Loss", a.Loss, "Logits", a.Logits)
	c.apart("Entropy", a.Entropy, "Logits", a.Logits)
	c.apart("LSE", a.LSE, "Logits", a.Logits)
	c.apart("Correct", a.Correct, "Logits", a.Logits)
	c.apart("Loss", a.Loss, "Entropy", a.Entropy)
	c.apart("Loss", a.Loss, "LSE", a.LSE)
	c.apart("Loss", a.Loss, "Correct", a.Correct)
	c.apart("Entropy", a.Entropy, "LSE", a.LSE)
	c.apart("Entropy", a.Entropy, "Correct", a.Correct)
	c.apart("LSE", a.LSE, "Correct", a.Correct)
	if s.ready(&c) {
		s.ran(c.op, s.dev.CrossEntropy(a))
	}
}

// CrossEntropyBackward sets DLogits, which may be Logits.
func (s *Stream) CrossEntropyBackward(a CrossEntropyBackwardArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("cross-entropy backward")
	n, v := a.Logits.Rows, a.Logits.Cols
	c.want("Logits", a.Logits, c.float, n, v)
	c.want("DLogits", a.DLogits, c.act, n, v)
	c.want("LSE", a.LSE, c.float, n, 1)
	c.want("Labels", a.Labels, I32, 1, n)
	c.apartOrSame("DLogits", a.DLogits, "Logits", a.Logits)
	c.apart("DLogits", a.DLogits, "LSE", a.LSE)
	if s.ready(&c) {
		s.ran(c.op, s.dev.CrossEntropyBackward(a))
	}
}

// SumSquares sets dst to the sum of the squares of the contiguous x.
func (s *Stream) SumSquares(dst, x Tensor) {
	if s.err != nil {
		return
	}
	c := s.begin("sum of squares")
	c.want("x", x, c.float, x.Rows, x.Cols)
	c.contiguous("x", x)
	c.want("dst", dst, c.float, 1, 1)
	c.apart("dst", dst, "x", x)
	if s.ready(&c) {
		s.ran(c.op, s.dev.SumSquares(dst, x))
	}
}

// AdamW updates Param, M and V in place and sets Grad to zero.
func (s *Stream) AdamW(a AdamWArgs) {
	if s.err != nil {
		return
	}
	c := s.begin("adamw")
	n := a.Param.Cols
	c.want("Param", a.Param, c.float, 1, n)
	c.want("Grad", a.Grad, c.float, 1, n)
	c.want("M", a.M, c.float, 1, n)
	c.want("V", a.V, c.float, 1, n)
	c.maybe("Half", a.Half, c.act, 1, n)
	if !a.Half.Absent() && c.act == c.float {
		c.fail("Half is %s on a device with one type", a.Half.String())
	}
	if (a.ClipNorm != 0 || a.Guard) && a.SumSq.Absent() {
		c.fail("SumSq is absent, with ClipNorm %g", a.ClipNorm)
	}
	if _, ok := s.dev.(Queued); a.Guard && !ok {
		c.fail("Guard on a device that is not Queued")
	}
	if a.SumSq.DType == F64 {
		c.maybe("SumSq", a.SumSq, F64, 1, 1)
	} else {
		c.maybe("SumSq", a.SumSq, c.float, 1, 1)
	}
	if a.Step < 1 || a.ClipNorm < 0 {
		c.fail("step %d, clip norm %g", a.Step, a.ClipNorm)
	}
	c.apart("Param", a.Param, "Grad", a.Grad)
	c.apart("Param", a.Param, "M", a.M)
	c.apart("Param", a.Param, "V", a.V)
	c.apart("Grad", a.Grad, "M", a.M)
	c.apart("Grad", a.Grad, "V", a.V)
	c.apart("M", a.M, "V", a.V)
	c.apart("Half", a.Half, "Param", a.Param)
	c.apart("Half", a.Half, "Grad", a.Grad)
	c.apart("Half", a.Half, "M", a.M)
	c.apart("Half", a.Half, "V", a.V)
	if s.ready(&c) {
		s.ran(c.op, s.dev.AdamW(a))
	}
}
