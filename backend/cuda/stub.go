//go:build !cuda || !cgo || !linux

package cuda

import "sift/backend"

// Built says whether this build has CUDA.
const Built = false

const notBuilt = "this build has no CUDA; in a checkout of sift, make cuda builds one that has"

// Open returns an error: this build has no CUDA.
func Open(Options) (backend.Device, error) { return nil, none(notBuilt) }

// List returns an error: this build has no CUDA.
func List() ([]Physical, error) { return nil, none(notBuilt) }
