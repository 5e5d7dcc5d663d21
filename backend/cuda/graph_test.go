//go:build cuda && cgo && linux

package cuda

import (
	"math"
	"slices"
	"testing"

	"sift/backend"
)

// TestGraphs: launches that come again as a graph compute what single launches compute, also
// where their parameters, their grids or the update of dropout change in between.
func TestGraphs(t *testing.T) {
	const most, cols = 96, 40
	results := func(graphs bool) (all [][]float32, launches, whole int) {
		dev := open(t, Options{})
		d := dev.(*device)
		defer func() {
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		}()
		if d.graphs == nil {
			t.Skip("the driver has no graphs")
		}
		if !graphs {
			d.graphs = nil
		}
		s := backend.NewStream(dev)
		floats := func(rows int) backend.Tensor {
			x, err := backend.Alloc(dev, backend.F32, rows, cols)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		x, y, z, w := floats(most), floats(most), floats(most), floats(cols)
		keys, err := backend.Alloc(dev, backend.I32, most, 4)
		if err != nil {
			t.Fatal(err)
		}
		key := make([]int32, 4*most)
		for r := range most {
			key[4*r+1], key[4*r+2] = int32(r%7), int32(r)
		}
		if err := s.UploadI32(keys, key); err != nil {
			t.Fatal(err)
		}
		host := make([]float32, most*cols)
		for i := range host {
			host[i] = float32(i%13) - 6
		}
		if err := s.UploadF32(w, host[:cols*cols]); err != nil {
			t.Fatal(err)
		}
		// A step is five launches a round, and one whose parameters change. Rows change at steps 5 and 9.
		for step := range 14 {
			rows := most
			if step >= 5 && step < 9 {
				rows = 17
			}
			if err := s.UploadF32(x, host); err != nil {
				t.Fatal(err)
			}
			a, b, c := x.RowRange(0, rows), y.RowRange(0, rows), z.RowRange(0, rows)
			drop := backend.Drop{P: 0.2, Seed: 7, Site: 3, Update: uint32(step / 2), RowKey: keys.RowRange(0, rows)}
			for range 40 {
				s.Gemm(backend.GemmArgs{C: b, A: a, B: w, Alpha: 0.01})
				s.Dropout(b, b, drop)
				s.Tanh(c, b)
				s.Add(a, c)
				s.GeluBackward(b, c, a, backend.GeluErf)
			}
			for range 5 {
				s.Gemm(backend.GemmArgs{C: b, A: a, B: w, Alpha: 1 / float64(step+1), Beta: 1})
			}
			got := make([]float32, rows*cols)
			if err := s.DownloadF32(got, b); err != nil {
				t.Fatal(err)
			}
			for _, v := range got {
				if !(math.Abs(float64(v)) < 1e6) {
					t.Fatalf("step %d: %g", step, v)
				}
			}
			all = append(all, got)
		}
		if graphs {
			return all, d.graphs.launches, d.graphs.whole
		}
		return all, 0, 0
	}
	want, _, _ := results(false)
	got, launches, whole := results(true)
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("step %d: graphs compute something else", i)
		}
	}
	if i := slices.IndexFunc(got[1:], func(x []float32) bool { return slices.Equal(x, got[0]) }); i >= 0 {
		t.Errorf("steps 0 and %d compute the same: nothing changes", i+1)
	}
	// Four segments a step: three repeat but where rows change, the last never does.
	t.Logf("%d of %d segments were graphs", whole, launches)
	if launches != 14*4 || whole < 18 || whole > 3*14 {
		t.Errorf("%d of %d segments were graphs", whole, launches)
	}
}
