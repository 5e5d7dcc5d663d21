package train

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
	"sift/config"
	"sift/fault"
)

func TestToHalf(t *testing.T) {
	for x, want := range map[float32]float32{
		1: 1, 1 + 0x1p-11: 1, 1 + 0x3p-11: 1 + 0x1p-9, 65504: 65504, 65519: 65504, 65520: float32(math.Inf(1)), -1e9: float32(math.Inf(-1)),
		0x1p-24: 0x1p-24, 0x1p-25: 0, 0x1.8p-25: 0x1p-24, 0x1p-14 + 0x1p-24: 0x1p-14 + 0x1p-24, -0x1p-26: 0, 0: 0,
	} {
		if got := toHalf(x); got != want {
			t.Errorf("%g becomes %g, want %g", x, got, want)
		}
	}
}

// TestLossScale walks through halving, skipping, growth and both bounds.
func TestLossScale(t *testing.T) {
	s := newLossScale("f16", 3)
	want := func(factor float64, good, skipped int) {
		t.Helper()
		if s.Factor != factor || s.Good != good || s.Skipped != skipped {
			t.Fatalf("%+v, want factor %g, %d good, %d skipped", s, factor, good, skipped)
		}
	}
	overflow := func() {
		t.Helper()
		if err := s.overflowed(math.Inf(1)); err != nil {
			t.Fatal(err)
		}
	}
	want(1<<16, 0, 0)
	s.applied()
	s.applied()
	want(1<<16, 2, 0)
	overflow()
	want(1<<15, 0, 1)
	for range 3 {
		s.applied()
	}
	want(1<<16, 0, 1)
	for range 3 * 9 {
		s.applied()
	}
	want(1<<24, 0, 1)
	for range 24 {
		overflow()
	}
	want(1, 0, 25)
	wantKind(t, s.overflowed(math.NaN()), fault.Diverged, "NaN with a loss scale of 1, after 25 skipped updates")
	want(1, 0, 25)

	f32 := newLossScale("f32", 3)
	for range 9 {
		f32.applied()
	}
	if f32.Factor != 1 || f32.scaled() {
		t.Errorf("%+v in f32", f32)
	}
	wantKind(t, f32.overflowed(math.Inf(1)), fault.Diverged, "the norm of the gradient is +Inf")
	if d := newLossScale("f16", 0); d.interval != 2000 {
		t.Errorf("an interval of %d", d.interval)
	}
}

func TestLossScaleRestored(t *testing.T) {
	for _, from := range []*lossScale{nil, {Factor: 3}, {Factor: 0.5}, {Factor: 1 << 25}, {Factor: 2, Good: -1}, {Factor: 2, Good: 4},
		{Factor: 2, Skipped: -1}, {Factor: 2, Skipped: 9, Good: 2}, {Factor: math.NaN()}, {Factor: math.Inf(1)}} {
		s := newLossScale("f16", 4)
		wantKind(t, s.restored(from, 10), fault.Data, "loss scale")
	}
	s := newLossScale("f16", 4)
	if err := s.restored(&lossScale{Factor: 1 << 20, Good: 3, Skipped: 7}, 10); err != nil || s != (lossScale{1 << 20, 3, 7, 4}) {
		t.Errorf("%+v, %v", s, err)
	}
	s = newLossScale("f32", 0)
	wantKind(t, s.restored(&lossScale{Factor: 2}, 10), fault.Data, "loss scale")
	if err := s.restored(nil, 10); err != nil {
		t.Error(err)
	}
}

// inHalf runs a toy in f16.
func inHalf(k *toy, t *testing.T, interval int, dev backend.Device) (*Summary, error) {
	return k.run(t, context.Background(), func(o *RunOptions) { o.Device, o.growthInterval = dev, interval })
}

func half(set func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		c.Device.Name, c.Train.Precision, c.Sift.ScorePrecision = "vulkan", "f16", "f16"
		if set != nil {
			set(c)
		}
	}
}

