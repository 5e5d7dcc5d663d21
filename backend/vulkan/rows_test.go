//go:build cgo && linux

package vulkan

import (
	"math"
	"strings"
	"testing"

	"sift/backend"
)

// eachDriver runs f on both software drivers, and on lavapipe with the kernels made for GPUs.
func eachDriver(t *testing.T, f func(t *testing.T, s *backend.Stream)) {
	for _, c := range []struct{ name, word, style string }{
		{"Lavapipe", lavapipe, ""}, {"SwiftShader", swiftshader, ""}, {"GPUStyle", lavapipe, "gpu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev, err := open(t, c.word, Options{style: c.style})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := dev.Close(); err != nil {
					t.Error(err)
				}
			})
			f(t, backend.NewStream(dev))
		})
	}
}

// floats places a matrix on the device; with no values it is of zeros.
func floats(t *testing.T, s *backend.Stream, rows, cols int, v ...float32) backend.Tensor {
	t.Helper()
	x, err := backend.Alloc(s.Device(), backend.F32, rows, cols)
	if err == nil && len(v) > 0 {
		err = s.UploadF32(x, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Buf.Free() })
	return x
}

func integers(t *testing.T, s *backend.Stream, v ...int32) backend.Tensor {
	t.Helper()
	x, err := backend.Alloc(s.Device(), backend.I32, 1, len(v))
	if err == nil {
		err = s.UploadI32(x, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Buf.Free() })
	return x
}

func fetched(t *testing.T, s *backend.Stream, x backend.Tensor) []float32 {
	t.Helper()
	v := make([]float32, x.Len())
	if err := s.DownloadF32(v, x); err != nil {
		t.Fatal(err)
	}
	return v
}

// everyFloat returns n float32 values spread over all bit patterns, NaN and infinities among
// them, without the denormal ones, which a device may flush.
func everyFloat(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(uint32(i*(1<<32/n)) + uint32(i*37)%4096)
		if v[i] != 0 && math.Abs(float64(v[i])) < 0x1p-126 {
			v[i] = float32(i%4001-2000) / 250
		}
	}
	copy(v, []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32})
	return v
}

// TestElementaryFunctions holds tanh and both slopes of GELU against float64 on arguments of
// every sign and exponent.
func TestElementaryFunctions(t *testing.T) {
	gelu := func(x float64) float64 {
		return math.Erfc(-x/math.Sqrt2)/2 + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	}
	tanhGelu := func(x float64) float64 {
		c := math.Sqrt(2 / math.Pi)
		th := math.Tanh(c * (x + 0.044715*x*x*x))
		if th*th == 1 {
			return (1 + th) / 2
		}
		return (1+th)/2 + x/2*(1-th*th)*c*(1+3*0.044715*x*x)
	}
	eachDriver(t, func(t *testing.T, s *backend.Stream) {
		const n = 1 << 16
		v := everyFloat(n)
		one := make([]float32, n)
		for i := range one {
			one[i] = 1
		}
		x, dy, y := floats(t, s, 1, n, v...), floats(t, s, 1, n, one...), floats(t, s, 1, n)
		check := func(name string, f func(float64) float64, relative bool, units float64) {
			t.Helper()
			worst := 0.0
			for i, got := range fetched(t, s, y) {
				want := f(float64(v[i]))
				if math.IsNaN(float64(v[i])) {
					if got == got {
						t.Errorf("%s(NaN) = %g", name, got)
					}
					continue
				}
				if math.IsInf(float64(v[i]), 0) && math.IsNaN(want) {
					want = map[bool]float64{true: 1, false: 0}[v[i] > 0] // the limit
				}
				scale := 1.0
				if relative {
					scale = math.Abs(want)
				}
				wrong := math.Abs(float64(got) - want)
				if !(wrong <= units*0x1p-24*scale+0x1p-126) {
					t.Fatalf("%s(%g) = %.9g, want %.9g", name, v[i], got, want)
				}
				if scale > 0 {
					worst = math.Max(worst, wrong/scale*0x1p24)
				}
			}
			t.Logf("%s: at most %.2f units of 2^-24 off", name, worst)
		}
		s.Tanh(y, x)
		check("tanh", math.Tanh, true, 4)
		s.GeluBackward(y, dy, x, backend.GeluErf)
		check("slope of GELU", gelu, false, 6)
		s.GeluBackward(y, dy, x, backend.GeluTanh)
		check("slope of GELU by tanh", tanhGelu, false, 6)
	})
}

// TestScatterOrder: rows with one index are added one after another in float32, i ascending,
// whatever lies between them.
func TestScatterOrder(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *backend.Stream) {
		const n, cols, table = 1500, 12, 7
		src, want := make([]float32, n*cols), make([]float32, table*cols)
		index := make([]int32, n)
		for i := range index {
			index[i] = int32(i * i % 5) // 0, 1 and 4: the others get none
			for j := range cols {
				src[i*cols+j] = float32(math.Sin(float64(i*cols+j))) * float32(i%97)
				want[int(index[i])*cols+j] += src[i*cols+j]
			}
		}
		dst := floats(t, s, table, cols)
		s.ScatterAddRows(dst, floats(t, s, n, cols, src...), integers(t, s, index...))
		for i, got := range fetched(t, s, dst) {
			if got != want[i] {
				t.Fatalf("row %d column %d is %g, want %g", i/cols, i%cols, got, want[i])
			}
		}
	})
}

