//go:build cgo && linux

package vulkan

import (
	"fmt"
	"syscall"
	"testing"

	"sift/backend"
)

// BenchmarkGemm measures every way of multiplying on the sizes of BERT base with 512
// tokens, in the forms of a training step. Beside GFLOP/s by the clock it gives GFLOP/s
// by processor time on all cores, which other programs on the machine disturb less.
func BenchmarkGemm(b *testing.B) {
	d := use(b, Options{})
	cpu := func() float64 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return float64(r.Utime.Sec+r.Stime.Sec) + 1e-6*float64(r.Utime.Usec+r.Stime.Usec)
	}
	for i := range products {
		p := &products[i]
		if !d.allows(p) {
			continue
		}
		for _, s := range [][3]int{{512, 768, 768}, {512, 3072, 768}, {512, 768, 3072}} {
			for form, name := range [...]string{"NN", "TN", "NT"} {
				m, n, k := s[0], s[1], s[2]
				b.Run(fmt.Sprintf("%s/%dx%dx%d/%s", p.name, m, n, k, name), func(b *testing.B) {
					a := backend.GemmArgs{C: tensor(b, d, m, n, 0), A: tensor(b, d, m, k, 0.5, -1, 0.25), B: tensor(b, d, k, n, 1, 0.5), Alpha: 1,
						TransA: form == 1, TransB: form == 2}
					if a.TransA {
						a.A = a.A.Reshape(k, m)
					}
					if a.TransB {
						a.B = a.B.Reshape(n, k)
					}
					defer func() {
						for _, t := range []backend.Tensor{a.A, a.B, a.C} {
							if err := t.Buf.Free(); err != nil {
								b.Error(err)
							}
						}
					}()
					run := func() {
						if err := d.gemmCall(p, a, m, n, k, 0, backend.Tensor{}); err != nil {
							b.Fatal(err)
						}
						if err := d.Sync(); err != nil {
							b.Fatal(err)
						}
					}
					run()
					b.ResetTimer()
					from := cpu()
					for b.Loop() {
						run()
					}
					flops := 2 * float64(m) * float64(n) * float64(k) * float64(b.N) / 1e9
					b.ReportMetric(flops/b.Elapsed().Seconds(), "GFLOP/s")
					b.ReportMetric(2*flops/(cpu()-from), "GFLOP/2cpu-s")
				})
			}
		}
	}
}
