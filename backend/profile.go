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

// Rated is a Device whose peak follows from its data.
type Rated interface {
	// Peak returns the operations a second, in 1e9, that products of activations could reach, two
	// for a multiply-add, and by what; 0 if that is not known.
	Peak() (gflops float64, by string)
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