// TestOverflowIsSkipped: a loss scale that has grown too far overflows float16 in earnest.
// The update is not applied, the factor is halved, the schedule goes on, and AdamW counts
// only what it was given.
func TestOverflowIsSkipped(t *testing.T) {
	k := newToy(t, half(func(c *config.Config) {
		c.Train.Epochs, c.Train.Accumulate, c.Train.SaveEvery = 8, 2, 1
		c.Train.KeepCheckpoints = 1000
	}))
	dev := newHalfDevice()
	s, err := inHalf(k, t, 2, dev)
	if err != nil {
		t.Fatal(err)
	}
	if dev.infinite == 0 || s.SkippedUpdates == 0 || s.SkippedUpdates == s.Updates || s.LossScale == 0 {
		t.Fatalf("%d infinite operands, %d of %d updates skipped, loss scale %g", dev.infinite, s.SkippedUpdates, s.Updates, s.LossScale)
	}
	sched := newSchedule(k.cfg.Optimizer, s.Updates)
	scale := newLossScale("f16", 2)
	dir := filepath.Join(k.out, checkpointDir)
	var before []byte
	seen := 0
	for _, line := range metricsOf(t, k.out) {
		if line["kind"] != "update" {
			continue
		}
		seen++
		number := func(key string) float64 {
			n, ok := line[key].(json.Number)
			if !ok {
				return 0
			}
			x, err := n.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		if number("loss_scale") != scale.Factor {
			t.Fatalf("update %d: loss scale %g, want %g", seen, number("loss_scale"), scale.Factor)
		}
		after := sectionsOf(t, filepath.Join(dir, checkpointName(seen)))
		if skipped, _ := line["skipped"].(bool); skipped {
			if err := scale.overflowed(math.Inf(1)); err != nil {
				t.Fatal(err)
			}
			if number("grad_norm") != 0 || before != nil && string(before) != string(after) {
				t.Errorf("update %d was skipped, and yet: norm %g, weights or moments changed", seen, number("grad_norm"))
			}
		} else {
			scale.applied()
			if n := number("grad_norm"); !(n > 0 && n < 100) || string(before) == string(after) {
				t.Errorf("update %d was applied: norm %g, or nothing changed", seen, n)
			}
		}
		if number("skipped_updates") != float64(scale.Skipped) {
			t.Errorf("update %d: %g skipped updates, want %d", seen, number("skipped_updates"), scale.Skipped)
		}
		if want := k.cfg.Optimizer.LR * sched.at(seen); number("lr") != want {
			t.Errorf("update %d: learning rate %g, want %g", seen, number("lr"), want)
		}
		before = after
	}
	if seen != s.Updates || scale.Factor != s.LossScale || scale.Skipped != s.SkippedUpdates {
		t.Errorf("%d lines and %+v, but the summary has %d updates, scale %g, %d skipped", seen, scale, s.Updates, s.LossScale, s.SkippedUpdates)
	}
}

// stepCounter notes the step numbers AdamW is called with.
type stepCounter struct {
	*halfDevice
	steps []int
}

func (c *stepCounter) AdamW(a backend.AdamWArgs) error {
	if n := len(c.steps); n == 0 || c.steps[n-1] != a.Step {
		c.steps = append(c.steps, a.Step)
	}
	return c.halfDevice.AdamW(a)
}

func TestSkippedUpdatesAreNoneOfAdamW(t *testing.T) {
	k := newToy(t, half(nil))
	dev := &stepCounter{halfDevice: newHalfDevice()}
	s, err := inHalf(k, t, 2, dev)
	if err != nil {
		t.Fatal(err)
	}
	if s.SkippedUpdates == 0 || len(dev.steps) != s.Updates-s.SkippedUpdates {
		t.Fatalf("%d updates, %d skipped, AdamW made %d", s.Updates, s.SkippedUpdates, len(dev.steps))
	}
	for i, step := range dev.steps {
		if step != i+1 {
			t.Fatalf("steps %v", dev.steps)
		}
	}
}

// TestLossScalingRescuesSmallGradients: a classifier with tiny weights passes on gradients
// that float16 rounds to zero. Without loss scaling the encoder learns nothing from them;
// with it, it learns what it would in float32.
func TestLossScalingRescuesSmallGradients(t *testing.T) {
	// encoder returns the first moments of the encoder after one update, and how many are 0.
	encoder := func(dev backend.Device, precision string) (moments []float32, zeros int) {
		k := newToy(t, func(c *config.Config) {
			c.Train.Epochs, c.Train.Updates, c.Train.ClipNorm = 0, 1, 0
			if precision == "f16" {
				half(nil)(c)
			}
		})
		in := toyMaterial(t, k.cfg, k.train, 0)
		for i := range in.weights[bert.RoleClassWeight] {
			in.weights[bert.RoleClassWeight][i] *= 0x1p-12
		}
		s, err := execute(context.Background(), k.cfg, RunOptions{Out: k.out, Device: dev, Version: "test"}, in)
		if err != nil {
			t.Fatal(err)
		}
		if s.SkippedUpdates > 0 {
			t.Fatalf("%d updates skipped", s.SkippedUpdates)
		}
		c, err := openCheckpoint(osDisk{}, filepath.Join(k.out, checkpointDir, checkpointName(1)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		m := newValues(backend.F32, bert.FlatLen(c.Params))
		if err := c.read("m", m); err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Params {
			if p.Head == bert.Trunk && p.Kind == bert.Matrix {
				moments = append(moments, m.f32[p.Offset:p.Offset+p.Len()]...)
			}
		}
		for _, x := range moments {
			if x == 0 {
				zeros++
			}
		}
		return moments, zeros
	}
	distance := func(a, b []float32) float64 {
		var d, n float64
		for i := range a {
			d += math.Pow(float64(a[i]-b[i]), 2)
			n += math.Pow(float64(b[i]), 2)
		}
		return math.Sqrt(d / n)
	}
	exact, none := encoder(cpu.NewReference(backend.F32), "f32")
	lost, zeros := encoder(newHalfDevice(), "f32")
	rescued, left := encoder(newHalfDevice(), "f16")
	t.Logf("of %d gradients float16 loses %d (float32 %d) and is off by %.3g; with loss scaling %d, off by %.3g",
		len(exact), zeros, none, distance(lost, exact), left, distance(rescued, exact))
	if none > 0 || zeros < len(exact)/2 || distance(lost, exact) < 0.5 {
		t.Errorf("float16 alone loses too little for the test to show anything")
	}
	if left > len(exact)/100 || distance(rescued, exact) > 0.01 {
		t.Errorf("loss scaling does not bring them back")
	}
}

// TestHalfResumes stops in the middle of growth and of recovery, bit for bit.
func TestHalfResumes(t *testing.T) {
	whole := newToy(t, half(func(c *config.Config) { c.Train.Epochs, c.Sift.Score, c.Sift.Log = 4, "loss", true }))
	s, err := inHalf(whole, t, 3, newHalfDevice())
	if err != nil {
		t.Fatal(err)
	}
	if s.SkippedUpdates == 0 {
		t.Fatal("no update was skipped")
	}
	want := finish(t, whole.out, s.Updates)
	middle := 0
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 3))
		k := *whole
		k.out = filepath.Join(t.TempDir(), "run")
		for resume := false; ; resume = true {
			ctx, cancel := context.WithCancel(context.Background())
			after := 1 + r.IntN(5)
			_, err := k.run(t, ctx, func(o *RunOptions) {
				o.Device, o.growthInterval, o.Resume = newHalfDevice(), 3, resume
				o.Progress = func(e Event) {
					if _, ok := e.(*Updated); ok {
						if after--; after == 0 {
							cancel()
						}
					}
				}
			})
			cancel()
			if err == nil {
				break
			}
			wantKind(t, err, fault.Interrupted)
			c, _, err := newest(osDisk{}, filepath.Join(k.out, checkpointDir), nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.Scale == nil {
				t.Fatal("no loss scale in the checkpoint")
			}
			if c.Scale.Good > 0 && c.Scale.Skipped > 0 {
				middle++
			}
			c.Close()
		}
		want.same(t, fmt.Sprintf("seed %d", seed), finish(t, k.out, s.Updates))
	}
	if middle == 0 {
		t.Error("no run was stopped in the middle of growth")
	}
}

// boundless is a device whose gradients are never finite.
type boundless struct{ backend.Device }

func (b boundless) SumSquares(dst, x backend.Tensor) error {
	return b.Device.UploadF32(dst, []float32{float32(math.Inf(1))})
}

// TestScaleOfOneDiverges: the scale falls to 1 in 16 skipped updates; the next overflow
// ends the run, with a checkpoint to go back to.
func TestScaleOfOneDiverges(t *testing.T) {
	k := newToy(t, half(func(c *config.Config) { c.Train.Epochs, c.Train.SaveEvery = 4, 0 }))
	_, err := inHalf(k, t, 0, boundless{newHalfDevice()})
	wantKind(t, err, fault.Diverged, "update 17", "loss scale of 1, after 16 skipped updates", checkpointName(16))
	// The weights are the first ones: nothing was ever applied.
	_, err = k.run(t, context.Background(), func(o *RunOptions) { o.Device, o.Resume = boundless{newHalfDevice()}, true })
	wantKind(t, err, fault.Diverged, "update 17")
}
