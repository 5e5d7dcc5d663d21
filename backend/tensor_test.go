package backend

import (
	"testing"

	"pgregory.net/rapid"
)

// block is a buffer without memory.
type block struct{ bytes int64 }

func (b *block) Bytes() int64 { return b.bytes }
func (b *block) Free() error  { return nil }

// TestOverlap compares overlap and inside with the sets of bytes of the tensors.
func TestOverlap(t *testing.T) {
	bufs := []*block{{200}, {200}}
	tensor := func(t *rapid.T, name string) Tensor {
		cols := rapid.IntRange(0, 6).Draw(t, name+" cols")
		return Tensor{
			Buf:    bufs[rapid.IntRange(0, 5).Draw(t, name+" buffer")/5],
			Off:    rapid.IntRange(0, 20).Draw(t, name+" offset"),
			Rows:   rapid.IntRange(0, 5).Draw(t, name+" rows"),
			Cols:   cols,
			Stride: cols + rapid.IntRange(0, 8).Draw(t, name+" gap"),
			DType:  rapid.SampledFrom([]DType{F32, F64, I32, BF16}).Draw(t, name+" type"),
		}
	}
	bytes := func(x Tensor) map[int]bool {
		set := map[int]bool{}
		size := x.DType.Size()
		for i := range x.Rows {
			for j := range x.Cols {
				for b := range size {
					set[(x.Off+i*x.Stride+j)*size+b] = true
				}
			}
		}
		return set
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := tensor(t, "a"), tensor(t, "b")
		shared, within := false, true
		in := bytes(a)
		for at := range bytes(b) {
			shared = shared || a.Buf == b.Buf && in[at]
			within = within && at < int(b.Buf.Bytes())
		}
		if overlap(a, b) != shared || overlap(b, a) != shared {
			t.Fatalf("overlap of %+v and %+v is %t, want %t", a, b, overlap(a, b), shared)
		}
		if inside(b) != within {
			t.Fatalf("%+v inside is %t, want %t", b, inside(b), within)
		}
	})
}

func TestInside(t *testing.T) {
	b := &block{64}
	for _, x := range []Tensor{
		{Buf: b, Rows: -1, Cols: 2, Stride: 2, DType: F32},
		{Buf: b, Rows: 1, Cols: -1, Stride: 2, DType: F32},
		{Buf: b, Off: -1, Rows: 1, Cols: 2, Stride: 2, DType: F32},
		{Buf: b, Rows: 2, Cols: 4, Stride: 3, DType: F32},
		{Buf: b, Rows: 1, Cols: 17, Stride: 17, DType: F32},
		{Buf: b, Rows: 1 << 31, Cols: 1, Stride: 1 << 31, DType: F32},
		{Buf: b, Rows: 1, Cols: 1, Stride: 1},
	} {
		if inside(x) {
			t.Errorf("%+v counts as inside", x)
		}
	}
	if x := NewTensor(b, F32, 4, 4); !inside(x) || !x.Contiguous() {
		t.Errorf("%+v does not count as inside", x)
	}
}

func TestDTypes(t *testing.T) {
	for d, want := range map[DType]int{None: 0, F32: 4, F64: 8, I32: 4, BF16: 2, F16: 2} {
		if d.Size() != want || d.String() == "" {
			t.Errorf("%s has size %d, want %d", d, d.Size(), want)
		}
	}
}
