package train

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sift/backend"
	"sift/bert"
	"sift/fault"
)

// tinyShape is the smallest model worth the name.
func tinyShape(vocab int) bert.Config {
	return bert.Config{Layers: 2, Hidden: 16, Heads: 2, Intermediate: 32, Vocab: vocab, Positions: 16, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, Classes: 2}
}

func testHeader(t testing.TB, update int) header {
	t.Helper()
	cfg := bert.Config{Layers: 1, Hidden: 2, Heads: 1, Intermediate: 2, Vocab: 3, Positions: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, Classes: 2}
	params, err := bert.Params(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return header{Program: "test", Update: update, Position: 7 * update, Model: cfg, Params: params, Labels: []string{"a", "b"},
		Progress: progress{BestAt: 1, Best: &Evaluation{N: 3, Loss: 1.0 / 3}}, Totals: totals{LastLoss: 0.1}}
}

func testValues(dtype backend.DType, n int, seed uint64) *values {
	r := rand.New(rand.NewPCG(seed, 0))
	v := newValues(dtype, n)
	for i := range v.f32 {
		v.f32[i] = float32(r.NormFloat64())
	}
	for i := range v.f64 {
		v.f64[i] = r.NormFloat64()
	}
	return v
}

func saveTest(t testing.TB, d disk, dir string, update int, dtype backend.DType) error {
	t.Helper()
	h := testHeader(t, update)
	n := bert.FlatLen(h.Params)
	staging := newValues(dtype, n)
	err := writeCheckpoint(d, filepath.Join(dir, checkpointName(update)), h, staging, []string{"params", "m", "v"}, func(name string) error {
		*staging = *testValues(dtype, n, uint64(update)*10+uint64(name[0]))
		return nil
	})
	if err != nil {
		return err
	}
	return prune(d, dir, 2)
}

func TestCheckpointRoundTrip(t *testing.T) {
	for _, dtype := range []backend.DType{backend.F32, backend.F64} {
		d := newMemDisk()
		if err := saveTest(t, d, "c", 3, dtype); err != nil {
			t.Fatal(err)
		}
		c, err := openCheckpoint(d, filepath.Join("c", checkpointName(3)))
		if err != nil {
			t.Fatal(err)
		}
		want := testHeader(t, 3)
		got := c.header
		got.Sections, got.Float = nil, ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("header\n got %+v\nwant %+v", got, want)
		}
		for _, name := range []string{"params", "m", "v"} {
			n := bert.FlatLen(want.Params)
			v := newValues(dtype, n)
			if err := c.read(name, v); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(v, testValues(dtype, n, 30+uint64(name[0]))) {
				t.Errorf("%s: section %s differs", dtype, name)
			}
		}
		if _, err := c.weights(); err != nil {
			t.Error(err)
		}
		if err := c.read("params", newValues(dtype, 1)); err == nil {
			t.Error("a section was read into a buffer of another length")
		}
	}
}

