package backend_test

import (
	"errors"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
)

// maker allocates tensors on one device.
type maker struct {
	t   *testing.T
	dev backend.Device
}

func (m maker) f(rows, cols int) backend.Tensor { return m.of(backend.F32, rows, cols) }
func (m maker) i(rows, cols int) backend.Tensor { return m.of(backend.I32, rows, cols) }

func (m maker) of(dtype backend.DType, rows, cols int) backend.Tensor {
	m.t.Helper()
	x, err := backend.Alloc(m.dev, dtype, rows, cols)
	if err != nil {
		m.t.Fatal(err)
	}
	return x
}

// TestStreamRefuses makes one mistake per call. The error must begin with the operation
// and name what is wrong.
func TestStreamRefuses(t *testing.T) {
	m := maker{t, cpu.NewReference(backend.F32)}
	x := m.f(4, 6)
	layout := backend.Layout{Seqs: 1, Rows: 4, MaxLen: 4, Offsets: m.i(1, 2), KeyValid: m.i(1, 4), RowKey: m.i(4, 4)}
	drop := backend.Drop{P: 0.1, RowKey: layout.RowKey}
	norm := backend.LayerNormArgs{Y: m.f(4, 6), Z: m.f(4, 6), Mean: m.f(4, 1), Rstd: m.f(4, 1), X: x, Residual: m.f(4, 6), Gamma: m.f(1, 6), Beta: m.f(1, 6), Drop: drop}
	normBack := backend.LayerNormBackwardArgs{DZ: m.f(4, 6), DX: m.f(4, 6), DGamma: m.f(1, 6), DBeta: m.f(1, 6), DY: m.f(4, 6), Z: x, Mean: m.f(4, 1), Rstd: m.f(4, 1), Gamma: m.f(1, 6), Drop: drop}
	att := backend.AttentionArgs{Out: m.f(4, 6), LSE: m.f(4, 2), QKV: m.f(4, 18), Layout: layout, Heads: 2, Scale: 1, Drop: drop}
	attBack := backend.AttentionBackwardArgs{DQKV: m.f(4, 18), Delta: m.f(4, 2), DOut: m.f(4, 6), Out: m.f(4, 6), LSE: m.f(4, 2), QKV: m.f(4, 18), Layout: layout, Heads: 2, Scale: 1, Drop: drop}
	gemm := backend.GemmArgs{C: m.f(4, 5), A: x, B: m.f(6, 5), Alpha: 1, Bias: m.f(1, 5), Pre: m.f(4, 5), Act: backend.GeluErf}
	embed := backend.EmbedArgs{Out: m.f(4, 6), IDs: m.i(1, 4), Positions: m.i(1, 4), Types: m.i(1, 4), Word: m.f(9, 6), Position: m.f(5, 6), Type: m.f(2, 6)}
	loss := backend.CrossEntropyArgs{Loss: m.f(4, 1), Entropy: m.f(4, 1), LSE: m.f(4, 1), Correct: m.f(4, 1), Logits: x, Labels: m.i(1, 4)}
	lossBack := backend.CrossEntropyBackwardArgs{DLogits: m.f(4, 6), Logits: x, LSE: m.f(4, 1), Labels: m.i(1, 4), Scale: 1}
	adam := backend.AdamWArgs{Param: m.f(1, 7), Grad: m.f(1, 7), M: m.f(1, 7), V: m.f(1, 7), SumSq: m.of(backend.F64, 1, 1), ClipNorm: 1, GradScale: 1, Step: 1}

	type call struct {
		want string // start of the error, "" if there is none
		do   func(s *backend.Stream)
	}
	calls := []call{
		{"zero: x is absent", func(s *backend.Stream) { s.Zero(backend.Tensor{}) }},
		{"zero: x is float32[5x6] at 0 with stride 6, outside its buffer of 96 bytes", func(s *backend.Stream) { y := x; y.Rows = 5; s.Zero(y) }},
		{"copy: dst is float32[6x4], want float32[4x6]", func(s *backend.Stream) { s.Copy(m.f(6, 4), x) }},
		{"copy: dst is int32[4x6], want float32[4x6]", func(s *backend.Stream) { s.Copy(m.i(4, 6), x) }},
		{"copy: dst float32[3x6] overlaps src float32[3x6]", func(s *backend.Stream) { s.Copy(x.RowRange(1, 3), x.RowRange(0, 3)) }},
		{"", func(s *backend.Stream) { s.Copy(x.ColRange(0, 3), x.ColRange(3, 3)) }},
		{"", func(s *backend.Stream) { s.Copy(m.i(4, 6), m.i(4, 6)) }},
		{"add: x is float64[4x6], want float32[4x6]", func(s *backend.Stream) { s.Add(x, m.of(backend.F64, 4, 6)) }},
		{"add: y float32[4x6] overlaps", func(s *backend.Stream) { s.Add(x, x) }},
		{"gelu backward: pre is float32[4x5], want float32[4x6]", func(s *backend.Stream) { s.GeluBackward(x, x, m.f(4, 5), backend.GeluErf) }},
		{"gelu backward: activation 7", func(s *backend.Stream) { s.GeluBackward(x, x, m.f(4, 6), 7) }},
		{"", func(s *backend.Stream) { s.GeluBackward(x, x, m.f(4, 6), backend.GeluErf) }},
		{"gelu backward: dx float32[4x6] overlaps pre", func(s *backend.Stream) { s.GeluBackward(x, m.f(4, 6), x, backend.GeluErf) }},
		{"tanh: y float32[4x6] overlaps x", func(s *backend.Stream) { s.Tanh(x, x) }},
		{"tanh backward: y is", func(s *backend.Stream) { s.TanhBackward(x, x, m.f(3, 6)) }},
		{"", func(s *backend.Stream) { s.TanhBackward(x, x, m.f(4, 6)) }},
		{"column sum: dst is float32[1x5], want float32[1x6]", func(s *backend.Stream) { s.ColSum(m.f(1, 5), x) }},
		{"gather rows: index is int32[1x3], want int32[1x4]", func(s *backend.Stream) { s.GatherRows(x, m.f(9, 6), m.i(1, 3)) }},
		{"gather rows: dst", func(s *backend.Stream) { s.GatherRows(x, x, m.i(1, 4)) }},
		{"scatter-add rows: index is float32[1x4], want int32[1x4]", func(s *backend.Stream) { s.ScatterAddRows(m.f(9, 6), x, m.f(1, 4)) }},
		{"dropout: dropout probability 1 ", func(s *backend.Stream) { s.Dropout(x, x, backend.Drop{P: 1, RowKey: m.i(4, 4)}) }},
		{"dropout: dropout site 65536", func(s *backend.Stream) { s.Dropout(x, x, backend.Drop{P: 0.1, Site: 65536, RowKey: m.i(4, 4)}) }},
		{"dropout: RowKey is absent, want int32[4x4]", func(s *backend.Stream) { s.Dropout(x, x, backend.Drop{P: 0.1}) }},
		{"", func(s *backend.Stream) { s.Dropout(x, x, drop) }},
		{"sum of squares: x float32[4x3] has stride 6", func(s *backend.Stream) { s.SumSquares(m.f(1, 1), x.ColRange(0, 3)) }},
		{"sum of squares: dst is", func(s *backend.Stream) { s.SumSquares(m.f(1, 2), x) }},
	}
	add := func(want string, do func(s *backend.Stream)) { calls = append(calls, call{want, do}) }
	vary(add, (*backend.Stream).Gemm, gemm, map[string]func(*backend.GemmArgs){
		"":                                 func(*backend.GemmArgs) {},
		"gemm: A (transposed) is":          func(a *backend.GemmArgs) { a.TransA = true },
		"gemm: B (transposed) is":          func(a *backend.GemmArgs) { a.TransB = true },
		"gemm: B is float32[7x5], want":    func(a *backend.GemmArgs) { a.B = m.f(7, 5) },
		"gemm: Bias is float32[1x6]":       func(a *backend.GemmArgs) { a.Bias = m.f(1, 6) },
		"gemm: Pre is float32[4x6]":        func(a *backend.GemmArgs) { a.Pre = m.f(4, 6) },
		"gemm: C is absent":                func(a *backend.GemmArgs) { a.C = backend.Tensor{} },
		"gemm: C float32[4x5] overlaps Pr": func(a *backend.GemmArgs) { a.Pre = a.C },
		"gemm: activation 9":               func(a *backend.GemmArgs) { a.Act = 9 },
	})
	vary(add, (*backend.Stream).Embed, embed, map[string]func(*backend.EmbedArgs){
		"": func(*backend.EmbedArgs) {},
		"embed: IDs is int32[1x3], want int32[1x4]":                 func(a *backend.EmbedArgs) { a.IDs = m.i(1, 3) },
		"embed: Positions is absent":                                func(a *backend.EmbedArgs) { a.Positions = backend.Tensor{} },
		"embed: Types is absent but Type is float32[2x6]":           func(a *backend.EmbedArgs) { a.Types = backend.Tensor{} },
		"embed: Word is float32[9x5], want float32[9x6]":            func(a *backend.EmbedArgs) { a.Word = m.f(9, 5) },
		"embed: Out float32[4x6] overlaps Word float32[4x6]":        func(a *backend.EmbedArgs) { a.Word = a.Out },
		"embed: Position is float64[5x6], want float32[5x6]":        func(a *backend.EmbedArgs) { a.Position = m.of(backend.F64, 5, 6) },
		"embed: Types is int32[2x4], want int32[1x4]":               func(a *backend.EmbedArgs) { a.Types = m.i(2, 4) },
		"embed: Out is float32[4x6] at 0 with stride 6, outside it": func(a *backend.EmbedArgs) { a.Out.Buf = m.f(1, 6).Buf },
	})
	vary(add, (*backend.Stream).LayerNorm, norm, map[string]func(*backend.LayerNormArgs){
		"": func(*backend.LayerNormArgs) {},
		"layer norm: Z is absent, with residual float32[4x6] and dropout 0.1": func(a *backend.LayerNormArgs) { a.Z = backend.Tensor{} },
		"layer norm: Mean is float32[1x4], want float32[4x1]":                 func(a *backend.LayerNormArgs) { a.Mean = m.f(1, 4) },
		"layer norm: Gamma is absent":                                         func(a *backend.LayerNormArgs) { a.Gamma = backend.Tensor{} },
		"layer norm: RowKey is int32[3x4], want int32[4x4]":                   func(a *backend.LayerNormArgs) { a.Drop.RowKey = m.i(3, 4) },
		"layer norm: Y float32[4x6] overlaps X":                               func(a *backend.LayerNormArgs) { a.Y = a.X },
		"layer norm: Z float32[4x6] overlaps Residual":                        func(a *backend.LayerNormArgs) { a.Z = a.Residual },
		"layer norm: rows of X float32[4x0] are empty": func(a *backend.LayerNormArgs) {
			*a = backend.LayerNormArgs{X: m.f(4, 0), Y: m.f(4, 0), Mean: m.f(4, 1), Rstd: m.f(4, 1), Gamma: m.f(1, 0), Beta: m.f(1, 0)}
		},
	})
	vary(add, (*backend.Stream).LayerNormBackward, normBack, map[string]func(*backend.LayerNormBackwardArgs){
		"": func(a *backend.LayerNormBackwardArgs) { a.DGamma, a.DX = backend.Tensor{}, backend.Tensor{} },
		"layer norm backward: DZ float32[4x6] overlaps DY":               func(a *backend.LayerNormBackwardArgs) { a.DZ = a.DY },
		"layer norm backward: DZ float32[4x6] overlaps DX":               func(a *backend.LayerNormBackwardArgs) { a.DX = a.DZ },
		"layer norm backward: DBeta is float32[1x5], want float32[1x6]":  func(a *backend.LayerNormBackwardArgs) { a.DBeta = m.f(1, 5) },
		"layer norm backward: dropout probability -1 is not in [0,1)":    func(a *backend.LayerNormBackwardArgs) { a.Drop.P = -1 },
		"layer norm backward: Rstd is float32[4x2], want float32[4x1]":   func(a *backend.LayerNormBackwardArgs) { a.Rstd = m.f(4, 2) },
		"layer norm backward: DGamma float32[1x6] overlaps DBeta float3": func(a *backend.LayerNormBackwardArgs) { a.DGamma = a.DBeta },
	})
	vary(add, (*backend.Stream).Attention, att, map[string]func(*backend.AttentionArgs){
		"":                                  func(*backend.AttentionArgs) {},
		"attention: 4 heads do not divide":  func(a *backend.AttentionArgs) { a.Heads = 4 },
		"attention: 0 heads do not divide":  func(a *backend.AttentionArgs) { a.Heads = 0 },
		"attention: QKV is float32[4x12], ": func(a *backend.AttentionArgs) { a.QKV = m.f(4, 12) },
		"attention: LSE is float32[4x3], w": func(a *backend.AttentionArgs) { a.LSE = m.f(4, 3) },
		"attention: Offsets is int32[1x2],": func(a *backend.AttentionArgs) { a.Layout.Seqs = 2 },
		"attention: KeyValid is absent":     func(a *backend.AttentionArgs) { a.Layout.KeyValid = backend.Tensor{} },
		"attention: layout of 1 sequences,": func(a *backend.AttentionArgs) { a.Layout.Rows = 5 },
		"attention: RowKey is absent":       func(a *backend.AttentionArgs) { a.Drop.RowKey = backend.Tensor{} },
	})
	vary(add, (*backend.Stream).AttentionBackward, attBack, map[string]func(*backend.AttentionBackwardArgs){
		"":                                 func(*backend.AttentionBackwardArgs) {},
		"attention backward: DQKV float32": func(a *backend.AttentionBackwardArgs) { a.DQKV = a.QKV },
		"attention backward: Delta is abs": func(a *backend.AttentionBackwardArgs) { a.Delta = backend.Tensor{} },
		"attention backward: Delta float3": func(a *backend.AttentionBackwardArgs) { a.Delta = a.LSE },
		"attention backward: Out is float": func(a *backend.AttentionBackwardArgs) { a.Out = m.f(4, 5) },
	})
	vary(add, (*backend.Stream).CrossEntropy, loss, map[string]func(*backend.CrossEntropyArgs){
		"": func(*backend.CrossEntropyArgs) {},
		"cross-entropy: Labels is int32[4x1], want int32[1x4]": func(a *backend.CrossEntropyArgs) { a.Labels = m.i(4, 1) },
		"cross-entropy: Entropy is absent, want float32[4x1]":  func(a *backend.CrossEntropyArgs) { a.Entropy = backend.Tensor{} },
		"cross-entropy: LSE float32[4x1] overlaps Correct":     func(a *backend.CrossEntropyArgs) { a.Correct = a.LSE },
		"cross-entropy: rows of Logits float32[4x0] are empty": func(a *backend.CrossEntropyArgs) { a.Logits = m.f(4, 0) },
	})
	vary(add, (*backend.Stream).CrossEntropyBackward, lossBack, map[string]func(*backend.CrossEntropyBackwardArgs){
		"": func(a *backend.CrossEntropyBackwardArgs) { a.DLogits = a.Logits },
		"cross-entropy backward: DLogits is float32[4x5], want float32[4x6]": func(a *backend.CrossEntropyBackwardArgs) { a.DLogits = m.f(4, 5) },
		"cross-entropy backward: LSE is float32[3x1], want float32[4x1]":     func(a *backend.CrossEntropyBackwardArgs) { a.LSE = m.f(3, 1) },
	})
	vary(add, (*backend.Stream).AdamW, adam, map[string]func(*backend.AdamWArgs){
		"":                                    func(*backend.AdamWArgs) {},
		"adamw: Grad is float32[1x6], want":   func(a *backend.AdamWArgs) { a.Grad = m.f(1, 6) },
		"adamw: SumSq is absent, with ClipNo": func(a *backend.AdamWArgs) { a.SumSq = backend.Tensor{} },
		"adamw: SumSq is int32[1x1], want fl": func(a *backend.AdamWArgs) { a.SumSq = m.i(1, 1) },
		"adamw: step 0, clip norm 1":          func(a *backend.AdamWArgs) { a.Step = 0 },
		"adamw: M float32[1x7] overlaps V":    func(a *backend.AdamWArgs) { a.M = a.V },
	})
	for _, c := range calls {
		s := backend.NewStream(m.dev)
		c.do(s)
		switch err := s.Err(); {
		case c.want == "" && err != nil:
			t.Errorf("%v, want no error", err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%v, want %q", err, c.want)
		case err != nil && fault.KindOf(err) != fault.Internal:
			t.Errorf("%v is of kind %d", err, fault.KindOf(err))
		}
	}
}

// vary adds a call for each change of good arguments.
func vary[A any](add func(string, func(*backend.Stream)), op func(*backend.Stream, A), good A, changes map[string]func(*A)) {
	for want, change := range changes {
		a := good
		change(&a)
		add(want, func(s *backend.Stream) { op(s, a) })
	}
}

// broken is a device whose Tanh fails.
type broken struct {
	backend.Device
	err error
}

func (b broken) Tanh(y, x backend.Tensor) error { return b.err }

// TestStreamKeepsFirstError: the first error stays, what follows is skipped, transfers
// and Sync report it.
func TestStreamKeepsFirstError(t *testing.T) {
	cause := errors.New("the lamp went out")
	dev := broken{cpu.NewReference(backend.F32), cause}
	m := maker{t, dev}
	x, y := m.f(1, 2), m.f(1, 2)
	s := backend.NewStream(dev)
	if err := s.UploadF32(x, []float32{1, 2}); err != nil {
		t.Fatal(err)
	}
	s.Tanh(y, x)
	s.Zero(x)
	s.Zero(backend.Tensor{})
	err := s.Sync()
	if err == nil || err.Error() != "tanh: the lamp went out" || fault.KindOf(err) != fault.Device || !errors.Is(err, cause) {
		t.Fatalf("error is %v of kind %d", err, fault.KindOf(err))
	}
	if s.Err() != err || s.UploadF32(x, []float32{3, 4}) != err || s.DownloadF32(make([]float32, 2), x) != err {
		t.Error("the first error did not stay")
	}
	s.Fail(errors.New("another"))
	if s.Err() != err {
		t.Error("Fail replaced the first error")
	}
	got := make([]float32, 2)
	if err := backend.NewStream(dev).DownloadF32(got, x); err != nil || got[0] != 1 || got[1] != 2 {
		t.Errorf("after the error x became %v, %v", got, err)
	}
	s = backend.NewStream(dev)
	s.Fail(nil)
	if s.Fail(cause); s.Err() != cause {
		t.Errorf("Fail gives %v", s.Err())
	}
}

func TestStreamTransfers(t *testing.T) {
	m := maker{t, cpu.NewReference(backend.F32)}
	x, i := m.f(4, 6), m.i(2, 2)
	for want, do := range map[string]func(s *backend.Stream) error{
		"upload: tensor is float32[4x6], host slice has 23 elements":      func(s *backend.Stream) error { return s.UploadF32(x, make([]float32, 23)) },
		"upload: tensor float32[4x3] has stride 6, want it contiguous":    func(s *backend.Stream) error { return s.UploadF64(x.ColRange(0, 3), make([]float64, 12)) },
		"upload: tensor is float32[4x6], 24 host elements are of another": func(s *backend.Stream) error { return s.UploadI32(x, make([]int32, 24)) },
		"download: tensor is int32[2x2], 4 host elements are of another":  func(s *backend.Stream) error { return s.DownloadF32(make([]float32, 4), i) },
		"download: tensor is int32[2x2], 4 host elements are of another ": func(s *backend.Stream) error { return s.DownloadF64(make([]float64, 4), i) },
		"download: tensor is absent":                                      func(s *backend.Stream) error { return s.DownloadI32(nil, backend.Tensor{}) },
		"download: tensor is int32[3x2] at 0 with stride 2, outside its buf": func(s *backend.Stream) error {
			y := i
			y.Rows, y.Buf = 3, small{}
			return s.DownloadI32(make([]int32, 6), y)
		},
	} {
		s := backend.NewStream(m.dev)
		if err := do(s); err == nil || !strings.HasPrefix(err.Error(), want) || s.Err() != err {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// small is a buffer of 8 bytes.
type small struct{}

func (small) Bytes() int64 { return 8 }
func (small) Free() error  { return nil }
