package train

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

// finished is all that two runs must have in common, bit for bit.
type finished struct {
	metrics   []map[string]any
	last      []byte
	best      []byte
	selection string
}

func finish(t testing.TB, out string, updates int) finished {
	t.Helper()
	selection, err := os.ReadFile(filepath.Join(out, selectionName))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	dir := filepath.Join(out, checkpointDir)
	return finished{metricsOf(t, out), sectionsOf(t, filepath.Join(dir, checkpointName(updates))),
		sectionsOf(t, filepath.Join(dir, bestName)), string(selection)}
}

func (a finished) same(t testing.TB, what string, b finished) {
	t.Helper()
	if len(a.metrics) != len(b.metrics) {
		t.Fatalf("%s: %d lines of metrics, want %d", what, len(b.metrics), len(a.metrics))
	}
	for i := range a.metrics {
		if !reflect.DeepEqual(a.metrics[i], b.metrics[i]) {
			t.Fatalf("%s: metrics differ:\n%v\n%v", what, a.metrics[i], b.metrics[i])
		}
	}
	if !bytes.Equal(a.last, b.last) {
		t.Fatalf("%s: the final weights or moments differ", what)
	}
	if !bytes.Equal(a.best, b.best) {
		t.Fatalf("%s: the best weights differ", what)
	}
	if a.selection != b.selection {
		t.Fatalf("%s: the selections differ", what)
	}
}

var resumeCases = map[string]func(*config.Config){
	"no selection": func(c *config.Config) {},
	"loss, prefix reused": func(c *config.Config) {
		c.Sift.Score, c.Sift.Log = "loss", true
	},
	"loss, naive": func(c *config.Config) {
		c.Sift.Score, c.Sift.Reuse = "loss", false
	},
	"entropy, interrupted, accumulated": func(c *config.Config) {
		c.Sift.Score, c.Sift.Interrupt, c.Sift.Start, c.Train.Accumulate, c.Sift.Log = "entropy", 3, 2, 2, true
	},
	"random, evaluated often": func(c *config.Config) {
		c.Sift.Score, c.Train.EvaluateEvery = "random", 2
	},
}

// TestResume stops runs at random updates, some of them several times, and compares
// everything with a run that never stopped.
func TestResume(t *testing.T) {
	for name, set := range resumeCases {
		t.Run(name, func(t *testing.T) {
			whole := newToy(t, func(c *config.Config) { c.Train.Epochs = 3; set(c) })
			whole.train = 43
			s := whole.mustRun(t)
			want := finish(t, whole.out, s.Updates)
			for seed := range uint64(3) {
				r := rand.New(rand.NewPCG(seed, 7))
				k := *whole
				k.out = filepath.Join(t.TempDir(), "run")
				stops := 0
				for resume := false; ; resume = true {
					ctx, cancel := context.WithCancel(context.Background())
					after := 1 + r.IntN(s.Updates/2)
					_, err := k.run(t, ctx, func(o *RunOptions) {
						o.Resume = resume
						o.Progress = func(e Event) {
							if _, ok := e.(*Updated); ok {
								if after--; after == 0 {
									cancel()
								}
							}
						}
					})
					cancel()
					if err == nil {
						break
					}
					wantKind(t, err, fault.Interrupted, "interrupted at update", "--resume")
					stops++
				}
				if stops == 0 {
					t.Fatal("the run was never stopped")
				}
				want.same(t, fmt.Sprintf("seed %d, %d stops", seed, stops), finish(t, k.out, s.Updates))
			}
		})
	}
}

