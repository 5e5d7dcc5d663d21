package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
)

// smallSuite is every case of a suite in sizes for plain Go.
func smallSuite() suiteSizes {
	u := updateOf("bert-tiny", 2, 8, 1, 1)
	u.vocab, u.hidden, u.intermediate, u.layers = 50, 16, 32, 1
	return suiteSizes{
		checks:  append(checkedCases([][2]int{{3, 5}, {17, 33}}), checkedAttention(2, 8, 3, 17, 1)...),
		timings: baseTimings(16, 64, 128, 50, 3, 1000, times(2, 8), times(1, 16)),
		updates: []updateCase{u},
		budget:  time.Millisecond,
		half:    true,
	}
}

// brokenDevice is the reference with a Tanh that fails, a Dropout with another mask, and a
// gradient of the loss that is NaN. It says it is a GPU.
type brokenDevice struct{ backend.Device }

func (d *brokenDevice) Info() backend.Info {
	return backend.Info{Name: "vulkan:0", Description: "broken", Kind: "vulkan", Float: backend.F32}
}

func (d *brokenDevice) Caps() string { return "subgroups of 8" }

func (d *brokenDevice) Tanh(y, x backend.Tensor) error {
	return fault.New(fault.Device, "device lost")
}

func (d *brokenDevice) Dropout(y, x backend.Tensor, drop backend.Drop) error {
	drop.Seed++
	return d.Device.Dropout(y, x, drop)
}

func (d *brokenDevice) CrossEntropyBackward(a backend.CrossEntropyBackwardArgs) error {
	a.Scale = 0
	a.Scale /= a.Scale
	return d.Device.CrossEntropyBackward(a)
}

func runSmallSuite(t *testing.T, ctx context.Context, open func(deviceUse) (*opened, error)) (suiteReport, string, error) {
	t.Helper()
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "suite.json")
	s := &suite{t: &terminal{out: &out, err: io.Discard}, out: path, sizes: smallSuite(), start: time.Now(), open: open}
	err := s.run(ctx)
	data, readErr := os.ReadFile(path)
	if readErr != nil {
		t.Fatal(err, readErr)
	}
	var r suiteReport
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r, out.String(), err
}

// TestSuiteLimit: TF32 widens what products in float32 may be off by, and nothing else.
func TestSuiteLimit(t *testing.T) {
	for _, c := range []struct {
		tf32          bool
		op, precision string
		want          float64
	}{
		{false, "gemm nn", "f32", 5e-5}, {true, "gemm nn", "f32", 5e-3}, {true, "gemm with gelu", "f32", 5e-3},
		{true, "gemm nn", "bf16", 4e-2}, {true, "attention", "f32", 5e-5},
	} {
		if got := (&suite{tf32: c.tf32}).limit(c.op, c.precision); got != c.want {
			t.Errorf("%+v: %g", c, got)
		}
	}
}

