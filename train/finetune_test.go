package train

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

// TestTrainingLearns: on the toy task the loss falls and the held-out accuracy rises
// above the majority class, with and without selection.
func TestTrainingLearns(t *testing.T) {
	for score, epochs := range map[string]float64{"none": 5, "loss": 10, "entropy": 10} { // equal samples back-propagated
		k := newToy(t, func(c *config.Config) {
			c.Sift.Score, c.Train.Dropout, c.Train.AttentionDropout = score, 0, 0
			c.Train.Epochs, c.Train.MicroBatch, c.Train.SaveEvery, c.Optimizer.LR = epochs, 8, 0, 5e-3
		})
		k.train, k.valid = 200, 100
		s := k.mustRun(t)
		if s.Best == nil || s.Best.MajorityShare != 0.5 || s.Best.Accuracy < 0.9 {
			t.Errorf("%s: best %+v", score, s.Best)
		}
		lines := metricsOf(t, k.out)
		if first := number(t, lines[0], "kept_loss"); math.Abs(first-math.Ln2) > 0.1 {
			t.Errorf("%s: a fresh head has loss %v", score, first)
		}
		if s.Last.Loss > 0.3 {
			t.Errorf("%s: validation loss %v at the end", score, s.Last.Loss)
		}
	}
}

