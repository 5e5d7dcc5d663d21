//go:build unix

package onnx

import (
	"os"
	"syscall"
)

const nonblock = syscall.O_NONBLOCK

// links returns the number of names a file has.
func links(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}
