package backend

import "sift/fault"

// checks collects the first complaint about the arguments of one call. Its methods do
// nothing once there is one, and allocate nothing while there is none.
type checks struct {
	op    string
	float DType
	act   DType
	err   error
}

// fail records a complaint.
func (c *checks) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fault.New(fault.Internal, c.op+": "+format, args...)
	}
}

// want requires t to be a rows x cols view of the given type that lies in its buffer.
func (c *checks) want(name string, t Tensor, dtype DType, rows, cols int) {
	switch {
	case c.err != nil:
	case t.Absent() || t.DType != dtype || t.Rows != rows || t.Cols != cols:
		c.fail("%s is %s, want %s[%dx%d]", name, t.String(), dtype.String(), rows, cols)
	case !inside(t):
		c.fail("%s is %s at %d with stride %d, outside its buffer of %d bytes", name, t.String(), t.Off, t.Stride, t.Buf.Bytes())
	}
}

// either requires t to be a rows x cols view of Float or of Act.
func (c *checks) either(name string, t Tensor, rows, cols int) {
	if t.DType == c.act {
		c.want(name, t, c.act, rows, cols)
	} else {
		c.want(name, t, c.float, rows, cols)
	}
}

// maybe is want for an argument that may be absent.
func (c *checks) maybe(name string, t Tensor, dtype DType, rows, cols int) {
	if !t.Absent() {
		c.want(name, t, dtype, rows, cols)
	}
}

// apart requires an output to share no element with another argument.
func (c *checks) apart(name string, out Tensor, other string, in Tensor) {
	if c.err == nil && overlap(out, in) {
		c.fail("%s %s overlaps %s %s", name, out.String(), other, in.String())
	}
}

// apartOrSame is apart for an operation that may work in place.
func (c *checks) apartOrSame(name string, out Tensor, other string, in Tensor) {
	if out != in {
		c.apart(name, out, other, in)
	}
}

// contiguous requires t to have no gaps.
func (c *checks) contiguous(name string, t Tensor) {
	if c.err == nil && !t.Contiguous() {
		c.fail("%s %s has stride %d, want it contiguous", name, t.String(), t.Stride)
	}
}

// drop requires a probability in [0,1) and, unless it is 0, the keys of rows rows.
func (c *checks) drop(d Drop, rows int) {
	switch {
	case c.err != nil || d.P == 0:
	case !(d.P > 0 && d.P < 1):
		c.fail("dropout probability %g is not in [0,1)", d.P)
	case d.Site >= 1<<16:
		c.fail("dropout site %d is not below 65536", d.Site)
	default:
		c.want("RowKey", d.RowKey, I32, rows, 4)
	}
}

// layout requires the offsets and key flags of rows rows.
func (c *checks) layout(l Layout, rows int) {
	if c.err == nil && (l.Rows != rows || l.Seqs < 0 || l.MaxLen < 0 || l.MaxLen > rows) {
		c.fail("layout of %d sequences, %d rows, longest %d, for %d rows", l.Seqs, l.Rows, l.MaxLen, rows)
	}
	c.want("Offsets", l.Offsets, I32, 1, l.Seqs+1)
	c.want("KeyValid", l.KeyValid, I32, 1, rows)
}
