package train

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/backend/vulkan"
	"sift/config"
	"sift/fault"
	"sift/sifting"
)

// vulkanDevice opens lavapipe, another software driver where it is missing, or the best GPU
// where there is none, or skips the test: a machine without Vulkan fails only where
// SIFT_REQUIRE_VULKAN says it has it.
func vulkanDevice(t testing.TB, o vulkan.Options) backend.Device {
	t.Helper()
	list, err := vulkan.List()
	if err == nil {
		for _, p := range list {
			if p.Type == "cpu" && (o.Select == "" || strings.Contains(p.Name, "llvmpipe")) {
				o.Select = strconv.Itoa(p.Index)
			}
		}
		var dev backend.Device
		if dev, err = vulkan.Open(o); err == nil {
			t.Cleanup(func() {
				if err := dev.Close(); err != nil {
					t.Error(err)
				}
			})
			return dev
		}
	}
	if os.Getenv("SIFT_REQUIRE_VULKAN") == "1" {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil
}

// fast skips a test of many updates on a driver that takes some ten seconds for each.
func fast(t testing.TB, dev backend.Device) {
	t.Helper()
	if d := dev.Info().Description; strings.Contains(d, "SwiftShader") {
		t.Skipf("%s takes some ten seconds an update; lavapipe is not installed", d)
	}
}

func processor(t testing.TB) backend.Device {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// tinyPretraining is a BERT of 2 layers of 128 on the corpora in the repository, with the
// first 4096 tokens of BERT's vocabulary, which are the frequent ones: dropout on, SIFT by
// the loss at layer 1, half of 16 sequences of 32 tokens kept.
func tinyPretraining(t testing.TB) config.Config {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, "vocab", "vocab.txt"))
	if err != nil {
		t.Fatal(err)
	}
	vocab := filepath.Join(t.TempDir(), "vocab.txt")
	write(t, vocab, strings.Join(strings.SplitAfter(string(data), "\n")[:4096], ""))
	cfg := config.DefaultPretrain()
	cfg.Model.Tokenizer = vocab
	cfg.Model.Layers, cfg.Model.Hidden, cfg.Model.Heads, cfg.Model.Intermediate, cfg.Model.Positions = 2, 128, 2, 512, 64
	cfg.Task.MaxLength = 32
	cfg.Data.Train, cfg.Data.ValidShare = config.Paths{filepath.Join(testdata, "corpora")}, 0.05
	cfg.Train.Updates, cfg.Train.Epochs, cfg.Train.MicroBatch, cfg.Train.SaveEvery, cfg.Train.EvaluateEvery = 200, 0, 8, 0, 1000
	cfg.Optimizer.LR = 1e-3
	cfg.Sift.Score, cfg.Sift.ExitLayer, cfg.Sift.Keep, cfg.Sift.Log = "loss", 1, 0.5, true
	return cfg
}

