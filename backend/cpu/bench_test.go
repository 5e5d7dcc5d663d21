//go:build cgo && unix

package cpu_test

import (
	"fmt"
	"testing"

	"sift/backend"
	"sift/backend/backendtest"
	"sift/backend/cpu"
)

func BenchmarkKernels(b *testing.B) { backendtest.Bench(b, opener(0, "auto")) }

// BenchmarkGemm reports, for the products of a step with BERT base on 1024 and 4096 rows
// and with MiniLM on 800, GFLOP/s and the share of the peak measured just before.
func BenchmarkGemm(b *testing.B) {
	for _, isa := range available() {
		dev, err := opener(0, isa)()
		if err != nil {
			b.Fatal(err)
		}
		defer dev.Close()
		for _, s := range []struct {
			m, n, k        int
			transA, transB bool
		}{
			{1024, 768, 768, false, true}, {1024, 2304, 768, false, true}, {1024, 3072, 768, false, true}, {1024, 768, 3072, false, true},
			{1024, 768, 3072, false, false}, {768, 768, 1024, true, false}, {3072, 768, 1024, true, false},
			{4096, 3072, 768, false, true}, {154, 30522, 768, false, true}, {154, 768, 30522, false, false},
			{800, 384, 384, false, true}, {800, 1536, 384, false, true}, {1536, 384, 800, true, false},
		} {
			name := fmt.Sprintf("%s/%dx%dx%d", isa, s.m, s.n, s.k)
			b.Run(name, func(b *testing.B) { benchmarkGemm(b, dev, s.m, s.n, s.k, s.transA, s.transB) })
		}
	}
}

func benchmarkGemm(b *testing.B, dev backend.Device, m, n, k int, transA, transB bool) {
	tensor := func(rows, cols int, trans bool) backend.Tensor {
		if trans {
			rows, cols = cols, rows
		}
		t, err := backend.Alloc(dev, backend.F32, rows, cols)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { t.Buf.Free() })
		return t
	}
	a := backend.GemmArgs{C: tensor(m, n, false), A: tensor(m, k, transA), B: tensor(k, n, transB), TransA: transA, TransB: transB, Alpha: 1}
	peak, err := cpu.Peak(dev.Info().Threads, dev.Info().ISA)
	if err != nil {
		b.Fatal(err)
	}
	if err := dev.Gemm(a); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := dev.Gemm(a); err != nil {
			b.Fatal(err)
		}
	}
	rate := 2 * float64(m) * float64(n) * float64(k) / 1e9 / (b.Elapsed().Seconds() / float64(b.N))
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/peak, "%peak")
}
