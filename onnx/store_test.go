package onnx

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/bert"
	"sift/fault"
)

func load(t testing.TB, m *Match) bert.Weights {
	t.Helper()
	w, err := Load(m)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStoreUntouched: import and export without a change gives the same bytes.
func TestStoreUntouched(t *testing.T) {
	for _, x := range manifest(t) {
		m := recogniseFile(t, x.path())
		out := filepath.Join(t.TempDir(), "out.onnx")
		changes, err := Store(m, load(t, m), out)
		if err != nil {
			t.Errorf("%s: %v", x.File, err)
			continue
		}
		if !bytes.Equal(contents(t, x.path()), contents(t, out)) {
			t.Errorf("%s: not the same bytes", x.File)
		}
		if len(changes.Patched)+len(changes.Added)+len(changes.Nodes)+len(changes.Outputs) > 0 {
			t.Errorf("%s: changes %+v", x.File, changes)
		}
		if x.External != "" {
			copied := filepath.Join(filepath.Dir(out), x.External)
			if !slices.Equal(changes.DataFiles, []string{copied}) || !bytes.Equal(contents(t, filepath.Join(fixtureDir, x.External)), contents(t, copied)) {
				t.Errorf("%s: external data %v", x.File, changes.DataFiles)
			}
		}
	}
}

// train changes some weights as a step would.
func train(w bert.Weights, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	roles := make([]string, 0, len(w))
	for role := range w {
		roles = append(roles, role)
	}
	slices.Sort(roles)
	for _, role := range roles {
		for i := range w[role] {
			if i%5 != 3 { // some elements stay
				w[role][i] += float32(r.NormFloat64()) * 0.1
			}
		}
	}
}

// TestStoreTrained: what is stored is what is loaded again, every initializer is patched in
// place, and no other byte changes but for initializers that torch had merged.
func TestStoreTrained(t *testing.T) {
	for _, x := range manifest(t) {
		m := recogniseFile(t, x.path())
		w := load(t, m)
		train(w, 7)
		out := filepath.Join(t.TempDir(), "out.onnx")
		changes, err := Store(m, w, out)
		if err != nil {
			t.Errorf("%s: %v", x.File, err)
			continue
		}
		again := recogniseFile(t, out)
		if again.Config != m.Config {
			t.Errorf("%s: now %+v", x.File, again.Config)
		}
		got := load(t, again)
		for role, v := range w {
			for i := range v {
				want := v[i]
				switch x.Stored {
				case "float16":
					want = float16To32(float16From32(want))
				case "bfloat16":
					want = bfloat16To32(bfloat16From32(want))
				}
				if math.Float32bits(got[role][i]) != math.Float32bits(want) {
					t.Errorf("%s: %s: element %d is %v, want %v", x.File, role, i, got[role][i], want)
					break
				}
			}
		}
		if x.Merged != (len(changes.Added) > 0) {
			t.Errorf("%s: new initializers %v", x.File, changes.Added)
		}
		for _, name := range changes.Added {
			if again.File.Initializer(name) == nil {
				t.Errorf("%s: %s is listed but not there", x.File, name)
			}
		}
		if len(changes.Added) == 0 && x.External == "" {
			onlyPayloadsDiffer(t, m, out, changes)
		}
	}
}

func onlyPayloadsDiffer(t *testing.T, m *Match, out string, changes *Changes) {
	a, b := contents(t, m.File.Path), contents(t, out)
	if len(a) != len(b) {
		t.Errorf("%s: %d bytes became %d", m.File.Path, len(a), len(b))
		return
	}
	differ := 0
	for _, x := range m.File.tensors() {
		if x.hasRaw && (x.Name == "" || slices.Contains(changes.Patched, x.Name)) {
			if !bytes.Equal(a[x.raw.body:x.raw.end], b[x.raw.body:x.raw.end]) {
				differ++
			}
			copy(b[x.raw.body:], a[x.raw.body:x.raw.end])
		}
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s: bytes outside payloads differ", m.File.Path)
	}
	if differ != len(changes.Patched) {
		t.Errorf("%s: %d payloads differ, %d are listed", m.File.Path, differ, len(changes.Patched))
	}
}

// withClassifier adds a head's weights.
func withClassifier(cfg bert.Config, w bert.Weights, classes int) (bert.Config, bert.Weights) {
	r := rand.New(rand.NewPCG(3, 3))
	fill := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	if !cfg.HasPooler {
		cfg.HasPooler = true
		w[bert.RolePoolerWeight], w[bert.RolePoolerBias] = fill(cfg.Hidden*cfg.Hidden), fill(cfg.Hidden)
	}
	cfg.Classes = classes
	w[bert.RoleClassWeight], w[bert.RoleClassBias] = fill(classes*cfg.Hidden), fill(classes)
	return cfg, w
}

func TestGraftClassifier(t *testing.T) {
	grafted := 0
	for _, x := range manifest(t) {
		m := recogniseFile(t, x.path())
		if m.Config.Classes > 0 {
			continue
		}
		grafted++
		cfg, w := withClassifier(m.Config, load(t, m), 4)
		out := filepath.Join(t.TempDir(), "out.onnx")
		changes, err := Export(m, cfg, w, out)
		if err != nil {
			t.Errorf("%s: %v", x.File, err)
			continue
		}
		again := recogniseFile(t, out)
		if again.Config.Classes != 4 || !again.Config.HasPooler || len(again.Unrecognised) > 0 {
			t.Errorf("%s: now %+v, unrecognised %v", x.File, again.Config, again.Unrecognised)
		}
		for role, v := range load(t, again) {
			if !sameBits(v, w[role]) {
				t.Errorf("%s: %s differs", x.File, role)
			}
		}
		if len(again.Outputs) != len(m.Outputs)+1 || !slices.Equal(again.Outputs[:len(m.Outputs)], m.Outputs) {
			t.Errorf("%s: outputs %v", x.File, again.Outputs)
		}
		last := again.File.Outputs[len(m.Outputs)]
		if again.Outputs[len(m.Outputs)].Kind != "logits" || len(changes.Outputs) != 1 || last.Name != changes.Outputs[0] {
			t.Errorf("%s: new output %v, listed %v", x.File, last, changes.Outputs)
		}
		if last.Dims[0] != m.File.Inputs[0].Dims[0] || last.Dims[1] != (Dim{Value: 4}) {
			t.Errorf("%s: logits have dims %v", x.File, last.Dims)
		}
	}
	if grafted < 10 {
		t.Errorf("only %d graphs were grafted", grafted)
	}
}

func TestOtherNumberOfClasses(t *testing.T) {
	for _, x := range manifest(t) {
		m := recogniseFile(t, x.path())
		if m.Config.Classes == 0 {
			continue
		}
		cfg, w := withClassifier(m.Config, load(t, m), 7)
		out := filepath.Join(t.TempDir(), "out.onnx")
		if _, err := Export(m, cfg, w, out); err != nil {
			t.Errorf("%s: %v", x.File, err)
			continue
		}
		again := recogniseFile(t, out)
		if again.Config != cfg {
			t.Errorf("%s: now %+v", x.File, again.Config)
		}
		for role, v := range load(t, again) {
			if x.Stored == "" && !sameBits(v, w[role]) {
				t.Errorf("%s: %s differs", x.File, role)
			}
		}
		if d := again.File.Outputs[0].Dims; d[len(d)-1] != (Dim{Value: 7}) {
			t.Errorf("%s: logits have dims %v", x.File, d)
		}
	}
}

func TestExternalData(t *testing.T) {
	var x fixture
	for _, y := range manifest(t) {
		if y.External != "" {
			x = y
		}
	}
	dir := t.TempDir()
	for _, name := range []string{x.File, x.External} {
		if err := os.WriteFile(filepath.Join(dir, name), contents(t, filepath.Join(fixtureDir, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := recogniseFile(t, filepath.Join(dir, x.File))
	w := load(t, m)
	train(w, 2)
	before := contents(t, filepath.Join(dir, x.External))
	out := filepath.Join(dir, "trained.onnx")
	changes, err := Store(m, w, out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, contents(t, filepath.Join(dir, x.External))) {
		t.Fatal("the imported model's data file was changed")
	}
	if !slices.Equal(changes.DataFiles, []string{out + ".data"}) {
		t.Errorf("data files %v", changes.DataFiles)
	}
	again := load(t, recogniseFile(t, out))
	for role := range w {
		if !sameBits(again[role], w[role]) {
			t.Errorf("%s differs", role)
		}
	}
}

// TestTooLargeForOneMessage moves weights out where the model would pass the limit.
func TestTooLargeForOneMessage(t *testing.T) {
	for _, name := range []string{"pretraining-op13-fold-dynamic.onnx", "pretraining-op14-fold-dynamic-fresh.onnx"} {
		m := recogniseFile(t, filepath.Join(fixtureDir, name))
		w := load(t, m)
		train(w, 4)
		out := filepath.Join(t.TempDir(), "out.onnx")
		if _, err := export(m, m.Config, w, out, 500); err == nil || fault.KindOf(err) != fault.CannotWrite {
			t.Errorf("a graph above the limit: %v", err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("a file was left")
		}
		changes, err := export(m, m.Config, w, out, m.File.Size-1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes.DataFiles) != 1 {
			t.Errorf("data files %v", changes.DataFiles)
		}
		again := load(t, recogniseFile(t, out))
		for role := range w {
			if !sameBits(again[role], w[role]) {
				t.Errorf("%s: %s differs", name, role)
			}
		}
	}
}

func TestStoreRefuses(t *testing.T) {
	m := recogniseFile(t, filepath.Join(fixtureDir, "encoder-op14-fold-dynamic.onnx"))
	dir := t.TempDir()
	out := filepath.Join(dir, "out.onnx")
	w := load(t, m)
	missing := bert.Weights{}
	for role, v := range w {
		missing[role] = v
	}
	delete(missing, bert.RoleWord)
	if _, err := Store(m, missing, out); err == nil || !strings.Contains(err.Error(), bert.RoleWord) {
		t.Errorf("a missing weight: %v", err)
	}
	cfg := m.Config
	cfg.HasQA = true
	w[bert.RoleQAWeight], w[bert.RoleQABias] = make([]float32, 2*cfg.Hidden), make([]float32, 2)
	if _, err := Export(m, cfg, w, out); err == nil {
		t.Error("a head that the graph lacks was accepted")
	}
	if _, err := Store(m, load(t, m), filepath.Join(dir, "none", "out.onnx")); fault.KindOf(err) != fault.CannotWrite {
		t.Errorf("a missing directory: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
