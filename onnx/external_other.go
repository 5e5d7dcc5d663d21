//go:build !unix

package onnx

import "os"

const nonblock = 0

// links returns 1: this system does not tell.
func links(os.FileInfo) uint64 { return 1 }
