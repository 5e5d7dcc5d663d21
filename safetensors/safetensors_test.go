package safetensors

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sift/fault"
)

func sample() File {
	return File{
		Tensors: map[string]Tensor{
			"b":      {Shape: []int{2, 3}, F32: []float32{1, 2, 3, 4, 5, 6.5}},
			"a":      {Shape: []int{2}, F64: []float64{-1, 1e-300}},
			"scalar": {Shape: []int{}, F32: []float32{7}},
			"none":   {Shape: []int{0, 4}, F32: []float32{}},
		},
		Metadata: map[string]string{"role": "x"},
	}
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, sample()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sample()) {
		t.Errorf("read back %+v, wrote %+v", got, sample())
	}
}

func TestDamagedFilesAreDataErrors(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, sample()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	for n := range b.Len() {
		if err := os.WriteFile(path, b.Bytes()[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); fault.KindOf(err) != fault.Data {
			t.Fatalf("cut to %d bytes: %v, want a data error", n, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, sample()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	path := filepath.Join(f.TempDir(), "x.safetensors")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err != nil && fault.KindOf(err) != fault.Data {
			t.Fatalf("%v is not a data error", err)
		}
	})
}
