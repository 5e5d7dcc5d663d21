//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import (
	"sift/backend"
	"sift/fault"
)

// The lanes of an attention kernel that share rows (LANES in shaders/attention_begin.glsl).
const attentionLanes = 8

// attentionTile is how a workgroup of an attention kernel goes about its rows.
type attentionTile struct {
	local  int  // invocations
	rows   int  // per invocation, a multiple of 4: a workgroup has local / attentionLanes times as many
	side   int  // rows of a tile per lane, a multiple of 4
	direct bool // tiles are read where they are, not from shared memory
}

func (t attentionTile) block() int { return t.local / attentionLanes * t.rows }

// shared returns the bytes of shared memory that an attention kernel takes for heads of d
// columns, of which it keeps own matrices of the block's rows: the declarations of shaders
// attention, attention_dq and attention_dkv, rounded up.
func (t attentionTile) shared(d, own int) int {
	stride, tile, block := (d+3)/4*4+4, t.side*attentionLanes, t.block()
	words := own*block*stride + block*(tile+4) + block*attentionLanes + tile + (tile+4)*(block/4+1)
	if !t.direct {
		words += tile * stride
	}
	return words * 4
}

// attentionTile chooses for heads of d columns. On a CPU driver a workgroup is one vector of
// lanes with as many rows as pay, and reads tiles in place; small tiles do for odd heads and
// unaligned rows, which are rare, and take the driver a tenth of the time to compile. The
// length of a tile follows from d alone: it shows in the bits of a sum.
func (d *device) attentionTile(cols, own int, vector bool) (attentionTile, error) {
	t := attentionTile{local: 64, rows: 4, side: 4}
	if d.caps.cpu {
		t = attentionTile{local: attentionLanes, rows: 4, side: 4, direct: true}
		if cols%32 == 0 {
			t.side = 8
			switch {
			case vector && cols <= 64:
				t.rows = 16
			case vector:
				t.rows = 8
			}
		}
	}
	t.local = min(t.local, d.caps.maxInvocations/attentionLanes*attentionLanes)
	for t.shared(cols, own) > d.caps.sharedBytes {
		switch {
		case t.side > 4:
			t.side /= 2
		case t.local > 2*attentionLanes:
			t.local /= 2
		case !t.direct:
			t.direct = true
		case t.rows > 4:
			t.rows /= 2
		default:
			return t, fault.New(fault.Device, "vulkan: attention heads of %d columns do not fit %d bytes of shared memory; --device cpu has no such limit", cols, d.caps.sharedBytes)
		}
	}
	return t, nil
}

// attentionWindow is a part of the rows that fits the bindings, for sequences that begin at
// rows first .. next - 1, all of which end in it.
type attentionWindow struct{ first, rows, next int }

// attentionWindows calls f for windows over the layout's rows that have every sequence in
// exactly one, and for each with the sequences seqs .. seqs + n - 1, as many as a dispatch
// takes. fit is how many rows fit the bindings. Where sequences begin is known to the device
// alone, so windows overlap by the longest one, and each dispatch leaves alone what is not its.
func (d *device) attentionWindows(l backend.Layout, fit int, f func(w attentionWindow, seqs, n int) error) error {
	fit = min(fit, d.cols(l.KeyValid))
	if fit < l.MaxLen {
		return fault.New(fault.Device, "vulkan: %d rows of attention are more than this device binds at once (%d bytes)", l.MaxLen, d.caps.maxRange)
	}
	step := min(d.cols(l.Offsets)-1, d.caps.maxGroups)
	for first := 0; first < l.Rows; {
		w := attentionWindow{first: first, rows: min(fit, l.Rows-first)}
		w.next = first + w.rows - l.MaxLen + 1
		if first+w.rows == l.Rows {
			w.next = l.Rows
		}
		for s := 0; s < l.Seqs; s += step {
			if err := f(w, s, min(step, l.Seqs-s)); err != nil {
				return err
			}
		}
		first = w.next
	}
	return nil
}

// layout appends the operands and constants that all attention kernels end with.
func (c *call) layout(l backend.Layout, drop backend.Drop, scale float64, w attentionWindow, seqs, n int) {
	c.read(l.Offsets.ColRange(seqs, n+1))
	c.read(l.KeyValid.ColRange(w.first, w.rows))
	key := drop.RowKey
	if drop.P == 0 {
		key = backend.Tensor{}
	}
	c.read(rowsOf(key, w.first, w.rows))
	c.update(c.dev.status)
	c.drop(drop)
	c.u32(uint32(seqs), uint32(w.first), uint32(w.next), uint32(l.Rows), uint32(l.MaxLen))
	c.f32(scale)
}

