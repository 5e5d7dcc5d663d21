//go:build !cgo || !(linux || (darwin && moltenvk))

package vulkan

import "sift/backend"

const noCgo = "this build has no Vulkan: it was made without cgo, or neither for Linux nor for macOS with -tags moltenvk"

// Open returns an error: this build has no Vulkan.
func Open(Options) (backend.Device, error) { return nil, none(noCgo) }

// List returns an error: this build has no Vulkan.
func List() ([]Physical, error) { return nil, none(noCgo) }
