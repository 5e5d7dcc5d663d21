//go:build cuda

package train

import (
	"os"
	"testing"

	"sift/backend"
	"sift/backend/cuda"
	"sift/config"
)

// cudaDevice opens the first CUDA device, which may be the emulator that SIFT_CUDA_DRIVER
// names, or skips: a machine or build without CUDA fails only where SIFT_REQUIRE_CUDA
// says it has it.
func cudaDevice(t testing.TB, precision backend.DType) backend.Device {
	t.Helper()
	dev, err := cuda.Open(cuda.Options{Precision: precision})
	if err != nil {
		if os.Getenv("SIFT_REQUIRE_CUDA") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// onCUDA is cfg for a CUDA device that computes in precision.
func onCUDA(cfg config.Config, precision string) config.Config {
	cfg.Device.Name, cfg.Train.Precision, cfg.Sift.ScorePrecision = "cuda", precision, precision
	return cfg
}

// TestCUDATrainsAsTheProcessor: 200 updates with the dropout and the selections of the
// processor's run. Every loss stays within a thousandth.
func TestCUDATrainsAsTheProcessor(t *testing.T) {
	dev := cudaDevice(t, backend.F32)
	trainsAsTheProcessor(t, onCUDA(tinyPretraining(t), "f32"), dev, 1e-3)
}

// TestCUDATrainsInBF16: the same with activations in bfloat16, within a fiftieth.
func TestCUDATrainsInBF16(t *testing.T) {
	dev := cudaDevice(t, backend.BF16)
	trainsAsTheProcessor(t, onCUDA(tinyPretraining(t), "bf16"), dev, 2e-2)
}

// TestCUDASelectsAsTheProcessor: at 40 states of the processor's weights at least 99.9% of
// the sequences are kept by both or by neither.
func TestCUDASelectsAsTheProcessor(t *testing.T) {
	dev := cudaDevice(t, backend.F32)
	cfg := onCUDA(tinyPretraining(t), "f32")
	cfg.Train.Updates = 40
	selectsAsTheProcessor(t, cfg, dev)
}

// TestCUDAResumes: a run that was interrupted and taken up ends with the same bits, also
// where products read a rounded copy of the weights.
func TestCUDAResumes(t *testing.T) {
	for precision, dtype := range map[string]backend.DType{"f32": backend.F32, "bf16": backend.BF16} {
		t.Run(precision, func(t *testing.T) {
			resumesTheSame(t, onCUDA(tinyPretraining(t), precision), func([]byte) backend.Device { return cudaDevice(t, dtype) })
		})
	}
}

// TestCUDABaseGradients: every gradient of an update of BERT base lies within a thousandth of
// its norm, and a millionth of the norm of all, of the processor's.
func TestCUDABaseGradients(t *testing.T) {
	gradientsAsTheProcessor(t, cudaDevice(t, backend.F32))
}
