package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/backend/philox"
)

// The tests below hold the float64 reference against each operation's definition in
// backend.go, written with nested loops over plain slices. Gradients are not here: the
// conformance suite holds them against finite differences.

// table is a host matrix and its copy on the device.
type table struct {
	rows, cols int
	v          []float64
	t          backend.Tensor
}

func (m *table) at(i, j int) float64 { return m.v[i*m.cols+j] }

// bed makes tables on one device.
type bed struct {
	t   *testing.T
	s   *backend.Stream
	rng *rand.Rand
}

func newBed(t *testing.T) *bed {
	return &bed{t, backend.NewStream(cpu.NewReference(backend.F64)), rand.New(rand.NewPCG(1, 2))}
}

// normal makes a matrix of random numbers.
func (b *bed) normal(rows, cols int) *table {
	v := make([]float64, rows*cols)
	for i := range v {
		v[i] = b.rng.NormFloat64()
	}
	return b.floats(rows, cols, v)
}

func (b *bed) floats(rows, cols int, v []float64) *table {
	b.t.Helper()
	x, err := backend.Alloc(b.s.Device(), backend.F64, rows, cols)
	if err == nil {
		err = b.s.UploadF64(x, v)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return &table{rows, cols, v, x}
}

func (b *bed) ints(rows, cols int, v ...int32) backend.Tensor {
	b.t.Helper()
	x, err := backend.Alloc(b.s.Device(), backend.I32, rows, cols)
	if err == nil {
		err = b.s.UploadI32(x, v)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// want downloads m and compares it, element by element, with f.
func (b *bed) want(name string, m *table, f func(i, j int) float64) {
	b.t.Helper()
	got := make([]float64, m.rows*m.cols)
	if err := b.s.DownloadF64(got, m.t); err != nil {
		b.t.Fatal(err)
	}
	for i := range m.rows {
		for j := range m.cols {
			if g, w := got[i*m.cols+j], f(i, j); !(math.Abs(g-w) <= 1e-13*(1+math.Abs(w))) {
				b.t.Fatalf("%s[%d,%d] = %.17g, want %.17g", name, i, j, g, w)
			}
		}
	}
}

func gelu(act backend.Activation, x float64) float64 {
	switch act {
	case backend.GeluErf:
		return x / 2 * (1 + math.Erf(x/math.Sqrt(2)))
	case backend.GeluTanh:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	return x
}

func TestReferenceGemm(t *testing.T) {
	b := newBed(t)
	const m, n, k = 4, 5, 3
	for form := range 4 {
		for _, act := range []backend.Activation{backend.Linear, backend.GeluErf, backend.GeluTanh} {
			ta, tb := form&1 != 0, form&2 != 0
			left, right, c, bias, pre := b.normal(m, k), b.normal(k, n), b.normal(m, n), b.normal(1, n), b.normal(m, n)
			a := func(i, p int) float64 { return left.at(i, p) }
			w := func(p, j int) float64 { return right.at(p, j) }
			if ta {
				left = b.normal(k, m)
				a = func(i, p int) float64 { return left.at(p, i) }
			}
			if tb {
				right = b.normal(n, k)
				w = func(p, j int) float64 { return right.at(j, p) }
			}
			b.s.Gemm(backend.GemmArgs{C: c.t, A: left.t, B: right.t, TransA: ta, TransB: tb, Alpha: 1.5, Beta: -0.5, Bias: bias.t, Act: act, Pre: pre.t})
			value := func(i, j int) float64 {
				v := -0.5*c.at(i, j) + bias.at(0, j)
				for p := range k {
					v += 1.5 * a(i, p) * w(p, j)
				}
				return v
			}
			name := fmt.Sprintf("form %d act %d: ", form, act)
			b.want(name+"Pre", pre, value)
			b.want(name+"C", c, func(i, j int) float64 { return gelu(act, value(i, j)) })
		}
	}
}

// TestReferenceGelu: GELU(1) is the normal distribution at 1; the tanh form's value is
// the one published with it.
func TestReferenceGelu(t *testing.T) {
	b := newBed(t)
	one, c := b.floats(1, 1, []float64{1}), b.floats(1, 1, []float64{0})
	for act, want := range map[backend.Activation]float64{backend.GeluErf: 0.8413447460685429, backend.GeluTanh: 0.8411919906082768} {
		b.s.Gemm(backend.GemmArgs{C: c.t, A: one.t, B: one.t, Alpha: 1, Act: act})
		b.want("GELU(1)", c, func(int, int) float64 { return want })
	}
}

func TestReferenceRows(t *testing.T) {
	b := newBed(t)
	x := b.normal(4, 3)
	index := []int32{2, 0, 2, 3, 2}
	dst := b.normal(5, 3)
	b.s.GatherRows(dst.t, x.t, b.ints(1, 5, index...))
	b.want("gathered", dst, func(i, j int) float64 { return x.at(int(index[i]), j) })

	sum, src := b.normal(4, 3), b.normal(5, 3)
	b.s.ScatterAddRows(sum.t, src.t, b.ints(1, 5, index...))
	b.want("scattered", sum, func(i, j int) float64 {
		v := sum.at(i, j)
		for k, to := range index {
			if int(to) == i {
				v += src.at(k, j)
			}
		}
		return v
	})

	cols := b.normal(1, 3)
	b.s.ColSum(cols.t, x.t)
	b.want("column sum", cols, func(_, j int) float64 {
		return cols.at(0, j) + x.at(0, j) + x.at(1, j) + x.at(2, j) + x.at(3, j)
	})

	word, position, kind, out := b.normal(6, 3), b.normal(7, 3), b.normal(2, 3), b.normal(2, 3)
	b.s.Embed(backend.EmbedArgs{Out: out.t, IDs: b.ints(1, 2, 5, 1), Positions: b.ints(1, 2, 3, 6), Types: b.ints(1, 2, 1, 0),
		Word: word.t, Position: position.t, Type: kind.t})
	b.want("embedding", out, func(i, j int) float64 {
		return word.at([]int{5, 1}[i], j) + position.at([]int{3, 6}[i], j) + kind.at([]int{1, 0}[i], j)
	})

	square := b.normal(1, 1)
	b.s.SumSquares(square.t, x.t)
	b.want("sum of squares", square, func(int, int) float64 {
		v := 0.0
		for _, x := range x.v {
			v += x * x
		}
		return v
	})
}

// keys is the RowKey of two sequences of 3 and 2 rows, one beyond 32 bits.
var (
	keySamples = []uint64{1<<40 + 3, 1<<32 - 1}
	keyRows    = [][2]int{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}}
)

func (b *bed) drop(p float64) backend.Drop {
	var keys []int32
	for _, r := range keyRows {
		id := keySamples[r[0]]
		keys = append(keys, int32(r[0]), int32(r[1]), int32(uint32(id)), int32(uint32(id>>32)))
	}
	return backend.Drop{P: p, Seed: 99, Site: 7, Update: 3, RowKey: b.ints(5, 4, keys...)}
}

// factor is what dropout multiplies an element with.
func factor(d backend.Drop, sample uint64, element int) float64 {
	if philox.Dropout(d.Seed, d.Site, d.Update, sample, uint64(element)) < philox.Threshold(d.P) {
		return 0
	}
	return 1 / (1 - d.P)
}

func TestReferenceDropoutAndLayerNorm(t *testing.T) {
	b := newBed(t)
	const h = 6
	d := b.drop(0.4)
	x, residual, y, z := b.normal(5, h), b.normal(5, h), b.normal(5, h), b.normal(5, h)
	dropped := func(i, j int) float64 { return x.at(i, j) * factor(d, keySamples[keyRows[i][0]], keyRows[i][1]*h+j) }
	b.s.Dropout(y.t, x.t, d)
	b.want("dropout", y, dropped)

	gamma, beta, mean, rstd := b.normal(1, h), b.normal(1, h), b.normal(5, 1), b.normal(5, 1)
	b.s.LayerNorm(backend.LayerNormArgs{Y: y.t, Z: z.t, Mean: mean.t, Rstd: rstd.t, X: x.t, Residual: residual.t, Gamma: gamma.t, Beta: beta.t, Eps: 0.01, Drop: d})
	sum := func(i, j int) float64 { return dropped(i, j) + residual.at(i, j) }
	moment := func(i int) (m, v float64) {
		for j := range h {
			m += sum(i, j) / h
		}
		for j := range h {
			v += (sum(i, j) - m) * (sum(i, j) - m) / h
		}
		return m, v
	}
	b.want("Z", z, sum)
	b.want("Mean", mean, func(i, _ int) float64 { m, _ := moment(i); return m })
	b.want("Rstd", rstd, func(i, _ int) float64 { _, v := moment(i); return 1 / math.Sqrt(v+0.01) })
	b.want("Y", y, func(i, j int) float64 {
		m, v := moment(i)
		return (sum(i, j)-m)/math.Sqrt(v+0.01)*gamma.at(0, j) + beta.at(0, j)
	})
}

// TestReferenceAttention writes the probabilities out as a matrix, masked scores at minus
// infinity, as a padded framework does.
func TestReferenceAttention(t *testing.T) {
	b := newBed(t)
	const heads, d, h = 2, 3, 6
	drop := b.drop(0.4)
	qkv, out, lse := b.normal(5, 3*h), b.normal(5, h), b.normal(5, heads)
	valid := []int32{1, 0, 1, 1, 1}
	l := backend.Layout{Seqs: 2, Rows: 5, MaxLen: 3, Offsets: b.ints(1, 3, 0, 3, 5), KeyValid: b.ints(1, 5, valid...), RowKey: drop.RowKey}
	b.s.Attention(backend.AttentionArgs{Out: out.t, LSE: lse.t, QKV: qkv.t, Layout: l, Heads: heads, Scale: 0.7, Drop: drop})
	// weights returns the exponentials of row t's scores in a head and their sum.
	weights := func(t, head int) (w []float64, total float64) {
		for j := range 5 {
			score := math.Inf(-1)
			if valid[j] == 1 && keyRows[j][0] == keyRows[t][0] {
				score = 0
				for c := range d {
					score += 0.7 * qkv.at(t, head*d+c) * qkv.at(j, h+head*d+c)
				}
			}
			w = append(w, math.Exp(score))
			total += w[j]
		}
		return w, total
	}
	b.want("LSE", lse, func(t, head int) float64 { _, total := weights(t, head); return math.Log(total) })
	b.want("Out", out, func(t, col int) float64 {
		head := col / d
		w, total := weights(t, head)
		n := []int{3, 2}[keyRows[t][0]]
		v := 0.0
		for j := range 5 {
			if w[j] > 0 {
				element := (head*n+keyRows[t][1])*n + keyRows[j][1]
				v += w[j] / total * factor(drop, keySamples[keyRows[t][0]], element) * qkv.at(j, 2*h+col)
			}
		}
		return v
	})
}

func TestReferenceCrossEntropy(t *testing.T) {
	b := newBed(t)
	const n, v = 4, 5
	x := b.normal(n, v)
	loss, entropy, lse, correct := b.normal(n, 1), b.normal(n, 1), b.normal(n, 1), b.normal(n, 1)
	labels := []int32{0, 4, -100, 2}
	b.s.CrossEntropy(backend.CrossEntropyArgs{Loss: loss.t, Entropy: entropy.t, LSE: lse.t, Correct: correct.t, Logits: x.t, Labels: b.ints(1, n, labels...)})
	total := func(i int) (z float64) {
		for j := range v {
			z += math.Exp(x.at(i, j))
		}
		return z
	}
	b.want("LSE", lse, func(i, _ int) float64 { return math.Log(total(i)) })
	b.want("Loss", loss, func(i, _ int) float64 {
		if labels[i] < 0 {
			return 0
		}
		return -math.Log(math.Exp(x.at(i, int(labels[i]))) / total(i))
	})
	b.want("Entropy", entropy, func(i, _ int) (e float64) {
		for j := range v {
			p := math.Exp(x.at(i, j)) / total(i)
			e -= p * math.Log(p)
		}
		return e
	})
	b.want("Correct", correct, func(i, _ int) float64 {
		for j := range v {
			if labels[i] < 0 || x.at(i, j) > x.at(i, int(labels[i])) {
				return 0
			}
		}
		return 1
	})
}

// TestReferenceRefusesIndices: an index outside its table is an error, not a panic.
func TestReferenceRefusesIndices(t *testing.T) {
	for name, call := range map[string]func(b *bed, bad int32){
		"embed": func(b *bed, bad int32) {
			b.s.Embed(backend.EmbedArgs{Out: b.normal(1, 2).t, IDs: b.ints(1, 1, bad), Positions: b.ints(1, 1, 0), Word: b.normal(3, 2).t, Position: b.normal(3, 2).t})
		},
		"gather rows":      func(b *bed, bad int32) { b.s.GatherRows(b.normal(1, 2).t, b.normal(3, 2).t, b.ints(1, 1, bad)) },
		"scatter-add rows": func(b *bed, bad int32) { b.s.ScatterAddRows(b.normal(3, 2).t, b.normal(1, 2).t, b.ints(1, 1, bad)) },
		"cross-entropy": func(b *bed, bad int32) {
			b.s.CrossEntropy(backend.CrossEntropyArgs{Loss: b.normal(1, 1).t, Entropy: b.normal(1, 1).t, LSE: b.normal(1, 1).t,
				Correct: b.normal(1, 1).t, Logits: b.normal(1, 3).t, Labels: b.ints(1, 1, bad)})
		},
		"attention": func(b *bed, bad int32) {
			b.s.Attention(backend.AttentionArgs{Out: b.normal(2, 2).t, LSE: b.normal(2, 1).t, QKV: b.normal(2, 6).t, Heads: 1, Scale: 1,
				Layout: backend.Layout{Seqs: 1, Rows: 2, MaxLen: 2, Offsets: b.ints(1, 2, 0, bad), KeyValid: b.ints(1, 2, 1, 1)}})
		},
	} {
		for _, bad := range []int32{-1, 3} {
			b := newBed(t)
			call(b, bad)
			if b.s.Sync() == nil {
				t.Errorf("%s accepts %d", name, bad)
			}
		}
	}
}
