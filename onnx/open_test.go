package onnx

import (
	"path/filepath"
	"testing"
)

func fixtures(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("../testdata/onnx/*.onnx")
	if err != nil || len(paths) < 10 {
		t.Fatalf("fixtures: %d files, %v", len(paths), err)
	}
	return paths
}

func TestOpenFixtures(t *testing.T) {
	for _, path := range fixtures(t) {
		f, err := Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, x := range f.Initializers {
			if _, err := f.ReadFloat64(x); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		f.Close()
	}
}
