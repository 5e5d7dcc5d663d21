package cpu_test

import (
	"testing"

	"sift/backend"
	"sift/backend/backendtest"
	"sift/backend/cpu"
)

func TestReference(t *testing.T) {
	for _, float := range []backend.DType{backend.F32, backend.F64} {
		t.Run(float.String(), func(t *testing.T) {
			backendtest.RunAll(t, func() (backend.Device, error) { return cpu.NewReference(float), nil })
		})
	}
}

func BenchmarkReference(b *testing.B) {
	backendtest.Bench(b, func() (backend.Device, error) { return cpu.NewReference(backend.F32), nil })
}
