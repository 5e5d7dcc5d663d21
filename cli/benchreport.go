package cli

import (
	"fmt"

	"sift/backend"
)

// suiteFormat names the layout of a suite's file.
const suiteFormat = "sift bench suite 1"

// suiteReport is the file of sift bench suite.
type suiteReport struct {
	Format     string        `json:"format"`
	Finished   bool          `json:"finished"` // false: stopped before its end
	Program    string        `json:"program"`
	Go         string        `json:"go"`
	System     string        `json:"system"`
	Kernel     string        `json:"kernel,omitempty"`
	Processor  string        `json:"processor"`
	Processors int           `json:"processors"`
	Quick      bool          `json:"quick"`
	Device     suiteDevice   `json:"device"`
	CPU        suiteDevice   `json:"cpu"`         // what the figures are held against, unless it is the device
	Truth      string        `json:"truth"`       // what the checks are held against: cpu, or for that reference
	PeakGFLOPS float64       `json:"peak_gflops"` // of the processor's multiply-adds, this run; 0: not measured
	Checks     []suiteCheck  `json:"checks"`
	Timings    []suiteTiming `json:"timings"`
	Updates    []suiteUpdate `json:"updates"`
	Failures   []string      `json:"failures"`
	Seconds    float64       `json:"seconds"` // that the suite took
}

// suiteDevice is an opened device.
type suiteDevice struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Description string `json:"description"`
	ISA         string `json:"isa,omitempty"`
	Threads     int    `json:"threads,omitempty"`
	MemoryBytes int64  `json:"memory_bytes"`
	Type        string `json:"type,omitempty"` // of a Vulkan device, as in sift devices
	Driver      string `json:"driver,omitempty"`
	API         string `json:"api,omitempty"`
	Caps        string `json:"caps,omitempty"`
	Tuning      string `json:"tuning,omitempty"` // the kernels it chose
}

// suiteCheck compares an operation with the processor's: the largest difference, in units
// of the largest number of the tensor it is in.
type suiteCheck struct {
	Op        string  `json:"op"`
	Shape     string  `json:"shape"`
	Precision string  `json:"precision"`
	Error     float64 `json:"error"`
	Limit     float64 `json:"limit"`
	OK        bool    `json:"ok"`
	Failure   string  `json:"failure,omitempty"`
}

// suiteTiming is an operation on the device and on the processor. Rates are of the median.
type suiteTiming struct {
	Part       string  `json:"part"` // gemm, attention, memory
	Op         string  `json:"op"`
	Shape      string  `json:"shape"`
	Precision  string  `json:"precision"`
	Operations float64 `json:"operations,omitempty"` // of one call
	Bytes      float64 `json:"bytes,omitempty"`      // read and written by one call, at least
	timing
	GFLOPS  float64 `json:"gflops,omitempty"`
	GBps    float64 `json:"gb_per_second,omitempty"`
	CPU     *timing `json:"cpu,omitempty"`
	Failure string  `json:"failure,omitempty"`
}

// suiteUpdate is a whole training update of a model with random data, dropout on.
type suiteUpdate struct {
	Model           string         `json:"model"`
	Sequences       int            `json:"sequences"`
	Tokens          int            `json:"tokens"` // of each sequence
	Precision       string         `json:"precision"`
	Seconds         float64        `json:"seconds"` // the median
	Runs            int            `json:"runs"`
	TokensPerSecond float64        `json:"tokens_per_second"`
	GFLOPS          float64        `json:"gflops"`
	DeviceBytes     int64          `json:"device_bytes"`
	CPUSeconds      float64        `json:"cpu_seconds,omitempty"`
	Profile         *profileReport `json:"profile,omitempty"`
	Failure         string         `json:"failure,omitempty"`
}

func describeDevice(o *opened) suiteDevice {
	i := o.device.Info()
	d := suiteDevice{Name: i.Name, Kind: i.Kind, Description: i.Description, ISA: i.ISA, Threads: i.Threads, MemoryBytes: i.MemoryBytes,
		Tuning: string(pinned(o.device))}
	if p := o.physical; p != nil {
		d.Type, d.Driver, d.API = p.Type, p.Driver, p.API
	}
	if c, ok := o.device.(backend.Capable); ok {
		d.Caps = c.Caps()
	}
	return d
}

func verdict(c suiteCheck) string {
	if c.OK {
		return fmt.Sprintf("error %.1e", c.Error)
	}
	return "FAILED: " + c.Failure
}

func (r *suiteTiming) text() string {
	if r.Failure != "" {
		return "FAILED: " + r.Failure
	}
	text := fmt.Sprintf("%10.3f ms  %8.1f GFLOP/s", 1e3*r.Seconds, r.GFLOPS)
	if r.GBps > 0 {
		text = fmt.Sprintf("%10.3f ms  %8.1f GB/s   ", 1e3*r.Seconds, r.GBps)
	}
	if r.CPU != nil {
		text += fmt.Sprintf("  cpu %10.3f ms", 1e3*r.CPU.Seconds)
	}
	return text
}

func (r *suiteUpdate) text() string {
	if r.Failure != "" {
		return "FAILED: " + r.Failure + "\n"
	}
	text := fmt.Sprintf("%10.3f ms  %8.1f GFLOP/s", 1e3*r.Seconds, r.GFLOPS)
	if r.CPUSeconds > 0 {
		text += fmt.Sprintf("  cpu %10.3f ms", 1e3*r.CPUSeconds)
	}
	if r.Profile != nil {
		text += r.Profile.text()
	}
	return text + "\n"
}