// TestCheckpointDamage: every flipped byte and every truncation is refused, without a
// panic, as bad data.
func TestCheckpointDamage(t *testing.T) {
	d := newMemDisk()
	if err := saveTest(t, d, "c", 1, backend.F32); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("c", checkpointName(1))
	whole := d.names[path].data
	check := func(what string, data []byte) {
		d.names[path] = &memFile{data: data}
		if _, err := openCheckpoint(d, path); err == nil || fault.KindOf(err) != fault.Data {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range whole {
		b := append([]byte{}, whole...)
		b[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("byte %d flipped", i), b)
	}
	for n := range len(whole) {
		check(fmt.Sprintf("cut to %d bytes", n), whole[:n:n])
	}
	check("a byte more", append(append([]byte{}, whole...), 0))
	check("another format", append([]byte("SIFTCKPX"), whole[8:]...))
}

func TestNewestPassesOverDamaged(t *testing.T) {
	d := newMemDisk()
	for u := 1; u <= 3; u++ {
		if err := saveTest(t, d, "c", u, backend.F32); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := generations(d, "c"); !reflect.DeepEqual(got, []int{3, 2}) {
		t.Fatalf("generations %v", got)
	}
	f := d.names[filepath.Join("c", checkpointName(3))]
	f.data = f.data[:len(f.data)-1]
	var notices []string
	c, damaged, err := newest(d, "c", func(s string) { notices = append(notices, s) })
	if err != nil || c.Update != 2 || len(damaged) != 1 {
		t.Fatalf("%v, %v, %v", c, damaged, err)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], checkpointName(3)) || !strings.Contains(notices[0], checkpointName(2)) {
		t.Errorf("notices %q", notices)
	}
	f = d.names[filepath.Join("c", checkpointName(2))]
	f.data[100] ^= 1
	if _, _, err := newest(d, "c", nil); err == nil || fault.KindOf(err) != fault.Data {
		t.Errorf("all damaged: %v", err)
	}
	if c, _, err := newest(d, "empty", nil); c != nil || err != nil {
		t.Errorf("no checkpoints: %v, %v", c, err)
	}
}

// TestEachOperationFailing makes each operation of five saves fail in turn. The save
// reports it, the checkpoint before it still loads, and the next save works.
func TestEachOperationFailing(t *testing.T) {
	count := newMemDisk()
	for u := 1; u <= 5; u++ {
		if err := saveTest(t, count, "c", u, backend.F32); err != nil {
			t.Fatal(err)
		}
	}
	if count.ops < 25 {
		t.Fatalf("only %d operations", count.ops)
	}
	for failAt := 1; failAt <= count.ops; failAt++ {
		for _, short := range []bool{false, true} {
			d := newMemDisk()
			d.failAt, d.short = failAt, short
			good, failed := 0, 0
			for u := 1; u <= 5; u++ {
				err := saveTest(t, d, "c", u, backend.F32)
				if err == nil {
					good = u
					continue
				}
				failed++
				if k := fault.KindOf(err); k != fault.IO && k != fault.CannotWrite {
					t.Fatalf("operation %d: kind %d: %v", failAt, k, err)
				}
				c, _, err := newest(d, "c", nil)
				if err != nil || good > 0 && (c == nil || c.Update < good) {
					t.Fatalf("operation %d: after update %d: %v, %v", failAt, u, c, err)
				}
				for name := range d.names {
					if strings.HasSuffix(name, ".tmp") {
						t.Fatalf("operation %d: %s left", failAt, name)
					}
				}
			}
			if failed != 1 || good != 5 && failAt < count.ops-7 {
				t.Fatalf("operation %d: %d saves failed, the last good is %d", failAt, failed, good)
			}
		}
	}
}

// TestPowerCut cuts the power after each operation; whatever of the unsynchronised data
// and names survives, the newest checkpoint that was reported saved, or a later one, is
// found and whole.
func TestPowerCut(t *testing.T) {
	type stop struct{}
	for cut := 1; cut < 60; cut++ {
		for seed := range uint64(8) {
			d := newMemDisk()
			good := 0
			cd := &cutDisk{memDisk: d, at: cut, stop: stop{}}
			func() {
				defer func() {
					if r := recover(); r != nil && r != (stop{}) {
						panic(r)
					}
				}()
				for u := 1; u <= 5; u++ {
					if err := saveTest(t, cd, "c", u, backend.F32); err != nil {
						t.Fatal(err)
					}
					good = u
				}
			}()
			after := d.crash(rand.New(rand.NewPCG(seed, uint64(cut))))
			if err := sweep(after, "c"); err != nil {
				t.Fatal(err)
			}
			c, damaged, err := newest(after, "c", nil)
			if err != nil {
				t.Fatalf("cut after %d operations, seed %d: %v", cut, seed, err)
			}
			if len(damaged) > 0 {
				t.Fatalf("cut after %d operations, seed %d: %v has its final name but is not whole", cut, seed, damaged)
			}
			if good > 0 && (c == nil || c.Update < good) {
				t.Fatalf("cut after %d operations, seed %d: saved %d, found %v", cut, seed, good, c)
			}
		}
	}
}

func TestLines(t *testing.T) {
	d := newMemDisk()
	l, err := openLines(d, "m.jsonl", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := l.write(map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
	}
	l, err = openLines(d, "m.jsonl", 16)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.write(map[string]int{"n": 9}); err != nil {
		t.Fatal(err)
	}
	if got := string(d.names["m.jsonl"].data); got != "{\"n\":0}\n{\"n\":1}\n{\"n\":9}\n" {
		t.Errorf("%q", got)
	}
	if _, err := openLines(d, "m.jsonl", 1000); err == nil || fault.KindOf(err) != fault.Data {
		t.Errorf("a file shorter than the checkpoint knows it: %v", err)
	}
}

// FuzzCheckpoint changes bytes of the header and of the frame and puts the hash right
// again, so that what a hash cannot catch is read too: an error or a checkpoint whose
// weights can be read, never a panic.
func FuzzCheckpoint(f *testing.F) {
	d := newMemDisk()
	if err := saveTest(f, d, "c", 1, backend.F32); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join("c", checkpointName(1))
	whole := d.names[path].data
	f.Add(uint16(20), []byte("x"))
	f.Add(uint16(9), []byte{0xff, 0xff, 0xff, 0xff, 0xff})
	for _, word := range []string{`"Layers":1`, `"Hidden":2`, `"Offset":`, `"offset":`, `"count":`, `"labels":[`, `"float":"`, `"Vocab":3`} {
		if i := bytes.Index(whole, []byte(word)); i > 0 {
			for _, with := range []string{"9", "-1", "0", "null", "1e99"} {
				f.Add(uint16(i+len(word)-1), []byte(with))
				f.Add(uint16(i+len(word)), []byte(with))
			}
		}
	}
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		b := append([]byte{}, whole[:len(whole)-sha256.Size]...)
		copy(b[min(int(at), len(b)):], with)
		sum := sha256.Sum256(b)
		d := newMemDisk()
		d.names[path] = &memFile{data: append(b, sum[:]...)}
		c, err := openCheckpoint(d, path)
		if err != nil {
			if fault.KindOf(err) != fault.Data || strings.Contains(err.Error(), "\n") {
				t.Fatalf("kind %d: %q", fault.KindOf(err), err)
			}
			return
		}
		if _, err := c.weights(); err != nil && fault.KindOf(err) != fault.Data {
			t.Fatal(err)
		}
	})
}