// updatesOf reads the lines of metrics.jsonl that are updates.
func updatesOf(t testing.TB, out string) []Metrics {
	t.Helper()
	f, err := os.Open(filepath.Join(out, metricsName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []Metrics
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m Metrics
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == "update" {
			list = append(list, m)
		}
	}
	return list
}

// trainTiny trains on a device and returns the updates' metrics.
func trainTiny(t testing.TB, cfg config.Config, dev backend.Device, out string) []Metrics {
	t.Helper()
	if _, err := Pretrain(context.Background(), cfg, RunOptions{Out: out, Device: dev, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	list := updatesOf(t, out)
	if len(list) != cfg.Train.Updates {
		t.Fatalf("%d updates", len(list))
	}
	return list
}

// apart is the largest relative difference of the losses of two runs' updates.
func apart(t testing.TB, a, b []Metrics) (most float64) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d and %d updates", len(a), len(b))
	}
	value := func(x *float64) float64 {
		if x == nil {
			return 0
		}
		return *x
	}
	for i := range a {
		for _, pair := range [][2]float64{{a[i].KeptLoss, b[i].KeptLoss}, {value(a[i].ScoredLoss), value(b[i].ScoredLoss)},
			{value(a[i].MLMLoss), value(b[i].MLMLoss)}, {value(a[i].NSPLoss), value(b[i].NSPLoss)}} {
			off := math.Abs(pair[0]-pair[1]) / math.Max(math.Abs(pair[0]), 1e-3)
			if !(off <= most) {
				most = off
			}
		}
	}
	return most
}

// TestVulkanTrainsAsTheProcessor: 200 updates from the same weights, with the dropout and
// the selections of the processor's run. Every loss stays within a thousandth.
func TestVulkanTrainsAsTheProcessor(t *testing.T) {
	dev := vulkanDevice(t, vulkan.Options{})
	fast(t, dev)
	trainsAsTheProcessor(t, tinyPretraining(t), dev, 1e-3)
}

// trainsAsTheProcessor trains on the processor, then with its selections on a device, and
// wants every loss within a share of the processor's.
func trainsAsTheProcessor(t *testing.T, cfg config.Config, dev backend.Device, within float64) {
	t.Helper()
	dir := t.TempDir()
	plain := cfg
	plain.Device.Name, plain.Train.Precision, plain.Sift.ScorePrecision = "cpu", "f32", "f32"
	want := trainTiny(t, plain, processor(t), filepath.Join(dir, "cpu"))
	cfg.Sift.Replay = filepath.Join(dir, "cpu", selectionName)
	got := trainTiny(t, cfg, dev, filepath.Join(dir, "device"))
	off := apart(t, want, got)
	first, last := want[0].KeptLoss, want[len(want)-1].KeptLoss
	t.Logf("loss %.3f to %.3f; the largest difference of a loss is %.2g of it", first, last, off)
	if !(off <= within) {
		t.Errorf("losses differ by %.2g", off)
	}
	if last > 0.9*first {
		t.Errorf("the run learnt nothing: %g to %g", first, last)
	}
}

// begun is a trainer of cfg that is ready for its first update.
func begun(t testing.TB, cfg config.Config, dev backend.Device) *trainer {
	t.Helper()
	cfg, text, err := resolvedText(cfg)
	if err != nil {
		t.Fatal(err)
	}
	in, err := readText(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.text.close)
	in.configText = text
	tr, err := newTrainer(cfg, RunOptions{Out: filepath.Join(t.TempDir(), "run"), Device: dev, Version: "test"}, osDisk{}, in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.close)
	if err := tr.begin(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// selection draws the samples of the next update of the run lead and returns whom tr
// keeps of them, and their scores. The gradients this leaves are cleared.
func selection(t testing.TB, tr, lead *trainer) (kept []int, scores []float64) {
	t.Helper()
	u := lead.update + 1
	d := lead.rule.update(nil, u, lead.position)
	b, err := tr.pack(d[0])
	if err != nil {
		t.Fatal(err)
	}
	r, err := tr.stepper.Step(b, sifting.StepArgs{Update: u - 1, Select: true, Seed: tr.cfg.Train.Seed})
	if err != nil {
		t.Fatal(err)
	}
	tr.model.Stream().Zero(tr.model.Grads())
	if err := tr.model.Stream().Sync(); err != nil {
		t.Fatal(err)
	}
	return append(kept, r.KeptIndex...), append(scores, r.Scores...)
}

// TestVulkanSelectsAsTheProcessor: at each of the 200 states that the weights of the
// processor's run go through, both devices score the same sequences under the update's
// dropout. At least 99.9% of the sequences are kept by both or by neither.
func TestVulkanSelectsAsTheProcessor(t *testing.T) {
	dev := vulkanDevice(t, vulkan.Options{})
	fast(t, dev)
	selectsAsTheProcessor(t, tinyPretraining(t), dev)
}

func selectsAsTheProcessor(t *testing.T, cfg config.Config, dev backend.Device) {
	t.Helper()
	cfg.Sift.Log = false
	lead, other := begun(t, cfg, processor(t)), begun(t, cfg, dev)
	drawn, alike, worst := 0, 0, 0.0
	for range cfg.Train.Updates {
		if err := lead.staging.download(lead.opt.Device, lead.model.Parameters()); err != nil {
			t.Fatal(err)
		}
		if err := lead.staging.upload(dev, other.model.Parameters()); err != nil {
			t.Fatal(err)
		}
		other.model.Refresh()
		kept, want := selection(t, lead, lead)
		theirs, got := selection(t, other, lead)
		mine := map[int]bool{}
		for _, i := range kept {
			mine[i] = true
		}
		if len(theirs) != len(kept) {
			t.Fatalf("of %d kept %d and %d", len(want), len(kept), len(theirs))
		}
		both := 0
		for _, i := range theirs {
			if mine[i] {
				both++
			}
		}
		drawn += len(want)
		alike += len(want) - 2*(len(kept)-both)
		for i := range want {
			worst = max(worst, math.Abs(got[i]-want[i])/math.Abs(want[i]))
		}
		if err := lead.step(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d sequences selected alike; scores differ by at most %.2g of their size", alike, drawn, worst)
	if drawn < 15*cfg.Train.Updates || float64(alike) < 0.999*float64(drawn) {
		t.Errorf("%d of %d sequences selected alike", alike, drawn)
	}
}

// TestVulkanResumes: a run that was interrupted and taken up on a device opened again,
// with the kernels of the first pinned, ends with the same bits.
func TestVulkanResumes(t *testing.T) {
	fast(t, vulkanDevice(t, vulkan.Options{}))
	resumesTheSame(t, tinyPretraining(t), func(tuning []byte) backend.Device { return vulkanDevice(t, vulkan.Options{Tuning: tuning}) })
}

// resumesTheSame interrupts a short run twice.
func resumesTheSame(t *testing.T, cfg config.Config, open func(tuning []byte) backend.Device) {
	t.Helper()
	cfg.Train.Updates, cfg.Train.EvaluateEvery, cfg.Data.ValidShare = 12, 8, 0.01
	dir := t.TempDir()
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	trainTiny(t, cfg, open(nil), whole)
	tuning, err := RunTuning(whole)
	if err != nil {
		t.Fatal(err)
	}
	for i, stop := range []int{5, 9, 0} {
		ctx, cancel := context.WithCancel(context.Background())
		dev := open(tuning)
		_, err := Pretrain(ctx, cfg, RunOptions{Out: parts, Resume: i > 0, Device: dev, Version: "test", Progress: func(e Event) {
			if u, ok := e.(*Updated); ok && u.Update == stop {
				cancel()
			}
		}})
		cancel()
		if stop > 0 {
			// A device that queues has begun the next update when one is reported.
			if _, queued := dev.(backend.Queued); queued {
				stop++
			}
			wantKind(t, err, fault.Interrupted, fmt.Sprintf("interrupted at update %d", stop))
		} else if err != nil {
			t.Fatal(err)
		}
	}
	finish(t, whole, 12).same(t, "resumed", finish(t, parts, 12))
}

// TestVulkanHalf: with operands of products rounded to float16 the losses stay within half a
// hundredth of those of float32 for 40 updates, and no update is lost but for the first
// ones, whose loss scale may be too large.
func TestVulkanHalf(t *testing.T) {
	dev := vulkanDevice(t, vulkan.Options{Precision: backend.F16})
	cfg := tinyPretraining(t)
	cfg.Train.Updates = 40
	fast(t, dev)
	dir := t.TempDir()
	want := trainTiny(t, cfg, processor(t), filepath.Join(dir, "cpu"))
	cfg.Sift.Replay = filepath.Join(dir, "cpu", selectionName)
	cfg.Device.Name, cfg.Train.Precision, cfg.Sift.ScorePrecision = "vulkan", "f16", "f16"
	got := trainTiny(t, cfg, dev, filepath.Join(dir, "vulkan"))
	off := apart(t, want, got)
	last := got[len(got)-1]
	t.Logf("the largest difference of a loss is %.2g of it; %d skipped updates, loss scale %g", off, last.SkippedUpdates, last.LossScale)
	if off > 5e-3 || off == 0 || last.SkippedUpdates > 8 || last.LossScale < 256 {
		t.Errorf("losses differ by %.2g, %d skipped updates, loss scale %g", off, last.SkippedUpdates, last.LossScale)
	}
}
