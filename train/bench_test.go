package train

import (
	"context"
	"testing"
	"time"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
	"sift/sifting"
)

// timedDevice counts the products between StartProfile and StopProfile.
type timedDevice struct {
	backend.Device
	on             bool
	gemms, started int
}

func (d *timedDevice) StartProfile() error {
	d.on = true
	d.started++
	return nil
}

func (d *timedDevice) StopProfile() (backend.Profile, error) {
	d.on = false
	return backend.Profile{Kernels: []backend.KernelTime{{Name: "gemm", Calls: d.gemms, Seconds: 1}}, Wait: time.Second, Submits: 3}, nil
}

func (d *timedDevice) Gemm(a backend.GemmArgs) error {
	if d.on {
		d.gemms++
	}
	return d.Device.Gemm(a)
}

// TestBenchStepProfile: the profile is of the steps after the timed ones and of no others.
func TestBenchStepProfile(t *testing.T) {
	model := tinyShape(toyVocab)
	model.HasPooler, model.HasNSP, model.HasMLM, model.TiedDecoder, model.Classes = true, true, true, true, 0
	o := BenchOptions{Model: model, Seqs: 2, Length: 8, Warmup: 1, Runs: 3, Seed: 1, Profile: true, Sift: sifting.Options{Score: sifting.None}}
	calls := func(runs int) int {
		dev := &timedDevice{Device: cpu.NewReference(backend.F32)}
		o.Device, o.Runs = dev, runs
		r, err := BenchStep(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if p := r.Profile; p == nil || p.Steps != runs || p.Seconds <= 0 || p.Kernels[0].Calls != dev.gemms || p.Submits != 3 {
			t.Fatalf("profile %+v", p)
		}
		if len(r.StepSeconds) != runs || dev.started != 1 || dev.on {
			t.Fatalf("%d timed steps, started %d times, still on: %v", len(r.StepSeconds), dev.started, dev.on)
		}
		return dev.gemms
	}
	one := calls(1)
	if one == 0 || calls(3) != 3*one {
		t.Errorf("one step has %d products, three have not three times as many", one)
	}
	o.Device = cpu.NewReference(backend.F32)
	_, err := BenchStep(context.Background(), o)
	wantKind(t, err, fault.Usage, "device reference does not time its kernels")
}