// TestIndicesOutside: an index or label outside its table is an error when the device is
// next waited for, and nothing beyond the table is read or written.
func TestIndicesOutside(t *testing.T) {
	for name, call := range map[string]func(t *testing.T, s *backend.Stream, bad int32){
		"embed": func(t *testing.T, s *backend.Stream, bad int32) {
			s.Embed(backend.EmbedArgs{Out: floats(t, s, 2, 4), IDs: integers(t, s, 0, bad), Positions: integers(t, s, 0, 1),
				Word: floats(t, s, 3, 4), Position: floats(t, s, 2, 4)})
		},
		"gather": func(t *testing.T, s *backend.Stream, bad int32) {
			s.GatherRows(floats(t, s, 2, 4), floats(t, s, 3, 4), integers(t, s, 0, bad))
		},
		"scatter": func(t *testing.T, s *backend.Stream, bad int32) {
			s.ScatterAddRows(floats(t, s, 3, 4), floats(t, s, 2, 4), integers(t, s, 0, bad))
		},
		"cross-entropy": func(t *testing.T, s *backend.Stream, bad int32) {
			s.CrossEntropy(backend.CrossEntropyArgs{Loss: floats(t, s, 2, 1), Entropy: floats(t, s, 2, 1), LSE: floats(t, s, 2, 1),
				Correct: floats(t, s, 2, 1), Logits: floats(t, s, 2, 3), Labels: integers(t, s, 0, bad)})
		},
		"cross-entropy backward": func(t *testing.T, s *backend.Stream, bad int32) {
			x := floats(t, s, 2, 3)
			s.CrossEntropyBackward(backend.CrossEntropyBackwardArgs{DLogits: x, Logits: x, LSE: floats(t, s, 2, 1), Labels: integers(t, s, 0, bad), Scale: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, bad := range []int32{-1, 3, math.MaxInt32, math.MinInt32} {
				dev, err := open(t, lavapipe, Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = dev.Close() })
				s := backend.NewStream(dev)
				call(t, s, bad)
				if err := s.Sync(); err == nil || !strings.Contains(err.Error(), "outside") {
					t.Errorf("%d gives %v", bad, err)
				}
			}
		})
	}
}

// TestInfiniteLogits: minus infinity adds nothing to a row, not NaN; a row of nothing else, or
// with plus infinity, has no softmax.
func TestInfiniteLogits(t *testing.T) {
	inf := float32(math.Inf(1))
	eachDriver(t, func(t *testing.T, s *backend.Stream) {
		const rows, cols = 4, 600 // several blocks of a lane
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = -inf
		}
		x[0*cols+599] = 2 // one finite logit, the last
		x[1*cols+3], x[1*cols+4] = 1, 1
		x[2*cols+5] = inf
		loss, entropy, lse, correct := floats(t, s, rows, 1), floats(t, s, rows, 1), floats(t, s, rows, 1), floats(t, s, rows, 1)
		s.CrossEntropy(backend.CrossEntropyArgs{Loss: loss, Entropy: entropy, LSE: lse, Correct: correct,
			Logits: floats(t, s, rows, cols, x...), Labels: integers(t, s, 599, 4, 5, 0)})
		ln2 := float32(math.Ln2)
		for name, c := range map[string]struct {
			got  backend.Tensor
			want [2]float32
		}{"loss": {loss, [2]float32{0, ln2}}, "entropy": {entropy, [2]float32{0, ln2}}, "lse": {lse, [2]float32{2, 1 + ln2}}, "correct": {correct, [2]float32{1, 0}}} {
			got := fetched(t, s, c.got)
			for i, w := range c.want {
				if math.Abs(float64(got[i]-w)) > 1e-6 {
					t.Errorf("%s of row %d is %g, want %g", name, i, got[i], w)
				}
			}
			for i := 2; i < rows && name != "correct"; i++ {
				if got[i] == got[i] {
					t.Errorf("%s of row %d is %g, want NaN", name, i, got[i])
				}
			}
		}
	})
}

// TestSumSquaresExtremes: large and small squares side by side to 1.5 units, infinity and NaN
// as they are.
func TestSumSquaresExtremes(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *backend.Stream) {
		const n = 100001
		v := make([]float32, n)
		want := 0.0
		for i := range v {
			v[i] = float32(math.Cos(float64(i))) * float32(math.Pow(10, float64(i%13-9)))
			want += float64(v[i]) * float64(v[i])
		}
		dst := floats(t, s, 1, 1)
		s.SumSquares(dst, floats(t, s, 1, n, v...))
		if got := float64(fetched(t, s, dst)[0]); math.Abs(got-want) > 1.5*0x1p-24*want {
			t.Errorf("sum %g, want %g", got, want)
		}
		for _, bad := range []float64{math.Inf(-1), math.NaN(), 1e30} {
			v[70000] = float32(bad)
			s.SumSquares(dst, floats(t, s, 1, n, v...))
			got := float64(fetched(t, s, dst)[0])
			if math.IsNaN(bad) != math.IsNaN(got) || !math.IsNaN(bad) && !math.IsInf(got, 1) {
				t.Errorf("with %g among them the sum is %g", bad, got)
			}
		}
	})
}
