package train

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

// tunedDevice is a device that chooses one of two kernels for products, whose last bits
// differ.
type tunedDevice struct {
	backend.Device
	choice, driver string
}

func newTuned(choice string) *tunedDevice {
	return &tunedDevice{cpu.NewReference(backend.F32), choice, "driver 1"}
}

func (d *tunedDevice) Tuning() []byte { return []byte("gemm " + d.choice) }

func (d *tunedDevice) Info() backend.Info {
	i := d.Device.Info()
	i.Name, i.Kind, i.Description = "vulkan:4", "vulkan", d.driver
	return i
}

func (d *tunedDevice) Gemm(a backend.GemmArgs) error {
	if d.choice == "b" {
		a.Alpha *= 1 + 0x1p-20
	}
	return d.Device.Gemm(a)
}

// TestTuningIsPinned: a run knows which kernels it began with, refuses others, and with
// the same continues bit for bit.
func TestTuningIsPinned(t *testing.T) {
	whole := newToy(t, func(c *config.Config) { c.Device.Name = "vulkan" })
	on := func(k *toy, d *tunedDevice, resume bool, stop int) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		_, err := k.run(t, ctx, func(o *RunOptions) {
			o.Device, o.Resume = d, resume
			o.Progress = func(e Event) {
				if u, ok := e.(*Updated); ok && u.Update == stop {
					cancel()
				}
			}
		})
		return err
	}
	s, err := whole.run(t, context.Background(), func(o *RunOptions) { o.Device = newTuned("b") })
	if err != nil {
		t.Fatal(err)
	}
	want := finish(t, whole.out, s.Updates)
	other := newToy(t, func(c *config.Config) { c.Device.Name = "vulkan" })
	if err := on(other, newTuned("a"), false, 0); err != nil {
		t.Fatal(err)
	}
	if string(finish(t, other.out, s.Updates).last) == string(want.last) {
		t.Fatal("both kernels give the same numbers; the test shows nothing")
	}

	k := newToy(t, func(c *config.Config) { c.Device.Name = "vulkan" })
	wantKind(t, on(k, newTuned("b"), false, 5), fault.Interrupted)
	var file map[string]string
	data, err := os.ReadFile(filepath.Join(k.out, deviceName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if file["name"] != "vulkan:4" || file["tuning"] != "gemm b" || file["description"] != "driver 1" || file["precision"] != "f32" {
		t.Errorf("%s: %s", deviceName, data)
	}
	wantKind(t, on(k, newTuned("a"), true, 0), fault.Config, "other kernels", deviceName)
	for _, lost := range []bool{false, true} { // device.json, and the checkpoint's own record
		if lost {
			if err := os.Remove(filepath.Join(k.out, deviceName)); err != nil {
				t.Fatal(err)
			}
		}
		if tuning, err := RunTuning(k.out); err != nil || string(tuning) != "gemm b" {
			t.Fatalf("pinned %q, %v", tuning, err)
		}
	}
	if err := on(k, newTuned("b"), true, 0); err != nil {
		t.Fatal(err)
	}
	want.same(t, "resumed", finish(t, k.out, s.Updates))
	if tuning, err := RunTuning(k.out); err != nil || string(tuning) != "gemm b" {
		t.Errorf("after the end %q, %v", tuning, err)
	}
}

func TestRunTuning(t *testing.T) {
	dir := t.TempDir()
	if tuning, err := RunTuning(dir); tuning != nil || err != nil {
		t.Errorf("of no run: %q, %v", tuning, err)
	}
	k := newToy(t, nil)
	k.mustRun(t)
	if tuning, err := RunTuning(k.out); tuning != nil || err != nil {
		t.Errorf("of a device that chooses nothing: %q, %v", tuning, err)
	}
	if err := os.WriteFile(filepath.Join(dir, deviceName), []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := RunTuning(dir)
	wantKind(t, err, fault.Data, deviceName)
	if err := os.WriteFile(filepath.Join(dir, deviceName), []byte("[]"), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = RunTuning(dir)
	wantKind(t, err, fault.Data, deviceName, "not what a run writes there")
}

// TestAnotherDriver: the same kernels on another driver go on, and the user is told.
func TestAnotherDriver(t *testing.T) {
	k := newToy(t, func(c *config.Config) { c.Device.Name = "vulkan" })
	if _, err := k.run(t, context.Background(), func(o *RunOptions) { o.Device = newTuned("a") }); err != nil {
		t.Fatal(err)
	}
	var notices []string
	_, err := k.run(t, context.Background(), func(o *RunOptions) {
		d := newTuned("a")
		d.driver = "driver 2"
		o.Device, o.Resume = d, true
		o.Progress = func(e Event) {
			if n, ok := e.(*Notice); ok {
				notices = append(notices, n.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(notices, "\n"); !strings.Contains(all, "device: driver 2, but ") || !strings.Contains(all, "driver 1") {
		t.Errorf("notices %q", notices)
	}
	data, err := os.ReadFile(filepath.Join(k.out, deviceName))
	if err != nil {
		t.Fatal(err)
	}
	var file runDevice
	if err := json.Unmarshal(data, &file); err != nil || file.Description != "driver 2" || len(file.Earlier) != 1 || file.Earlier[0].Description != "driver 1" {
		t.Errorf("%v: %s", err, data)
	}
	_, err = k.run(t, context.Background(), func(o *RunOptions) { o.Resume = true })
	wantKind(t, err, fault.Config, "reference go float32", "vulkan go float32", "give --device vulkan")
}

func TestDeviceOption(t *testing.T) {
	for _, c := range []struct {
		d          deviceRecord
		name, want string
	}{
		{deviceRecord{Kind: "cpu", ISA: "avx2"}, "vulkan", "--device cpu --device.isa avx2"},
		{deviceRecord{Kind: "vulkan"}, "vulkan:cpu", "--device vulkan:cpu"},
		{deviceRecord{Kind: "vulkan"}, "auto", "--device vulkan"},
		{deviceRecord{Kind: "reference", ISA: "go"}, "reference", "--device reference"},
	} {
		if got := c.d.option(c.name); got != c.want {
			t.Errorf("%+v called %s: %s, want %s", c.d, c.name, got, c.want)
		}
	}
}
