//go:build cgo && linux

package vulkan

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/backend"
	"sift/fault"
)

// TestTuning measures, keeps the choice in the cache directory, takes it from there, and
// replaces a file that is damaged.
func TestTuning(t *testing.T) {
	dir := t.TempDir()
	o := Options{CacheDir: dir}
	d := use(t, o)
	if d.tuner.gemm[0] != nil {
		t.Error("measured before anything asked for it")
	}
	text := d.Tuning()
	if _, err := parseTuning(text, d.fits); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if again := d.Tuning(); string(again) != string(text) {
		t.Errorf("%s, then %s", text, again)
	}
	files, err := filepath.Glob(filepath.Join(dir, "tuning-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("tuning files %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	// Another choice than the measured one shows where it comes from.
	other := strings.ReplaceAll(string(text), d.tuner.gemm[0].name, "blocked128x64")
	if other == string(text) {
		other = strings.ReplaceAll(other, "blocked128x64", "blocked64x64")
	}
	var f tuningFile
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	f.Tuning = json.RawMessage(other)
	changed, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := string(use(t, o).Tuning()); got != other {
		t.Errorf("%s, but the file says %s", got, other)
	}
	if err := os.WriteFile(files[0], data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	d = use(t, o)
	got := d.Tuning()
	if _, err := parseTuning(got, d.fits); err != nil {
		t.Errorf("with a damaged file: %s, %v", got, err)
	}
	hash, err := gemmHash()
	if err != nil {
		t.Fatal(err)
	}
	if again, ok := readTuning(files[0], hash, d.fits); !ok || string(again.text()) != string(got) {
		t.Errorf("the damaged file was not replaced by %s", got)
	}
}

// TestTuningPinned: a pinned choice is used as it is, without measuring and whatever the
// cache says; one that cannot be used is an error of the configuration that names it.
func TestTuningPinned(t *testing.T) {
	text := `{"gemm":{"nn":"blocked64x64","tn":"blocked32x32","nt":"blocked128x64","tt":"blocked64x64"}}`
	d := use(t, Options{Tuning: []byte(text)})
	if got := string(d.Tuning()); got != text {
		t.Errorf("%s, pinned %s", got, text)
	}
	for form, want := range []string{"blocked64x64", "blocked32x32", "blocked128x64", "blocked64x64"} {
		p, err := d.choose(backend.GemmArgs{TransA: form&1 != 0, TransB: form&2 != 0}, 512, 512, 512)
		if err != nil || p.name != want {
			t.Errorf("form %d takes %v, %v", form, p, err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"gemm b", "gemm b"},
		{strings.ReplaceAll(text, "blocked32x32", "blocked33x33"), "blocked33x33"},
		{strings.ReplaceAll(text, "blocked32x32", "lanes4"), "does not run it"},
	} {
		dev, err := open(t, lavapipe, Options{Tuning: []byte(c.text)})
		if err == nil {
			_ = dev.Close()
		}
		if err == nil || fault.KindOf(err) != fault.Config || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error of the configuration with %q", c.text, err, c.want)
		}
	}
}

// TestTunedWhenLarge: small products do not measure, the first large one does.
func TestTunedWhenLarge(t *testing.T) {
	d := use(t, Options{})
	multiply := func(n int) {
		t.Helper()
		x := held(t, d, n, n, 1)
		if err := d.Gemm(backend.GemmArgs{C: held(t, d, n, n, 0), A: x, B: x, Alpha: 1}); err != nil {
			t.Fatal(err)
		}
	}
	multiply(64)
	if d.tuner.gemm[0] != nil {
		t.Error("a small product was measured for")
	}
	multiply(256)
	if d.tuner.gemm[0] == nil {
		t.Error("a large product was not measured for")
	}
}
