package vulkan

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"sift/fault"
)

// known accepts the names a and b.
func known(name string) error {
	if name != "a" && name != "b" {
		return errors.New("there is no such kernel")
	}
	return nil
}

const choiceText = `{"gemm":{"nn":"a","tn":"b","nt":"a","tt":"b"}}`

func TestTuningText(t *testing.T) {
	c, err := parseTuning([]byte(choiceText), known)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.text()); got != choiceText {
		t.Errorf("written as %s, read from %s", got, choiceText)
	}
	for form, want := range []string{"a", "b", "a", "b"} {
		if got := *c.form(form&1 != 0, form&2 != 0); got != want {
			t.Errorf("form %d is %q, want %q", form, got, want)
		}
	}
}

func TestTuningErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "is not one"},
		{"gemm a", "is not one"},
		{choiceText[:20], "is not one"},
		{choiceText + "{}", "goes on"},
		{`{"gemm":{"nn":"a","tn":"b","nt":"a","tt":"c"}}`, `"c"`},
		{`{"gemm":{"nn":"a"}}`, `""`},
		{`{"gemm":{"nn":"a","tn":"b","nt":"a","tt":"b","xx":"a"}}`, "xx"},
	} {
		_, err := parseTuning([]byte(c.text), known)
		if err == nil || fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want an error of the configuration with %q", c.text, err, c.want)
		}
	}
}

func TestTuningFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "tuning.json")
	c, err := parseTuning([]byte(choiceText), known)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := readTuning(path, "hash", known); ok {
		t.Error("a file that is not there was read")
	}
	if err := writeTuning(path, "hash", c); err != nil {
		t.Fatal(err)
	}
	got, ok := readTuning(path, "hash", known)
	if !ok || string(got.text()) != choiceText {
		t.Fatalf("read %s, %t", got.text(), ok)
	}
	if _, ok := readTuning(path, "other", known); ok {
		t.Error("a choice among other kernels was taken")
	}
	if _, ok := readTuning(path, "hash", func(string) error { return errors.New("does not run") }); ok {
		t.Error("a choice that does not run was taken")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The file ends with two braces and a line break, of which only the last can be missed.
	for n := range len(whole) - 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := readTuning(path, "hash", known); ok {
			t.Fatalf("the first %d of %d bytes were taken for a choice", n, len(whole))
		}
	}
	if err := writeTuning(path, "hash", c); err != nil {
		t.Fatal(err)
	}
	if _, ok := readTuning(path, "hash", known); !ok {
		t.Error("a damaged file was not replaced")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := writeTuning(filepath.Join(path, "below", "a-file"), "hash", c); err == nil {
		t.Error("written below a file")
	}
	if err := writeTuning("", "hash", c); err != nil {
		t.Errorf("without a cache directory: %v", err)
	}
}

// TestReadCached: what lies in the cache directory and is no small regular file is passed over
// at once.
func TestReadCached(t *testing.T) {
	dir := t.TempDir()
	pipe, large, plain := filepath.Join(dir, "pipe"), filepath.Join(dir, "large"), filepath.Join(dir, "plain")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, size := range map[string]int64{large: 1 << 30, plain: 100} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{pipe, large, dir, "/dev/zero", filepath.Join(dir, "none")} {
		if data, err := readCached(path, 100); err == nil {
			t.Errorf("%s: %d bytes", path, len(data))
		}
	}
	if data, err := readCached(plain, 100); err != nil || len(data) != 100 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	const size = 32 << 20
	if err := os.Truncate(plain, size); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	data, err := readCached(plain, size)
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; err != nil || len(data) != size || taken > size+size/4 {
		t.Errorf("%d bytes of %d take %d: %v", len(data), size, taken, err)
	}
}
