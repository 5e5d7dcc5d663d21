//go:build cuda

package train

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"

	"sift/backend"
	"sift/backend/cuda"
	"sift/config"
	"sift/fault"
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

// TestCUDAScoresBeside: without reuse the next update is scored on a second queue while the
// optimiser goes on. Whatever the queues and threads do first, the weights are those of steps
// that reuse the prefix, bit for bit; and the run is interrupted and taken up with the same bits.
func TestCUDAScoresBeside(t *testing.T) {
	cfg := onCUDA(tinyPretraining(t), "f32")
	cfg.Train.Updates, cfg.Train.EvaluateEvery, cfg.Data.ValidShare, cfg.Train.Accumulate = 12, 5, 0.01, 2
	cfg.Train.MicroBatch /= 2
	dir := t.TempDir()
	run := func(name string) string {
		out := filepath.Join(dir, name)
		trainTiny(t, cfg, cudaDevice(t, backend.F32), out)
		return out
	}
	cfg.Sift.Reuse = true
	reused := finish(t, run("reuse"), 12)
	cfg.Sift.Reuse, cfg.Sift.ScoringDropout = false, true
	late := finish(t, run("late"), 12)
	if !bytes.Equal(reused.last, late.last) || reused.selection != late.selection {
		t.Error("scoring beside gives other weights, moments or selections than scoring before")
	}
	t.Setenv("SIFT_EMULATOR_STREAMS", "early")
	t.Setenv("SIFT_EMULATOR_ORDER", "shuffled") // of the threads of every kernel
	finish(t, run("early"), 12).same(t, "early", late)
	resumesTheSame(t, cfg, func([]byte) backend.Device { return cudaDevice(t, backend.F32) })
}

// TestCUDADiverges: an update whose gradient is not finite is found after the next has begun,
// and has changed nothing: the checkpoint is that of the update before.
func TestCUDADiverges(t *testing.T) {
	cfg := onCUDA(tinyPretraining(t), "f32")
	cfg.Train.Updates, cfg.Train.EvaluateEvery = 9, 100
	dir := t.TempDir()
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	trainTiny(t, cfg, cudaDevice(t, backend.F32), whole)
	ill := &unbounded{cudaDevice(t, backend.F32).(backend.Queued), 5}
	_, err := Pretrain(t.Context(), cfg, RunOptions{Out: parts, Device: ill, Version: "test"})
	wantKind(t, err, fault.Diverged, "update 6: the norm of the gradient is +Inf", checkpointName(5))
	if n := len(updatesOf(t, parts)); n != 5 {
		t.Errorf("%d updates are reported", n)
	}
	if _, err := Pretrain(t.Context(), cfg, RunOptions{Out: parts, Device: cudaDevice(t, backend.F32), Resume: true, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	finish(t, whole, 9).same(t, "resumed", finish(t, parts, 9))
}

// unbounded is a device whose gradients are finite for a few updates.
type unbounded struct {
	backend.Queued
	good int
}

func (u *unbounded) SumSquares(dst, x backend.Tensor) error {
	if u.good--; u.good < 0 {
		return u.UploadF32(dst, []float32{float32(math.Inf(1))})
	}
	return u.Queued.SumSquares(dst, x)
}

func (u *unbounded) NewSlot(n int) (backend.Slot, error) {
	s, err := u.Queued.NewSlot(n)
	return unboundedSlot{s, u}, err
}

type unboundedSlot struct {
	backend.Slot
	of *unbounded
}

func (s unboundedSlot) Start(_ backend.Device, src backend.Tensor) error {
	return s.Slot.Start(s.of.Queued, src)
}

// TestCUDABaseGradients: every gradient of an update of BERT base lies within a thousandth of
// its norm, and a millionth of the norm of all, of the processor's.
func TestCUDABaseGradients(t *testing.T) {
	gradientsAsTheProcessor(t, cudaDevice(t, backend.F32))
}
