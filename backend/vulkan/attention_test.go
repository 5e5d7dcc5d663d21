//go:build cgo && linux

package vulkan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
)

// attentionRun is a made-up batch for both passes of attention.
type attentionRun struct {
	lens    []int
	heads   int
	d       int
	drop    float64
	offsets []int32 // in place of those that follow from lens
	longest int     // in place of the longest of lens
	masked  float32 // in keys and values that may not be attended to
}

// attentionResult has the outputs of both passes, row after row.
type attentionResult struct{ out, lse, dqkv []float32 }

const untouched = -7777.25

// run runs both passes on dev, the outputs beginning as untouched. Every third key may not
// be attended to.
func (a attentionRun) run(t *testing.T, dev backend.Device) (attentionResult, error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	rows, longest := 0, 0
	offsets, keys := []int32{0}, []int32{}
	for s, n := range a.lens {
		for i := range n {
			keys = append(keys, int32(s), int32(i), int32(100+s), 0)
		}
		rows, longest = rows+n, max(longest, n)
		offsets = append(offsets, int32(rows))
	}
	valid := make([]int32, rows)
	for i := range valid {
		valid[i] = min(int32(i%3), 1)
	}
	if a.offsets != nil {
		offsets = a.offsets
	}
	if a.longest > 0 {
		longest = a.longest
	}
	h := a.heads * a.d
	floats := func(rows, cols int, value func() float32) backend.Tensor {
		values := make([]float32, rows*cols)
		for i := range values {
			values[i] = value()
		}
		return tensor(t, dev, rows, cols, values...)
	}
	ints := func(rows, cols int, values []int32) backend.Tensor {
		x, err := backend.Alloc(dev, backend.I32, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		if err := dev.UploadI32(x, values); err != nil {
			t.Fatal(err)
		}
		return x
	}
	normal := func() float32 { return float32(rng.NormFloat64()) }
	blank := func() float32 { return untouched }
	at := -1
	qkv := floats(rows, 3*h, func() float32 {
		at++
		v := normal()
		if valid[at/(3*h)] == 0 && at%(3*h) >= h && a.masked != 0 {
			return a.masked
		}
		return v
	})
	dout := floats(rows, h, normal)
	out, lse, delta, dqkv := floats(rows, h, blank), floats(rows, a.heads, blank), floats(rows, a.heads, blank), floats(rows, 3*h, blank)
	l := backend.Layout{Seqs: len(offsets) - 1, Rows: rows, MaxLen: longest,
		Offsets: ints(1, len(offsets), offsets), KeyValid: ints(1, rows, valid), RowKey: ints(rows, 4, keys)}
	drop := backend.Drop{P: a.drop, Seed: 5, Site: 3, Update: 9, RowKey: l.RowKey}
	defer func() {
		for _, x := range []backend.Tensor{qkv, dout, out, lse, delta, dqkv, l.Offsets, l.KeyValid, l.RowKey} {
			if err := x.Buf.Free(); err != nil {
				t.Error(err)
			}
		}
	}()

	s := backend.NewStream(dev)
	scale := 1 / math.Sqrt(float64(a.d))
	s.Attention(backend.AttentionArgs{Out: out, LSE: lse, QKV: qkv, Layout: l, Heads: a.heads, Scale: scale, Drop: drop})
	s.AttentionBackward(backend.AttentionBackwardArgs{DQKV: dqkv, Delta: delta, DOut: dout, Out: out, LSE: lse, QKV: qkv,
		Layout: l, Heads: a.heads, Scale: scale, Drop: drop})
	failure := s.Sync()
	r := attentionResult{make([]float32, rows*h), make([]float32, rows*a.heads), make([]float32, 3*rows*h)}
	for _, x := range []struct {
		to   []float32
		from backend.Tensor
	}{{r.out, out}, {r.lse, lse}, {r.dqkv, dqkv}} {
		if err := dev.DownloadF32(x.to, x.from); err != nil && failure == nil {
			failure = err
		}
	}
	return r, failure
}

func (a attentionRun) must(t *testing.T, dev backend.Device) attentionResult {
	t.Helper()
	r, err := a.run(t, dev)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sameBits requires equal results that are not what the outputs began with.
func sameBits(t *testing.T, how string, got, want attentionResult) {
	t.Helper()
	for _, x := range []struct {
		name      string
		got, want []float32
	}{{"Out", got.out, want.out}, {"LSE", got.lse, want.lse}, {"DQKV", got.dqkv, want.dqkv}} {
		for i, w := range x.want {
			if math.Float32bits(x.got[i]) != math.Float32bits(w) || w == untouched {
				t.Fatalf("%s: %s[%d] is %g, want %g", how, x.name, i, x.got[i], w)
			}
		}
	}
}

// TestAttentionPieces cuts a batch into windows of rows and into dispatches of a few
// sequences, which must not show in the bits.
func TestAttentionPieces(t *testing.T) {
	a := attentionRun{lens: []int{5, 33, 0, 1, 20, 33, 7, 7, 31, 0, 0, 12, 33, 33, 2, 19, 4, 33, 8, 0}, heads: 2, d: 8, drop: 0.2}
	want := a.must(t, use(t, Options{}))
	for _, bytes := range []int64{6400, 8 << 10, 30 << 10} {
		d := use(t, Options{maxRange: bytes})
		sameBits(t, fmt.Sprintf("bindings of %d bytes", bytes), a.must(t, d), want)
	}
	d := use(t, Options{})
	d.caps.maxGroups = 9
	sameBits(t, "9 workgroups", a.must(t, d), want)

	_, err := a.run(t, use(t, Options{maxRange: 6 << 10}))
	if fault.KindOf(err) != fault.Device || !strings.Contains(err.Error(), "33 rows of attention") {
		t.Errorf("bindings too small for a sequence: %v", err)
	}
}

// TestAttentionWindows requires every sequence to lie in exactly one window, however many
// rows fit.
func TestAttentionWindows(t *testing.T) {
	for _, rows := range []int{1, 7, 40} {
		for longest := 1; longest <= min(rows, 9); longest++ {
			for fit := longest; fit <= rows+1; fit++ {
				d := &device{caps: caps{maxRange: 1 << 20, maxGroups: 4}}
				l := backend.Layout{Seqs: 10, Rows: rows, MaxLen: longest}
				l.Offsets.Rows, l.KeyValid.Rows, l.Offsets.Cols, l.KeyValid.Cols = 1, 1, 11, rows
				l.Offsets.DType, l.KeyValid.DType = backend.I32, backend.I32
				owner, calls := make([]int, rows), make([]int, 10)
				windows := 0
				if err := d.attentionWindows(l, fit, func(w attentionWindow, seqs, n int) error {
					if w.rows > fit || w.first+w.rows > rows {
						t.Fatalf("window %+v of %d rows where %d fit", w, rows, fit)
					}
					for s := seqs; s < seqs+n; s++ {
						calls[s]++
					}
					if seqs > 0 {
						return nil
					}
					windows++
					for lo := w.first; lo < w.next; lo++ {
						owner[lo]++
						if min(lo+longest, rows) > w.first+w.rows {
							t.Fatalf("window %+v cuts a sequence of %d rows at %d", w, longest, lo)
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				for lo, n := range owner {
					if n != 1 {
						t.Fatalf("%d rows, %d fit, longest %d: row %d begins in %d windows", rows, fit, longest, lo, n)
					}
				}
				for s, n := range calls {
					if n != windows {
						t.Fatalf("sequence %d is in %d of %d windows", s, n, windows)
					}
				}
			}
		}
	}
}

// TestAttentionOffsets gives offsets that leave the batch: an error, nothing written outside
// the sequences that are in order, and a device that works on.
func TestAttentionOffsets(t *testing.T) {
	d := use(t, Options{})
	good := attentionRun{lens: []int{6, 7, 11}, heads: 1, d: 4}
	want := good.must(t, d)
	for _, c := range []struct {
		name    string
		offsets []int32
		longest int
		written [2]int // rows of sequences in order
	}{
		{"negative", []int32{-5, 6, 13, 24}, 0, [2]int{6, 24}},
		{"descending", []int32{0, 6, 2, 2}, 0, [2]int{0, 6}},
		{"beyond the rows", []int32{0, 6, 13, 25}, 12, [2]int{0, 13}},
		{"far beyond the rows", []int32{0, 6, 13, math.MaxInt32}, 0, [2]int{0, 13}},
		{"longer than the longest", []int32{0, 6, 13, 24}, 10, [2]int{0, 13}},
	} {
		a := good
		a.offsets, a.longest = c.offsets, c.longest
		got, err := a.run(t, d)
		if fault.KindOf(err) != fault.Internal || !strings.Contains(fmt.Sprint(err), "sequence") {
			t.Errorf("%s: %v", c.name, err)
		}
		for row := range 24 {
			in := row >= c.written[0] && row < c.written[1]
			for name, x := range map[string][]float32{"Out": got.out[row*4 : row*4+4], "LSE": got.lse[row : row+1], "DQKV": got.dqkv[row*12 : row*12+12]} {
				for _, v := range x {
					if (v != untouched) != in {
						t.Fatalf("%s: %s of row %d is %g", c.name, name, row, v)
					}
				}
			}
		}
		sameBits(t, "after "+c.name, good.must(t, d), want)
	}
}

// TestAttentionMaskedInfinities puts infinities and NaN where nothing attends to.
func TestAttentionMaskedInfinities(t *testing.T) {
	d := use(t, Options{})
	a := attentionRun{lens: []int{9, 40, 3}, heads: 2, d: 5}
	want := a.must(t, d)
	for _, v := range []float32{float32(math.Inf(1)), float32(math.NaN())} {
		b := a
		b.masked = v
		got := b.must(t, d)
		sameBits(t, fmt.Sprint(v), got, want)
	}
}

// TestAttentionHeads compares head sizes beyond those of the conformance suite with the
// reference, in both styles, which must agree to the bit where their tiles do.
func TestAttentionHeads(t *testing.T) {
	wide, narrow := use(t, Options{style: "gpu"}), use(t, Options{})
	for _, d := range []int{33, 100, 128} {
		a := attentionRun{lens: []int{37, 3}, heads: 2, d: d, drop: 0.1}
		exact := a.must(t, cpu.NewReference(backend.F32))
		got := a.must(t, wide)
		for _, x := range []struct {
			name      string
			got, want []float32
			limit     float64
		}{{"Out", got.out, exact.out, 1e-5}, {"LSE", got.lse, exact.lse, 1e-5}, {"DQKV", got.dqkv, exact.dqkv, 1e-4}} {
			for i, w := range x.want {
				if !(math.Abs(float64(x.got[i]-w)) <= x.limit) {
					t.Fatalf("heads of %d: %s[%d] is %g, want %g", d, x.name, i, x.got[i], w)
				}
			}
		}
		if d%32 != 0 {
			sameBits(t, fmt.Sprintf("heads of %d, both styles", d), a.must(t, narrow), got)
		}
	}
	if _, err := (attentionRun{lens: []int{3}, heads: 1, d: 4000}).run(t, narrow); fault.KindOf(err) != fault.Device {
		t.Errorf("heads of 4000: %v", err)
	}
}

// TestWideHeads: heads beyond the shared memory are refused with what to do instead.
func TestWideHeads(t *testing.T) {
	d := &device{caps: caps{cpu: true, maxInvocations: 1024, sharedBytes: 32 << 10}}
	_, err := d.attentionTile(2048, 2048, true)
	if fault.KindOf(err) != fault.Device || !strings.Contains(err.Error(), "heads of 2048 columns") || !strings.Contains(err.Error(), "--device cpu") {
		t.Errorf("%v", err)
	}
}
