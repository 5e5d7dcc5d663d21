package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"sift/fault"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.bin")
	for _, text := range []string{"old, and longer", "new"} {
		if err := AtomicWrite(path, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Fatalf("got %q, %v; want %q", got, err, text)
		}
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("left behind: %v", n)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o600 != 0o600 || info.Mode().Perm()&0o133 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFailureKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.bin")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	disk := errors.New("no space")
	err := AtomicWrite(path, func(w io.Writer) error { io.WriteString(w, "half"); return disk })
	if !errors.Is(err, disk) || fault.KindOf(err) != fault.IO {
		t.Errorf("error %v of kind %d", err, fault.KindOf(err))
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("now holds %q", got)
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("left behind: %v", n)
	}
}

func TestPanicLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	func() {
		defer func() { recover() }()
		AtomicWrite(filepath.Join(dir, "a"), func(io.Writer) error { panic("misuse") })
	}()
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}

func TestCannotCreate(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none", "a"), dir, dir + "/", ""} {
		err := AtomicWrite(path, func(io.Writer) error { return nil })
		if fault.KindOf(err) != fault.CannotWrite {
			t.Errorf("%q: %v", path, err)
		}
	}
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}