func number(t testing.TB, line map[string]any, key string) float64 {
	t.Helper()
	n, ok := line[key].(interface{ Float64() (float64, error) })
	if !ok {
		t.Fatalf("%s of %v is not a number", key, line)
	}
	x, err := n.Float64()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestRunsAreIdentical(t *testing.T) {
	run := func(seed uint64) ([]map[string]any, []byte) {
		k := newToy(t, func(c *config.Config) { c.Sift.Score, c.Train.Seed = "loss", seed })
		s := k.mustRun(t)
		return metricsOf(t, k.out), sectionsOf(t, filepath.Join(k.out, checkpointDir, checkpointName(s.Updates)))
	}
	m1, w1 := run(1)
	m2, w2 := run(1)
	if !reflect.DeepEqual(m1, m2) || !bytes.Equal(w1, w2) {
		t.Error("the same run twice gives other numbers")
	}
	if _, w3 := run(2); bytes.Equal(w1, w3) {
		t.Error("another seed gives the same weights")
	}
}

// TestRunDirectory: what a finished run leaves, and nothing else.
func TestRunDirectory(t *testing.T) {
	k := newToy(t, func(c *config.Config) { c.Sift.Score, c.Sift.Log = "loss", true })
	s := k.mustRun(t)
	var got []string
	filepath.WalkDir(k.out, func(path string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(k.out, path); err == nil && !d.IsDir() {
			got = append(got, rel)
		}
		return err
	})
	want := []string{".lock", "checkpoints/best.ckpt", "checkpoints/step-00000005.ckpt", "checkpoints/step-00000006.ckpt",
		"config.yaml", "device.json", "metrics.jsonl", "model/config.json", "model/vocab.txt", "selection.jsonl", "summary.json"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("files %q\nwant %q", got, want)
	}
	cfg, err := RunConfig(k.out)
	if err != nil || cfg.Sift != k.cfg.Sift || cfg.Train != k.cfg.Train || !filepath.IsAbs(cfg.Model.Path) {
		t.Errorf("%+v, %v", cfg, err)
	}
	// 24 examples, 8 drawn and 4 kept an update, 2 epochs.
	if s.Updates != 6 || s.SamplesDrawn != 48 || s.SamplesBackprop != 24 || s.Epochs != 2 || s.StoppedEarly {
		t.Errorf("%+v", s)
	}
	lines := metricsOf(t, k.out)
	if n := len(lines); n != 6+2+1 || lines[n-1]["kind"] != "summary" {
		t.Errorf("%d lines, the last %v", n, lines[n-1])
	}
	c, err := openWeights(k.out, OpenOptions{})
	if err != nil || c.Update != s.BestUpdate || !reflect.DeepEqual(c.Labels, []string{"absent", "present"}) {
		t.Errorf("best weights: %+v, %v", c, err)
	}
	c.Close()
}

// TestCountsInMetrics follows drawn and kept through a schedule with a start, an end, an
// interrupted update, accumulation and short last batches.
func TestCountsInMetrics(t *testing.T) {
	k := newToy(t, func(c *config.Config) {
		c.Sift.Score, c.Sift.Start, c.Sift.End, c.Sift.Interrupt = "entropy", 1, 5, 3
		c.Train.Accumulate, c.Train.Epochs = 2, 3
	})
	k.train = 21
	k.mustRun(t)
	want := []struct {
		drawn, kept int
		selecting   bool
	}{
		{8, 8, false},   // before the start: 4 + 4
		{21, 15, true},  // 8 -> 4, then 5 -> round(2.5) = 3
		{29, 23, false}, // interrupted
		{42, 30, true},  // 8 -> 4, 5 -> 3
		{58, 38, true},  // 8 -> 4 twice
		{63, 43, false}, // after the end: 4 + 1 of what the epoch has left
	}
	var got int
	for _, line := range metricsOf(t, k.out) {
		if line["kind"] != "update" {
			continue
		}
		w := want[got]
		got++
		if int(number(t, line, "samples_drawn")) != w.drawn || int(number(t, line, "samples_backpropagated")) != w.kept || line["selecting"] != w.selecting {
			t.Errorf("update %d: %v drawn, %v kept, selecting %v; want %+v", got, line["samples_drawn"], line["samples_backpropagated"], line["selecting"], w)
		}
		if scored := line["scored_loss"] != nil; scored != w.selecting {
			t.Errorf("update %d: scored loss %v", got, line["scored_loss"])
		}
	}
	if got != len(want) {
		t.Errorf("%d updates, want %d", got, len(want))
	}
}

// TestAccumulation: without selection and dropout, the gradient of 2 x 4 sequences is
// that of 8.
func TestAccumulation(t *testing.T) {
	grads := func(micro, accumulate int) []float64 {
		k := newToy(t, func(c *config.Config) {
			c.Train.MicroBatch, c.Train.Accumulate, c.Train.Dropout, c.Train.AttentionDropout = micro, accumulate, 0, 0
		})
		dev := cpu.NewReference(backend.F64)
		defer dev.Close()
		tr, err := newTrainer(k.cfg, RunOptions{Out: t.TempDir(), Device: dev}, osDisk{}, toyMaterial(t, k.cfg, 24, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer tr.close()
		if err := errors.Join(tr.openLogs(logSizes{}), tr.newStepper()); err != nil {
			t.Fatal(err)
		}
		tr.draws = tr.rule.update(nil, 1, 0)
		if len(tr.draws) != accumulate {
			t.Fatalf("%d micro-batches", len(tr.draws))
		}
		if err := tr.accumulate(&flight{m: Metrics{Update: 1}}); err != nil {
			t.Fatal(err)
		}
		g := newValues(backend.F64, tr.model.Grads().Len())
		if err := g.download(dev, tr.model.Grads()); err != nil {
			t.Fatal(err)
		}
		return g.f64
	}
	a, b := grads(8, 1), grads(4, 2)
	diff, norm := 0.0, 0.0
	for i := range a {
		diff += (a[i] - b[i]) * (a[i] - b[i])
		norm += a[i] * a[i]
	}
	if norm == 0 || diff > 1e-24*norm {
		t.Errorf("gradients differ by %v of %v", math.Sqrt(diff), math.Sqrt(norm))
	}
}

// TestFreeze: frozen weights keep every bit, the others move.
func TestFreeze(t *testing.T) {
	for freeze, stage := range map[string]int{"none": -1, "embeddings": 0, "1": 1, "encoder": 2} {
		k := newToy(t, func(c *config.Config) { c.Train.Freeze, c.Train.Epochs = freeze, 1 })
		s := k.mustRun(t)
		before := toyMaterial(t, k.cfg, 1, 0).weights
		c, err := openCheckpoint(osDisk{}, filepath.Join(k.out, checkpointDir, checkpointName(s.Updates)))
		if err != nil {
			t.Fatal(err)
		}
		after, err := c.weights()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Params {
			same := reflect.DeepEqual(before[p.Role], after[p.Role])
			if frozen := p.Stage <= stage; same != frozen {
				t.Errorf("freeze %s: %s (stage %d) unchanged: %v", freeze, p.Role, p.Stage, same)
			}
		}
		c.Close()
	}
}

// TestDivergence: a loss or gradient that is not finite stops the run before the update
// is applied, and the state before it is there to go back to.
func TestDivergence(t *testing.T) {
	k := newToy(t, func(c *config.Config) {
		c.Optimizer.LR, c.Optimizer.Schedule, c.Train.ClipNorm, c.Optimizer.WeightDecay = 1e30, "constant", 0, 0
		c.Train.SaveEvery, c.Data.Valid = 0, nil
	})
	k.valid = 0
	_, err := k.run(t, context.Background(), nil)
	wantKind(t, err, fault.Diverged, k.out, "last good checkpoint is "+filepath.Join(checkpointDir, "step-"))
	if n := strings.Count(err.Error(), "update "); n != 1 {
		t.Errorf("the update is named %d times: %v", n, err)
	}
	updates, listErr := generations(osDisk{}, filepath.Join(k.out, checkpointDir))
	if listErr != nil || len(updates) != 1 || !strings.Contains(err.Error(), checkpointName(updates[0])) {
		t.Fatalf("%v: %v, %v", err, updates, listErr)
	}
	for role, w := range weightsOf(t, filepath.Join(k.out, checkpointDir, checkpointName(updates[0]))) {
		for _, x := range w {
			if !finite(float64(x)) {
				t.Fatalf("%s of the good checkpoint holds %v", role, x)
			}
		}
	}
	for _, line := range metricsOf(t, k.out) {
		if int(number(t, line, "update")) > updates[0] {
			t.Errorf("a line of an update that was not applied: %v", line)
		}
	}
}

func TestEvaluateEveryAndEarlyStopping(t *testing.T) {
	k := newToy(t, func(c *config.Config) {
		c.Train.EvaluateEvery, c.Train.EarlyStopping, c.Train.Epochs = 2, 2, 50
		c.Optimizer.LR, c.Optimizer.Schedule, c.Optimizer.WeightDecay = 1e-30, "constant", 0 // nothing changes, so nothing gains
	})
	s := k.mustRun(t)
	if s.Updates != 6 || !s.StoppedEarly || s.BestUpdate != 2 || s.Planned != 300 {
		t.Errorf("%+v", s)
	}
	if got := weightsOf(t, filepath.Join(k.out, s.Checkpoint)); !reflect.DeepEqual(got, weightsOf(t, filepath.Join(k.out, checkpointDir, bestName))) {
		t.Error("the summary names another checkpoint than the best")
	}
}

// TestRefusesDirectory: an existing run, a directory that holds something, a second
// process.
func TestRefusesDirectory(t *testing.T) {
	k := newToy(t, nil)
	k.mustRun(t)
	before := metricsOf(t, k.out)
	_, err := k.run(t, context.Background(), nil)
	wantKind(t, err, fault.CannotWrite, k.out, "already a run")
	if !reflect.DeepEqual(before, metricsOf(t, k.out)) {
		t.Error("the refused run touched the old one")
	}
	other := newToy(t, nil)
	if err := os.MkdirAll(filepath.Join(other.out, "papers"), 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = other.run(t, context.Background(), nil)
	wantKind(t, err, fault.CannotWrite, "not empty", "papers")
	if _, err := os.Stat(filepath.Join(other.out, "papers")); err != nil {
		t.Error("the refused run removed what was there")
	}

	locked := newToy(t, nil)
	_, err = locked.run(t, context.Background(), func(o *RunOptions) {
		o.Progress = func(e Event) {
			if u, ok := e.(*Updated); ok && u.Update == 1 {
				second := *locked
				_, err := second.run(t, context.Background(), func(o *RunOptions) { o.Resume = true })
				wantKind(t, err, fault.CannotWrite, "another process")
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingLeftBehind: a run that never began leaves no directory.
func TestNothingLeftBehind(t *testing.T) {
	for failAt := 1; failAt <= 8; failAt++ {
		k := newToy(t, nil)
		_, err := k.run(t, context.Background(), func(o *RunOptions) { o.disk = &faultyDisk{failAt: failAt} })
		if err == nil {
			t.Fatalf("operation %d: no error", failAt)
		}
		if _, err := os.Stat(k.out); !os.IsNotExist(err) {
			t.Errorf("operation %d: the directory was left: %v", failAt, err)
		}
	}
}

// TestMemoryDoesNotGrow holds the loop to the promise that an update allocates next to
// nothing: a line of metrics and an event.
func TestMemoryDoesNotGrow(t *testing.T) {
	k := newToy(t, func(c *config.Config) { c.Sift.Score = "loss" })
	dev := cpu.NewReference(backend.F32)
	defer dev.Close()
	tr, err := newTrainer(k.cfg, RunOptions{Out: t.TempDir(), Device: dev}, osDisk{}, toyMaterial(t, k.cfg, 4000, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	if err := errors.Join(tr.openLogs(logSizes{}), tr.newStepper()); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() {
		if err := tr.step(); err != nil {
			t.Fatal(err)
		}
	}); n > 40 {
		t.Errorf("%v allocations an update", n)
	}
}
