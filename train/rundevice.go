package train

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"

	"sift/backend"
	"sift/fault"
)

// deviceName is the file of a run directory that says what the run is computed on.
const deviceName = "device.json"

// deviceRecord names the kernels: another choice gives other last bits.
type deviceRecord struct {
	Kind, ISA, Float string
	// Tuning is what a device that measured its kernels chose (backend.Tuned).
	Tuning string `json:",omitempty"`
	// Description is of a device whose last bits may depend on its make and driver.
	Description string `json:",omitempty"`
}

func recordDevice(dev backend.Device) deviceRecord {
	info := dev.Info()
	r := deviceRecord{Kind: info.Kind, ISA: info.ISA, Float: info.Float.String()}
	if t, ok := dev.(backend.Tuned); ok {
		r.Tuning = string(t.Tuning())
	}
	if r.Kind != "cpu" && r.Kind != "reference" {
		r.Description = info.Description
	}
	return r
}

func (d deviceRecord) String() string {
	return strings.Join(strings.Fields(d.Kind+" "+d.ISA+" "+d.Float), " ")
}

// option is how this device is asked for. name is what the run's configuration called it.
func (d deviceRecord) option(name string) string {
	switch {
	case d.Kind == "cpu" && d.ISA != "":
		return "--device cpu --device.isa " + d.ISA
	case strings.HasPrefix(name, d.Kind+":"):
		return "--device " + name
	}
	return "--device " + d.Kind
}

// check refuses to go on with other kernels than those of the checkpoint at path, whose
// configuration called the device name. What it returns beside an error is for the user to
// know.
func (d deviceRecord) check(now deviceRecord, path, name string) (notice string, err error) {
	before := d
	before.Description, before.Tuning = now.Description, now.Tuning
	switch {
	case before != now:
		return "", fault.New(fault.Config, "device.name: opens %s, but %s was written on %s: other kernels would give other numbers; give %s", now, path, d, d.option(name))
	case d.Tuning != now.Tuning:
		return "", fault.New(fault.Config, "device: %s has chosen other kernels than %s was written with, which would give other numbers; %s of the run pins them",
			now, path, deviceName)
	case d.Description != now.Description:
		return "device: " + now.Description + ", but " + path + " was written on " + d.Description + ": the numbers may differ in their last digits", nil
	}
	return "", nil
}

// runDevice is device.json.
type runDevice struct {
	Name        string `json:"name"` // as it was opened
	Kind        string `json:"kind"`
	Description string `json:"description"`
	ISA         string `json:"isa,omitempty"`
	Precision   string `json:"precision"`        // train.precision
	Tuning      string `json:"tuning,omitempty"` // the kernels chosen: a resumed run computes with the same
	// Earlier are the devices that the run was on before it was resumed on this one, oldest
	// first.
	Earlier []runDevice `json:"earlier,omitempty"`
}

// writeDevice writes device.json, and keeps what it said before of another device.
func writeDevice(d disk, dir string, dev backend.Device, precision string) error {
	info, record := dev.Info(), recordDevice(dev)
	now := runDevice{Name: info.Name, Kind: info.Kind, Description: info.Description, ISA: info.ISA, Precision: precision, Tuning: record.Tuning}
	var before runDevice
	// A damaged file is replaced: it is for people, and checkpoints hold what counts.
	if data, err := readAll(d, filepath.Join(dir, deviceName), 16<<20); err == nil && json.Unmarshal(data, &before) == nil && before.Name != "" {
		earlier := before.Earlier
		before.Earlier = nil
		if !reflect.DeepEqual(before, now) {
			earlier = append(earlier, before)
		}
		now.Earlier = earlier
	}
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return fault.New(fault.Internal, "%s: %w", deviceName, err)
	}
	return writeFile(d, filepath.Join(dir, deviceName), append(data, '\n'))
}

// RunTuning returns the kernel choices of the run in dir, for opening its device again:
// those in device.json, or without that file those in the newest checkpoint. It is nil
// where the device made no choices, or the run has not begun.
func RunTuning(dir string) ([]byte, error) {
	path := filepath.Join(dir, deviceName)
	data, err := readAll(osDisk{}, path, 16<<20)
	switch {
	case err == nil:
		var r runDevice
		if err := json.Unmarshal(data, &r); err != nil {
			var other *json.UnmarshalTypeError
			if errors.As(err, &other) {
				return nil, fault.New(fault.Data, "%s: is JSON, but not what a run writes there", path)
			}
			return nil, fault.New(fault.Data, "%s: %w", path, err)
		}
		return tuningOf(r.Tuning), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	c, _, err := newest(osDisk{}, filepath.Join(dir, checkpointDir), nil)
	if err != nil || c == nil {
		return nil, err
	}
	defer c.Close()
	return tuningOf(c.Device.Tuning), nil
}

func tuningOf(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}
