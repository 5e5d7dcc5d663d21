package cpu

import (
	"math"

	"sift/backend"
	"sift/fault"
)

// sequences walks a layout: bounds returns the rows of sequence s.
type sequences struct {
	offsets, valid []int32
	rows           int
}

func newSequences(l backend.Layout) sequences {
	q := sequences{rows: l.Rows}
	if l.Rows > 0 {
		q.offsets, q.valid = view[int32](l.Offsets).row(0), view[int32](l.KeyValid).row(0)
	}
	return q
}

func (q sequences) bounds(s int) (first, n int, err error) {
	lo, hi := q.offsets[s], q.offsets[s+1]
	if lo < 0 || hi < lo || int(hi) > q.rows {
		return 0, 0, fault.New(fault.Internal, "sequence %d has rows %d to %d of %d", s, lo, hi, q.rows)
	}
	return int(lo), int(hi - lo), nil
}

// head returns columns of head h among heads of part (0 query, 1 key, 2 value) of a row of QKV.
func head[T any](row []T, part, h, heads int) []T {
	d := len(row) / 3 / heads
	at := (part*heads + h) * d
	return row[at : at+d]
}

// product returns x . y in float64.
func product[T float32 | float64](x, y []T) float64 {
	var s float64
	for i, v := range x {
		s += float64(v) * float64(y[i])
	}
	return s
}

// Attention, for each sequence, head and row i, with j over the valid rows:
//
//	s_j = Scale q_i . k_j,  LSE_i = log sum_j exp s_j,  Out_i = sum_j dropout(exp(s_j - LSE_i)) v_j
//
// No valid row: Out_i = 0 and LSE_i = 0 (Vaswani et al. 2017, equation 1; the log-sum-exp is
// kept as by Dao et al. 2022).
func (r *reference[T]) Attention(a backend.AttentionArgs) error {
	qkv, out, lse := view[T](a.QKV), view[T](a.Out), view[T](a.LSE)
	if out.rows == 0 {
		return nil
	}
	seqs, drop := newSequences(a.Layout), newMask(a.Drop)
	d := out.cols / a.Heads
	for s := range a.Layout.Seqs {
		first, n, err := seqs.bounds(s)
		if err != nil {
			return err
		}
		scratch := r.floats(n + d)
		p, sum := scratch[:n], scratch[n:]
		valid := seqs.valid[first : first+n]
		for h := range a.Heads {
			for i := range n {
				q := head(qkv.row(first+i), 0, h, a.Heads)
				top := math.Inf(-1)
				some := false
				for j, ok := range valid {
					if ok != 0 {
						p[j] = a.Scale * product(q, head(qkv.row(first+j), 1, h, a.Heads))
						top = math.Max(top, p[j])
						some = true
					}
				}
				o := out.row(first + i)[h*d : (h+1)*d]
				if !some {
					clear(o)
					lse.row(first + i)[h] = 0
					continue
				}
				var total float64
				for j, ok := range valid {
					if ok != 0 {
						p[j] = math.Exp(p[j] - top)
						total += p[j]
					}
				}
				drop.row(first+i, 0)
				clear(sum)
				for j, ok := range valid {
					if ok != 0 {
						keep := drop.factor(uint64((h*n+i)*n + j))
						axpy(sum, keep*p[j]/total, head(qkv.row(first+j), 2, h, a.Heads))
					}
				}
				for c, v := range sum {
					o[c] = T(v)
				}
				lse.row(first + i)[h] = T(top + math.Log(total))
			}
		}
	}
	return nil
}

// AttentionBackward, with P_ij = exp(s_j - LSE_i) and m_ij = 0 or 1/(1-P) from dropout:
//
//	Delta_i = DOut_i . Out_i
//	dS_ij = P_ij (m_ij DOut_i . v_j - Delta_i)
//	dq_i = Scale sum_j dS_ij k_j,  dk_j = Scale sum_i dS_ij q_i,  dv_j = sum_i m_ij P_ij DOut_i
func (r *reference[T]) AttentionBackward(a backend.AttentionBackwardArgs) error {
	qkv, dqkv := view[T](a.QKV), view[T](a.DQKV)
	dout, out := view[T](a.DOut), view[T](a.Out)
	lse, delta := view[T](a.LSE), view[T](a.Delta)
	if out.rows == 0 {
		return nil
	}
	seqs, drop := newSequences(a.Layout), newMask(a.Drop)
	d := out.cols / a.Heads
	for s := range a.Layout.Seqs {
		first, n, err := seqs.bounds(s)
		if err != nil {
			return err
		}
		valid := seqs.valid[first : first+n]
		// One head's gradient of the whole sequence: rows of 3d, as QKV of one head.
		sums := r.floats(n * 3 * d)
		for h := range a.Heads {
			clear(sums)
			for i := range n {
				q := head(qkv.row(first+i), 0, h, a.Heads)
				do := dout.row(first + i)[h*d : (h+1)*d]
				l := float64(lse.row(first + i)[h])
				rowDelta := product(do, out.row(first + i)[h*d:(h+1)*d])
				delta.row(first + i)[h] = T(rowDelta)
				drop.row(first+i, 0)
				dq := sums[i*3*d:][:d]
				for j, ok := range valid {
					if ok == 0 {
						continue
					}
					k, v := head(qkv.row(first+j), 1, h, a.Heads), head(qkv.row(first+j), 2, h, a.Heads)
					dk, dv := sums[j*3*d+d:][:d], sums[j*3*d+2*d:][:d]
					keep := drop.factor(uint64((h*n+i)*n + j))
					p := math.Exp(a.Scale*product(q, k) - l)
					ds := a.Scale * p * (keep*product(do, v) - rowDelta)
					axpy(dq, ds, k)
					axpy(dk, ds, q)
					axpy(dv, keep*p, do)
				}
			}
			for i := range n {
				row := dqkv.row(first + i)
				for part := range 3 {
					convert(head(row, part, h, a.Heads), sums[(i*3+part)*d:][:d])
				}
			}
		}
	}
	return nil
}