func TestSuite(t *testing.T) {
	r, out, err := runSmallSuite(t, context.Background(), func(deviceUse) (*opened, error) {
		return &opened{device: cpu.NewReference(backend.F32)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sizes := smallSuite()
	if !r.Finished || r.Format != suiteFormat || r.Device.Kind != "reference" || r.CPU.Kind == "" || r.Processor == "" || r.Truth == "" || len(r.Failures) != 0 {
		t.Errorf("%+v", r)
	}
	if len(r.Checks) != len(sizes.checks) || len(r.Timings) != len(sizes.timings) || len(r.Updates) != len(sizes.updates) {
		t.Fatalf("%d checks, %d timings, %d updates", len(r.Checks), len(r.Timings), len(r.Updates))
	}
	ops := map[string]bool{}
	for _, c := range r.Checks {
		ops[c.Op] = true
		if !c.OK || c.Failure != "" || !strings.Contains(out, c.Op) {
			t.Errorf("%+v", c)
		}
	}
	// Every operation of backend.Kernels, Gemm's forms counted apart.
	if len(ops) != 4+1+11+3+2+2+2 {
		t.Errorf("%d operations: %v", len(ops), ops)
	}
	for _, x := range r.Timings {
		if !(x.Seconds > 0 && x.Least > 0 && x.Least <= x.Seconds && x.Runs >= 1 && x.Calls >= 1 && x.CPU != nil && x.CPU.Seconds > 0) ||
			(x.GFLOPS > 0) == (x.GBps > 0) || (x.Part == "memory") != (x.GBps > 0) {
			t.Errorf("%+v", x)
		}
	}
	if u := r.Updates[0]; !(u.Seconds > 0 && u.CPUSeconds > 0 && u.TokensPerSecond > 0 && u.DeviceBytes > 0) || u.Profile != nil {
		t.Errorf("%+v", u)
	}
}

// TestSuiteNamesFailures: what fails is in the file by name, everything else is measured,
// and the device is opened anew after a failure.
func TestSuiteNamesFailures(t *testing.T) {
	n := 0
	r, out, err := runSmallSuite(t, context.Background(), func(use deviceUse) (*opened, error) {
		n++
		return &opened{device: &brokenDevice{cpu.NewReference(backend.F32)}}, nil
	})
	if fault.KindOf(err) != fault.Answer || !strings.Contains(err.Error(), "failures, first: check tanh 3x5 f32: tanh: device lost") {
		t.Errorf("%v", err)
	}
	if !r.Finished || r.Device.Caps != "subgroups of 8" || n < 5 {
		t.Errorf("finished %v, caps %q, opened %d times", r.Finished, r.Device.Caps, n)
	}
	all := strings.Join(r.Failures, "\n")
	for _, want := range []string{"check tanh 3x5 f32: tanh: device lost", "check dropout 17x33 f32: off by", "check cross-entropy backward 17x34 f32: element 0 of result 1 is NaN",
		"time tanh 16x64 f32: tanh: device lost", "update bert-tiny f32: ", "check dropout 17x33 f16"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	precisions := map[string]int{}
	for _, c := range r.Checks {
		precisions[c.Precision]++
		bad := c.Op == "tanh" || c.Op == "dropout" && c.Shape != "3x5" || c.Op == "cross-entropy backward"
		if bad && c.OK || c.OK == (c.Failure != "") || !bad && c.Op != "dropout" && !strings.Contains(c.Op, "layer norm") && !c.OK {
			t.Errorf("%+v", c)
		}
	}
	if precisions["f32"] != precisions["f16"] || precisions["f16"] == 0 {
		t.Errorf("checked %v", precisions)
	}
	timed := 0
	for _, x := range r.Timings {
		if x.Failure == "" && x.Seconds > 0 {
			timed++
		}
		if x.Part == "memory" && x.Precision == "f16" {
			t.Errorf("timed twice: %+v", x)
		}
	}
	if timed < len(smallSuite().timings)-1 || !strings.Contains(out, "FAILED: tanh: device lost") {
		t.Errorf("%d timed\n%s", timed, out)
	}
}

func TestSuiteInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, _, err := runSmallSuite(t, ctx, func(deviceUse) (*opened, error) { return &opened{device: cpu.NewReference(backend.F32)}, nil })
	if fault.KindOf(err) != fault.Interrupted || r.Finished || r.Format != suiteFormat {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestSuiteCommand: nothing is overwritten unasked, and a device that is not there is one line.
func TestSuiteCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, suiteName, "mine")
	if code, _, stderr := run("bench", "suite", "--quick"); code != 73 || !strings.Contains(stderr, "exists; --force replaces it") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if err := os.Symlink(suiteName, "link"); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run("bench", "suite", "--quick", "--force", "--out", "link"); code != 73 || !strings.Contains(stderr, "link: is no regular file") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if data, err := os.ReadFile(suiteName); err != nil || string(data) != "mine" {
		t.Errorf("the file now holds %q, %v", data, err)
	}
	if code, _, stderr := run("bench", "suite", "--device", "cuda", "--out", "other.json"); code != 69 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, err := os.Stat("other.json"); !os.IsNotExist(err) {
		t.Error("a file was left")
	}
	for _, s := range []suiteSizes{fullSuite(), quickSuite()} {
		if len(s.checks) == 0 || len(s.timings) < 30 || len(s.updates) < 2 {
			t.Errorf("%d checks, %d timings, %d updates", len(s.checks), len(s.timings), len(s.updates))
		}
		for _, u := range s.updates {
			if err := u.config().Validate(); err != nil {
				t.Error(err)
			}
		}
	}
}
