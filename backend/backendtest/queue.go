package backendtest

import (
	"math"
	"testing"

	"sift/backend"
)

// testQueued: results are those of the moment they were asked for, a fork works on the same
// memory in the order that After asks for, and AdamW with Guard leaves everything but Grad
// alone where a gradient is not finite.
func testQueued(t *testing.T, dev backend.Queued) {
	s := backend.NewStream(dev)
	var now *testing.T
	ok := func(err error) {
		now.Helper()
		if err != nil {
			now.Fatal(err)
		}
	}
	part := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			now = t
			f(t)
		})
	}
	float := dev.Info().Float
	alloc := func(n int, values []float64) backend.Tensor {
		now.Helper()
		x, err := backend.Alloc(dev, float, 1, n)
		ok(err)
		t := now
		t.Cleanup(func() {
			if err := x.Buf.Free(); err != nil {
				t.Error(err)
			}
		})
		if values != nil {
			ok(s.UploadF64(x, values))
		}
		return x
	}
	download := func(x backend.Tensor) []float64 {
		now.Helper()
		v := make([]float64, x.Len())
		ok(s.DownloadF64(v, x))
		return v
	}
	part("Readback", func(t *testing.T) {
		x, y := alloc(3, []float64{1, 2, 3}), alloc(3, []float64{10, 20, 30})
		var back [2]*backend.Readback
		for i := range back {
			r, err := s.NewReadback(5)
			ok(err)
			defer func() { ok(r.Free()) }()
			back[i] = r
		}
		for round := range 3 {
			for i, r := range back {
				r.Start(s, x.ColRange(0, 3-i))
				s.Add(x, y)
			}
			first, err := back[0].Wait()
			ok(err)
			second, err := back[1].Wait()
			ok(err)
			for i := range 3 {
				want := float64((i + 1) * (1 + 20*round))
				if first[i] != want || i < 2 && second[i] != want+float64(10*(i+1)) || len(second) != 2 {
					t.Fatalf("round %d: %v and %v", round, first, second)
				}
			}
		}
		back[0].Start(s, backend.Tensor{})
		if v, err := back[0].Wait(); err != nil || len(v) != 0 {
			t.Errorf("of nothing: %v, %v", v, err)
		}
	})
	part("Fork", func(t *testing.T) {
		other, err := s.Fork()
		ok(err)
		x, y, z := alloc(20000, nil), alloc(20000, nil), alloc(20000, nil)
		one := make([]float64, 20000)
		for i := range one {
			one[i] = 1
		}
		ok(s.UploadF64(y, one))
		r, err := other.NewReadback(20000)
		ok(err)
		defer func() { ok(r.Free()) }()
		sum := 0.0
		for range 20 {
			s.Add(x, y)
			other.After(s)
			other.Copy(z, x)
			other.Add(x, z)
			r.Start(other, x)
			s.After(other)
			sum = 2 * (sum + 1)
			if sum > 1<<20 {
				s.Zero(x)
				sum = 0
			}
		}
		if _, err := r.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, v := range download(x) {
			if v != sum {
				t.Fatalf("%g, want %g", v, sum)
			}
		}
		ok(other.Device().Close())
		ok(s.Sync())
	})
	part("Guard", func(t *testing.T) {
		for _, bad := range []float64{math.NaN(), math.Inf(1), 4} {
			for _, clip := range []float64{0, 1} {
				param, m, v := alloc(3, []float64{1, 2, 3}), alloc(3, []float64{4, 5, 6}), alloc(3, []float64{7, 8, 9})
				grad, sum := alloc(3, []float64{0, bad, 1}), alloc(1, nil)
				half := backend.Tensor{}
				if dev.Info().Activations() != float {
					var err error
					half, err = backend.Alloc(dev, dev.Info().Activations(), 1, 3)
					ok(err)
					defer func() { ok(half.Buf.Free()) }()
				}
				s.SumSquares(sum, grad)
				s.AdamW(backend.AdamWArgs{Param: param, Grad: grad, M: m, V: v, Half: half, SumSq: sum, ClipNorm: clip, GradScale: 1,
					Guard: true, LR: 0.1, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Decay: 0.1, Step: 3})
				same := download(param)[1] == 2 && download(m)[1] == 5 && download(v)[1] == 8
				if !half.Absent() {
					same = same && download(half)[1] == 0
				}
				if want := bad != 4; same != want {
					t.Errorf("gradient %g, clip %g: param %v, m %v, v %v", bad, clip, download(param), download(m), download(v))
				}
				for _, g := range download(grad) {
					if g != 0 {
						t.Errorf("gradient %g, clip %g: it is left", bad, clip)
					}
				}
			}
		}
	})
}
