package backend

import "time"

// KernelTime is the time one kernel has taken on the device's own clock.
type KernelTime struct {
	Name    string
	Calls   int
	Seconds float64
}

// Profile is where the time of a device went while it was profiled.
type Profile struct {
	Kernels []KernelTime  // longest first
	Record  time.Duration // writing commands, on the host
	Submit  time.Duration // handing them to the driver
	Wait    time.Duration // waiting for the device
	Submits int
}

// Profiler is a Device that can time its kernels.
type Profiler interface {
	// StartProfile clears the times and begins to measure.
	StartProfile() error
	// StopProfile waits for enqueued work and returns the times since StartProfile.
	StopProfile() (Profile, error)
}

// Tuned is a Device that chose kernels by measuring them. The text names the choices; a
// device opened with it computes with the same ones.
type Tuned interface {
	Tuning() []byte
}

// Capable is a Device that can say, in text for people, what it can do: the limits and
// features its kernels go by.
type Capable interface {
	Caps() string
}
