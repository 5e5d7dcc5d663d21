//go:build !unix

package onnx

import (
	"os"
	"testing"
)

// makeFIFO makes a directory: also something that is no regular file.
func makeFIFO(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