// TestKilled copies the run directory as it is at some moment, as kill -9 would leave
// it, and continues the copy.
func TestKilled(t *testing.T) {
	whole := newToy(t, func(c *config.Config) {
		c.Sift.Score, c.Sift.Log, c.Train.SaveEvery, c.Train.EvaluateEvery = "loss", true, 3, 2
	})
	whole.train = 60
	var copies []string
	s, err := whole.run(t, context.Background(), func(o *RunOptions) {
		o.Progress = func(Event) {
			to := filepath.Join(t.TempDir(), "run")
			if err := os.CopyFS(to, os.DirFS(whole.out)); err != nil {
				t.Fatal(err)
			}
			copies = append(copies, to)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := finish(t, whole.out, s.Updates)
	for i, out := range copies {
		if i%3 != 0 && i != len(copies)-1 {
			continue
		}
		k := *whole
		k.out = out
		// A crash may also leave a temporary file and half a line.
		os.WriteFile(temporary(filepath.Join(out, checkpointDir, checkpointName(99))), []byte("half"), 0o666)
		if f, err := os.OpenFile(filepath.Join(out, metricsName), os.O_APPEND|os.O_WRONLY, 0); err == nil {
			f.WriteString(`{"kind":"upd`)
			f.Close()
		}
		if _, err := k.run(t, context.Background(), func(o *RunOptions) { o.Resume = true }); err != nil {
			t.Fatalf("copy %d of %d: %v", i, len(copies), err)
		}
		want.same(t, fmt.Sprintf("copy %d of %d", i, len(copies)), finish(t, out, s.Updates))
		if left, _ := filepath.Glob(filepath.Join(out, "*", ".*.tmp")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestDiskFaults makes each operation on the run directory fail, one a run. It ends in
// an error of the disk, and resuming on a healthy disk ends where a run without faults
// does.
func TestDiskFaults(t *testing.T) {
	whole := newToy(t, func(c *config.Config) {
		c.Sift.Score, c.Sift.Log, c.Train.SaveEvery, c.Train.EvaluateEvery = "loss", true, 2, 3
	})
	if err := os.MkdirAll(whole.out, 0o777); err != nil { // for the lock, which is not on the simulated disk
		t.Fatal(err)
	}
	on := func(d disk, resume bool) (*Summary, error) {
		return whole.run(t, context.Background(), func(o *RunOptions) { o.disk, o.Resume = d, resume })
	}
	healthy := newMemDisk()
	s, err := on(healthy, false)
	if err != nil {
		t.Fatal(err)
	}
	want := finish(t, healthy.dump(t, whole.out), s.Updates)
	const closes = 2 // of the line files, after they were synchronised: a failure loses nothing
	for failAt := 1; failAt <= healthy.ops-closes; failAt++ {
		d := newMemDisk()
		d.failAt, d.short = failAt, failAt%2 == 0
		_, err := on(d, false)
		if err == nil {
			t.Fatalf("operation %d of %d failed unnoticed", failAt, healthy.ops)
		}
		if kind := fault.KindOf(err); kind != fault.IO && kind != fault.CannotWrite {
			t.Fatalf("operation %d: kind %d: %v", failAt, kind, err)
		}
		d.failAt = 0
		if _, err := on(d, true); err != nil {
			t.Fatalf("operation %d: resuming: %v", failAt, err)
		}
		want.same(t, fmt.Sprintf("operation %d", failAt), finish(t, d.dump(t, whole.out), s.Updates))
	}
}

// TestPowerCutInARun cuts the power after operations of a whole run, loses parts of what
// was not synchronised, and continues on what is left.
func TestPowerCutInARun(t *testing.T) {
	type stop struct{}
	whole := newToy(t, func(c *config.Config) {
		c.Sift.Score, c.Sift.Log, c.Train.SaveEvery, c.Train.EvaluateEvery = "loss", true, 2, 3
	})
	on := func(d disk, resume bool) (s *Summary, cut bool) {
		defer func() {
			if r := recover(); r == (stop{}) {
				cut = true
			} else if r != nil {
				panic(r)
			}
		}()
		k := *whole
		s, err := k.run(t, context.Background(), func(o *RunOptions) { o.disk, o.Resume = d, resume })
		if err != nil {
			t.Fatal(err)
		}
		return s, false
	}
	if err := os.MkdirAll(whole.out, 0o777); err != nil { // for the lock, which is not on the simulated disk
		t.Fatal(err)
	}
	first := newMemDisk()
	s, _ := on(first, false)
	want := finish(t, first.dump(t, whole.out), s.Updates)
	cuts := 0
	for at := 1; at < first.ops; at += 2 {
		d := newMemDisk()
		if _, cut := on(&cutDisk{memDisk: d, at: at, stop: stop{}}, false); !cut {
			t.Fatalf("not cut after %d of %d operations", at, first.ops)
		}
		cuts++
		after := d.crash(rand.New(rand.NewPCG(uint64(at), 1)))
		if _, cut := on(after, true); cut {
			t.Fatal("cut again")
		}
		want.same(t, fmt.Sprintf("cut after %d of %d operations", at, first.ops), finish(t, after.dump(t, whole.out), s.Updates))
	}
	if cuts < 30 {
		t.Errorf("only %d cuts", cuts)
	}
}

// TestDamagedCheckpoint: the newest is damaged; the one before it is used, the user is
// told, and the run ends as if nothing had happened.
func TestDamagedCheckpoint(t *testing.T) {
	whole := newToy(t, func(c *config.Config) { c.Sift.Score = "loss"; c.Train.SaveEvery = 2; c.Train.EvaluateEvery = 3 })
	s := whole.mustRun(t)
	want := finish(t, whole.out, s.Updates)
	newestPath := filepath.Join(whole.out, checkpointDir, checkpointName(s.Updates))
	data, err := os.ReadFile(newestPath)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 4
	if err := os.WriteFile(newestPath, data, 0o666); err != nil {
		t.Fatal(err)
	}
	var notices []string
	_, err = whole.run(t, context.Background(), func(o *RunOptions) {
		o.Resume = true
		o.Progress = func(e Event) {
			if n, ok := e.(*Notice); ok {
				notices = append(notices, n.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(notices) != 1 || !bytes.Contains([]byte(notices[0]), []byte(checkpointName(s.Updates))) {
		t.Errorf("notices %q", notices)
	}
	want.same(t, "after damage", finish(t, whole.out, s.Updates))
}

func TestResumeRefuses(t *testing.T) {
	interrupted := func(t *testing.T) *toy {
		k := newToy(t, func(c *config.Config) { c.Sift.Score = "loss" })
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		_, err := k.run(t, ctx, func(o *RunOptions) {
			o.Progress = func(e Event) {
				if u, ok := e.(*Updated); ok && u.Update == 3 {
					cancel()
				}
			}
		})
		wantKind(t, err, fault.Interrupted)
		return k
	}
	resume := func(o *RunOptions) { o.Resume = true }
	t.Run("configuration", func(t *testing.T) {
		k := interrupted(t)
		k.cfg.Optimizer.LR, k.cfg.Sift.Keep = 1, 0.25
		_, err := k.run(t, context.Background(), resume)
		wantKind(t, err, fault.Config, "optimizer.lr is 1, was 0.003", "sift.keep is 0.25, was 0.5")
	})
	t.Run("device", func(t *testing.T) {
		k := interrupted(t)
		k.dtype = backend.F64
		_, err := k.run(t, context.Background(), resume)
		wantKind(t, err, fault.Config, "float64", "float32")
	})
	t.Run("data", func(t *testing.T) {
		k := interrupted(t)
		dev := cpu.NewReference(backend.F32)
		defer dev.Close()
		for _, c := range []struct {
			key string
			set func(*inputs)
		}{
			{"data.train", func(h *inputs) { h.Train = "other" }}, {"data.valid", func(h *inputs) { h.Valid = "" }},
			{"model.path", func(h *inputs) { h.Model = "x" }}, {"model.tokenizer", func(h *inputs) { h.Tokenizer = "x" }},
			{"sift.replay", func(h *inputs) { h.Replay = "x" }},
		} {
			in := toyMaterial(t, k.cfg, k.train, k.valid)
			c.set(&in.hashes)
			_, err := execute(context.Background(), k.cfg, RunOptions{Out: k.out, Resume: true, Device: dev}, in)
			wantKind(t, err, fault.Data, c.key)
		}
	})
	t.Run("metrics cut off", func(t *testing.T) {
		k := interrupted(t)
		if err := os.Truncate(filepath.Join(k.out, metricsName), 10); err != nil {
			t.Fatal(err)
		}
		_, err := k.run(t, context.Background(), resume)
		wantKind(t, err, fault.Data, metricsName)
	})
	t.Run("harmless keys", func(t *testing.T) {
		k := interrupted(t)
		k.cfg.Train.SaveEvery, k.cfg.Train.KeepCheckpoints, k.cfg.Device.Threads = 1, 3, 1
		if _, err := k.run(t, context.Background(), resume); err != nil {
			t.Fatal(err)
		}
		if updates, _ := generations(osDisk{}, filepath.Join(k.out, checkpointDir)); len(updates) != 3 {
			t.Errorf("checkpoints of %v", updates)
		}
	})
}

// TestReplay: a run that replays another's record keeps the same samples and so gives
// the same weights, whatever it scores by.
func TestReplay(t *testing.T) {
	first := newToy(t, func(c *config.Config) { c.Sift.Score, c.Sift.Log = "loss", true })
	s := first.mustRun(t)
	second := newToy(t, func(c *config.Config) {
		c.Sift.Score, c.Sift.Replay, c.Sift.Log = "loss", filepath.Join(first.out, selectionName), true
	})
	second.mustRun(t)
	finish(t, first.out, s.Updates).same(t, "replayed", finish(t, second.out, s.Updates))
}
