//go:build cuda && cgo && linux

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/backend/philox"
)

// passage is a sequence of an attention test; its contents follow from these fields and not from its
// place in the batch.
type passage struct {
	n    int
	id   uint64
	mask int // 0: all rows may be attended to; 1: not every third; 2: the first half; 3: none
}

func (q passage) valid(j int) bool {
	return q.mask == 0 || q.mask == 1 && j%3 != 1 || q.mask == 2 && j < (q.n+1)/2
}

// attentionTest is a batch, whose values are rounded to bfloat16 throughout.
type attentionTest struct {
	seqs     []passage
	heads, d int
	drop     float64
}

func (c attentionTest) rows() (rows, longest int) {
	for _, q := range c.seqs {
		rows, longest = rows+q.n, max(longest, q.n)
	}
	return rows, longest
}

func (c attentionTest) scale() float64 { return 1 / math.Sqrt(float64(c.d)) }

func (c attentionTest) dropout() backend.Drop {
	return backend.Drop{P: c.drop, Seed: 77, Site: 3, Update: 5}
}

// values returns each sequence's own numbers, n per row.
func (c attentionTest) values(what uint64, n int) []float64 {
	var v []float64
	for _, q := range c.seqs {
		r := rand.New(rand.NewPCG(q.id, what))
		for range q.n * n {
			v = append(v, asStored(backend.BF16, r.NormFloat64()))
		}
	}
	return v
}

// attentionPlace is how matrices lie in memory: elements between rows and before the first.
type attentionPlace struct{ gap, shift int }

// attentionRun is a batch on a device.
type attentionRun struct {
	t           *testing.T
	dev         backend.Device
	c           attentionTest
	place       attentionPlace
	layout      backend.Layout
	drop        backend.Drop
	act, float  backend.DType
	allocations []backend.Tensor
}

func (r *attentionRun) matrix(dtype backend.DType, rows, cols int, values []float64) backend.Tensor {
	r.t.Helper()
	b, err := r.dev.Alloc(int64(dtype.Size() * (r.place.shift + rows*(cols+r.place.gap) + 8)))
	if err != nil {
		r.t.Fatal(err)
	}
	x := backend.Tensor{Buf: b, Off: r.place.shift, Rows: rows, Cols: cols, Stride: cols + r.place.gap, DType: dtype}
	r.allocations = append(r.allocations, x)
	for i := range rows {
		row := make([]float64, cols)
		for j := range row {
			row[j] = math.NaN()
		}
		if values != nil {
			row = values[i*cols : (i+1)*cols]
		}
		if err := r.dev.UploadF64(x.RowRange(i, 1), row); err != nil {
			r.t.Fatal(err)
		}
	}
	return x
}

