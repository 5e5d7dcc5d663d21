package train

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

// frailDevice runs out of memory at one allocation, or is lost at one matrix product.
type frailDevice struct {
	backend.Device
	allocs, failAlloc int
	gemms, failGemm   int
}

func (d *frailDevice) Alloc(bytes int64) (backend.Buffer, error) {
	if d.allocs++; d.allocs == d.failAlloc {
		return nil, fault.New(fault.Device, "out of memory: %d bytes", bytes)
	}
	return d.Device.Alloc(bytes)
}

func (d *frailDevice) Gemm(a backend.GemmArgs) error {
	if d.gemms++; d.gemms == d.failGemm {
		return fault.New(fault.Device, "lost")
	}
	return d.Device.Gemm(a)
}

func TestDeviceOutOfMemory(t *testing.T) {
	k := newToy(t, func(c *config.Config) { c.Sift.Score, c.Train.Epochs = "loss", 1 })
	healthy := &frailDevice{Device: cpu.NewReference(backend.F32)}
	if _, err := k.run(t, context.Background(), func(o *RunOptions) { o.Device = healthy }); err != nil {
		t.Fatal(err)
	}
	if healthy.allocs < 5 {
		t.Fatalf("only %d allocations", healthy.allocs)
	}
	for i := 1; i <= healthy.allocs; i++ {
		k.out = filepath.Join(t.TempDir(), "run")
		_, err := k.run(t, context.Background(), func(o *RunOptions) {
			o.Device = &frailDevice{Device: cpu.NewReference(backend.F32), failAlloc: i}
		})
		wantKind(t, err, fault.Device, "out of memory")
		if _, err := os.Stat(k.out); !os.IsNotExist(err) {
			t.Errorf("allocation %d of %d: the directory was left", i, healthy.allocs)
		}
	}
}

// TestDeviceLost: the error names the last checkpoint, and the run goes on from it as if
// nothing had happened.
func TestDeviceLost(t *testing.T) {
	whole := newToy(t, func(c *config.Config) { c.Sift.Score, c.Train.SaveEvery = "loss", 2 })
	healthy := &frailDevice{Device: cpu.NewReference(backend.F32)}
	s, err := whole.run(t, context.Background(), func(o *RunOptions) { o.Device = healthy })
	if err != nil {
		t.Fatal(err)
	}
	want := finish(t, whole.out, s.Updates)
	named := 0
	for i := 1; i <= healthy.gemms; i += 37 {
		k := *whole
		k.out = filepath.Join(t.TempDir(), "run")
		_, err := k.run(t, context.Background(), func(o *RunOptions) {
			o.Device = &frailDevice{Device: cpu.NewReference(backend.F32), failGemm: i}
		})
		wantKind(t, err, fault.Device, "lost")
		if strings.Contains(err.Error(), "the last good checkpoint is "+checkpointDir) {
			named++
		}
		if _, err := k.run(t, context.Background(), func(o *RunOptions) { o.Resume = true }); err != nil {
			t.Fatal(err)
		}
		want.same(t, fmt.Sprintf("product %d of %d", i, healthy.gemms), finish(t, k.out, s.Updates))
	}
	if named == 0 {
		t.Error("no error named a checkpoint")
	}
}