// attentionCall begins a call of one of the kernels.
func (d *device) attentionCall(name string, t attentionTile, cols int, vector bool, drop backend.Drop) *call {
	return d.call(name, uint32(t.local), uint32(cols), uint32(t.rows), uint32(t.side/4), flag(vector), flag(drop.P > 0), flag(t.direct))
}

// Attention, for each sequence, head and row i, with j over the valid rows:
//
//	s_j = Scale q_i . k_j,  LSE_i = log sum_j exp s_j,  Out_i = sum_j dropout(exp(s_j - LSE_i)) v_j
//
// No valid row: Out_i = 0 and LSE_i = 0 (Vaswani et al. 2017, equation 1, in tiles of keys as
// by Dao et al. 2022).
func (d *device) Attention(a backend.AttentionArgs) error {
	if a.Out.Len() == 0 || a.Layout.Seqs == 0 || a.Layout.MaxLen == 0 {
		return nil
	}
	cols := a.Out.Cols / a.Heads
	vector := cols%4 == 0 && aligned(a.Out) && aligned(a.QKV)
	t, err := d.attentionTile(cols, 1, vector)
	if err != nil {
		return err
	}
	return d.attentionWindows(a.Layout, d.rows(a.Out, a.LSE, a.QKV, a.Drop.RowKey), func(w attentionWindow, seqs, n int) error {
		c := d.attentionCall("attention", t, cols, vector, a.Drop)
		c.write(a.Out.RowRange(w.first, w.rows))
		c.write(a.LSE.RowRange(w.first, w.rows))
		c.read(a.QKV.RowRange(w.first, w.rows))
		c.layout(a.Layout, a.Drop, a.Scale, w, seqs, n)
		return c.dispatch((a.Layout.MaxLen+t.block()-1)/t.block(), a.Heads, n)
	})
}

// AttentionBackward, with P_ij = exp(s_j - LSE_i) and m_ij = 0 or 1/(1-P) from dropout:
//
//	Delta_i = DOut_i . Out_i
//	dS_ij = P_ij (m_ij DOut_i . v_j - Delta_i)
//	dq_i = Scale sum_j dS_ij k_j,  dk_j = Scale sum_i dS_ij q_i,  dv_j = sum_i m_ij P_ij DOut_i
//
// The first dispatch has the queries' gradient and Delta, the second the keys' and values':
// each sum lies within one workgroup, in a fixed order, at the price of computing P twice.
func (d *device) AttentionBackward(a backend.AttentionBackwardArgs) error {
	if a.DOut.Len() == 0 || a.Layout.Seqs == 0 || a.Layout.MaxLen == 0 {
		return nil
	}
	cols := a.DOut.Cols / a.Heads
	vector := cols%4 == 0 && aligned(a.DQKV) && aligned(a.DOut) && aligned(a.Out) && aligned(a.QKV)
	t, err := d.attentionTile(cols, 2, vector)
	if err != nil {
		return err
	}
	blocks := (a.Layout.MaxLen + t.block() - 1) / t.block()
	return d.attentionWindows(a.Layout, d.rows(a.DQKV, a.Delta, a.DOut, a.Out, a.LSE, a.QKV, a.Drop.RowKey), func(w attentionWindow, seqs, n int) error {
		c := d.attentionCall("attention_dq", t, cols, vector, a.Drop)
		c.write(a.DQKV.RowRange(w.first, w.rows))
		c.write(a.Delta.RowRange(w.first, w.rows))
		c.read(a.DOut.RowRange(w.first, w.rows))
		c.read(a.Out.RowRange(w.first, w.rows))
		c.read(a.LSE.RowRange(w.first, w.rows))
		c.read(a.QKV.RowRange(w.first, w.rows))
		c.layout(a.Layout, a.Drop, a.Scale, w, seqs, n)
		if err := c.dispatch(blocks, a.Heads, n); err != nil {
			return err
		}
		c = d.attentionCall("attention_dkv", t, cols, vector, a.Drop)
		c.write(a.DQKV.RowRange(w.first, w.rows))
		c.read(a.Delta.RowRange(w.first, w.rows))
		c.read(a.DOut.RowRange(w.first, w.rows))
		c.read(a.LSE.RowRange(w.first, w.rows))
		c.read(a.QKV.RowRange(w.first, w.rows))
		c.layout(a.Layout, a.Drop, a.Scale, w, seqs, n)
		return c.dispatch(blocks, a.Heads, n)
	})
}