func (r *attentionRun) ints(rows, cols int, values []int32) backend.Tensor {
	r.t.Helper()
	x, err := backend.Alloc(r.dev, backend.I32, rows, cols)
	if err == nil {
		err = r.dev.UploadI32(x, values)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.allocations = append(r.allocations, x)
	return x
}

func (r *attentionRun) fetch(x backend.Tensor) []float64 {
	r.t.Helper()
	v := make([]float64, x.Rows*x.Cols)
	for i := range x.Rows {
		if err := r.dev.DownloadF64(v[i*x.Cols:(i+1)*x.Cols], x.RowRange(i, 1)); err != nil {
			r.t.Fatal(err)
		}
	}
	return v
}

func startAttention(t *testing.T, dev backend.Device, c attentionTest, place attentionPlace) *attentionRun {
	t.Helper()
	r := &attentionRun{t: t, dev: dev, c: c, place: place, act: dev.Info().Activations(), float: dev.Info().Float, drop: c.dropout()}
	offsets, valid, keys := []int32{0}, []int32(nil), []int32(nil)
	for s, q := range c.seqs {
		for j := range q.n {
			ok := int32(0)
			if q.valid(j) {
				ok = 1
			}
			valid = append(valid, ok)
			keys = append(keys, int32(s), int32(j), int32(uint32(q.id)), int32(q.id>>32))
		}
		offsets = append(offsets, int32(len(valid)))
	}
	rows, longest := c.rows()
	r.layout = backend.Layout{Seqs: len(c.seqs), Rows: rows, MaxLen: longest, Offsets: r.ints(1, len(offsets), offsets),
		KeyValid: r.ints(1, rows, valid), RowKey: r.ints(rows, 4, keys)}
	r.drop.RowKey = r.layout.RowKey
	return r
}

func (r *attentionRun) free() {
	for _, x := range r.allocations {
		if err := x.Buf.Free(); err != nil {
			r.t.Error(err)
		}
	}
}

// forward returns Out and LSE.
func (c attentionTest) forward(t *testing.T, dev backend.Device, place attentionPlace) (out, lse []float64) {
	t.Helper()
	r := startAttention(t, dev, c, place)
	defer r.free()
	rows, _ := c.rows()
	h := c.heads * c.d
	a := backend.AttentionArgs{Out: r.matrix(r.act, rows, h, nil), LSE: r.matrix(r.float, rows, c.heads, nil),
		QKV: r.matrix(r.act, rows, 3*h, c.values(1, 3*h)), Layout: r.layout, Heads: c.heads, Scale: c.scale(), Drop: r.drop}
	s := backend.NewStream(dev)
	s.Attention(a)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return r.fetch(a.Out), r.fetch(a.LSE)
}

// backward returns DQKV, given what forward returned.
func (c attentionTest) backward(t *testing.T, dev backend.Device, place attentionPlace, out, lse []float64) []float64 {
	t.Helper()
	r := startAttention(t, dev, c, place)
	defer r.free()
	rows, _ := c.rows()
	h := c.heads * c.d
	a := backend.AttentionBackwardArgs{DQKV: r.matrix(r.act, rows, 3*h, nil), Delta: r.matrix(r.float, rows, c.heads, nil),
		DOut: r.matrix(r.act, rows, h, c.values(2, h)), Out: r.matrix(r.act, rows, h, out), LSE: r.matrix(r.float, rows, c.heads, lse),
		QKV: r.matrix(r.act, rows, 3*h, c.values(1, 3*h)), Layout: r.layout, Heads: c.heads, Scale: c.scale(), Drop: r.drop}
	s := backend.NewStream(dev)
	s.AttentionBackward(a)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return r.fetch(a.DQKV)
}

// limits returns how far Out and DQKV may be off. With u = 2^-8, the largest relative error of rounding to
// bfloat16, and e for everything in float32:
//
//	Out:  sum_j m P |v|  times u for P, u for the result, e
//	dv:   sum_i m P |DOut|  likewise
//	dq:   scale sum_j |dS| |k| times u for dS and u for the result; scale sum_j P (m |dP| + |Delta|) |k| times e; dk likewise
func (c attentionTest) limits(outs, lse []float64) (out, dqkv []float64) {
	const u = 0x1p-8
	h := c.heads * c.d
	qkv, douts := c.values(1, 3*h), c.values(2, h)
	out, dqkv = make([]float64, len(outs)), make([]float64, len(qkv))
	first := 0
	for _, q := range c.seqs {
		for head := range c.heads {
			part := func(x []float64, cols, row, p int) []float64 {
				return x[(first+row)*cols+p*h+head*c.d:][:c.d]
			}
			dot := func(x, y []float64) (s, size float64) {
				for i, v := range x {
					s += v * y[i]
					size += math.Abs(v * y[i])
				}
				return s, size
			}
			add := func(x []float64, f float64, y []float64) {
				for i, v := range y {
					x[i] += f * math.Abs(v)
				}
			}
			for i := range q.n {
				delta, _ := dot(part(douts, h, i, 0), part(outs, h, i, 0))
				for j := range q.n {
					if !q.valid(j) {
						continue
					}
					s, size := dot(part(qkv, 3*h, i, 0), part(qkv, 3*h, j, 1))
					l := lse[(first+i)*c.heads+head]
					p := math.Exp(c.scale()*s - l)
					e := 0x1p-20 * (4 + math.Abs(l) + c.scale()*size)
					keep := 1.0
					if d := c.dropout(); d.P > 0 {
						keep = 1 / (1 - d.P)
						if philox.Dropout(d.Seed, d.Site, d.Update, q.id, uint64((head*q.n+i)*q.n+j)) < philox.Threshold(d.P) {
							keep = 0
						}
					}
					add(part(out, h, i, 0), keep*p*(2*u+e), part(qkv, 3*h, j, 2))
					add(part(dqkv, 3*h, j, 2), keep*p*(2*u+e), part(douts, h, i, 0))
					dp, _ := dot(part(douts, h, i, 0), part(qkv, 3*h, j, 2))
					f := c.scale() * p * (2*u*math.Abs(keep*dp-delta) + e*(keep*math.Abs(dp)+math.Abs(delta)))
					add(part(dqkv, 3*h, i, 0), f, part(qkv, 3*h, j, 1))
					add(part(dqkv, 3*h, j, 1), f, part(qkv, 3*h, i, 0))
				}
			}
		}
		first += q.n
	}
	return out, dqkv
}

// within compares with what is wanted and returns the largest share of the limit.
func within(t *testing.T, what string, got, want, limit []float64) (worst float64) {
	t.Helper()
	for i, w := range want {
		off := math.Abs(got[i] - w)
		if !(off <= limit[i]) {
			t.Errorf("%s[%d] is %g, want %g: off by %.3g, allowed %.3g", what, i, got[i], w, off, limit[i])
			return math.Inf(1)
		}
		if limit[i] > 0 {
			worst = max(worst, off/limit[i])
		}
	}
	return worst
}

func sameBits(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i, w := range want {
		if math.Float64bits(got[i]) != math.Float64bits(w) {
			t.Errorf("%s: element %d is %g, %g otherwise", what, i, got[i], w)
			return
		}
	}
}

func attentionTests() []attentionTest {
	var mixed []passage
	for i, n := range []int{1, 7, 16, 33, 64, 128, 130} {
		mixed = append(mixed, passage{n, uint64(i) + 1<<33, 0})
	}
	holes := []passage{{33, 5, 1}, {0, 6, 0}, {130, 7, 1}, {17, 8, 3}, {65, 9, 2}, {1, 10, 3}, {127, 11, 2}}
	return []attentionTest{
		{mixed, 2, 64, 0},
		{mixed, 2, 64, 0.1},
		{holes, 2, 64, 0},
		{holes, 2, 64, 0.5},
		{mixed, 3, 32, 0},
		{holes, 3, 32, 0.1},
		// So many heads that a block of the forward pass owns 128 queries, but not for one sequence alone.
		{[]passage{{66, 3, 1}, {70, 4, 0}}, 108, 32, 0.1},
		{[]passage{{66, 3, 1}, {70, 4, 0}}, 108, 32, 0},
		{[]passage{{66, 3, 1}, {70, 4, 0}}, 108, 64, 0.1},
		{[]passage{{66, 3, 1}, {70, 4, 0}}, 108, 64, 0},
		// Heads without a kernel on tensor cores.
		{holes, 1, 24, 0.1},
		{[]passage{{33, 5, 1}, {17, 8, 0}}, 1, 100, 0.1},
		{[]passage{{33, 5, 1}, {17, 8, 0}}, 1, 256, 0},
	}
}

func (c attentionTest) String() string {
	rows, _ := c.rows()
	return fmt.Sprintf("%d rows, %d heads of %d, dropout %g", rows, c.heads, c.d, c.drop)
}

// TestAttentionBF16 compares both passes between bfloat16 matrices with the float64 reference on the same
// numbers; and bit by bit with themselves in memory that is not aligned, and for each
// sequence alone.
func TestAttentionBF16(t *testing.T) {
	d, ref := opened(t, backend.BF16), cpu.NewReference(backend.F64)
	for _, c := range attentionTests() {
		t.Run(c.String(), func(t *testing.T) {
			out, lse := c.forward(t, d, attentionPlace{8, 8})
			grad := c.backward(t, d, attentionPlace{8, 8}, out, lse)
			wantOut, wantLSE := c.forward(t, ref, attentionPlace{})
			wantGrad := c.backward(t, ref, attentionPlace{}, out, lse)
			limitOut, limitGrad := c.limits(out, lse)
			limitLSE := make([]float64, len(lse))
			for i, l := range wantLSE {
				if l != 0 {
					limitLSE[i] = 0x1p-20 * (1 + math.Abs(l))
				}
			}
			t.Logf("largest share of the limit: Out %.2f, LSE %.2f, DQKV %.2f", within(t, "Out", out, wantOut, limitOut),
				within(t, "LSE", lse, wantLSE, limitLSE), within(t, "DQKV", grad, wantGrad, limitGrad))

			odd := attentionPlace{5, 3}
			oddOut, oddLSE := c.forward(t, d, odd)
			sameBits(t, "Out, not aligned", oddOut, out)
			sameBits(t, "LSE, not aligned", oddLSE, lse)
			sameBits(t, "DQKV, not aligned", c.backward(t, d, odd, out, lse), grad)
			h, first := c.heads*c.d, 0
			for s, q := range c.seqs {
				part := func(x []float64, cols int) []float64 { return x[first*cols : (first+q.n)*cols] }
				alone := c
				alone.seqs = []passage{q}
				o, l := alone.forward(t, d, attentionPlace{})
				sameBits(t, fmt.Sprintf("Out, sequence %d alone", s), o, part(out, h))
				sameBits(t, fmt.Sprintf("LSE, sequence %d alone", s), l, part(lse, c.heads))
				sameBits(t, fmt.Sprintf("DQKV, sequence %d alone", s), alone.backward(t, d, attentionPlace{}, o, l), part(grad, 3*h))
				first += q.n
			}
		})
	}
	for name := range entries {
		if strings.HasPrefix(name, "attention") && strings.HasSuffix(name, "_bf16") && !strings.HasSuffix(name, "any_bf16") && d.kernels[name] == nil {
			t.Errorf("%s was not used", name)
		}
	}
}
