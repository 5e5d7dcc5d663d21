package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/sift"
	"sift/text"
)

// trainer is a run under way. Between two updates its whole state is the flat buffers
// and the fields of header that save writes.
type trainer struct {
	cfg      config.Config
	opt      RunOptions
	d        disk
	in       *material
	rule     counting
	plan     plan
	schedule schedule
	order    *text.Order

	model     *bert.Model
	stepper   *sift.Stepper
	optim     *adamW
	packer    *bert.Packer
	staging   *values
	draws     []draw
	logits    []float32
	metrics   *lines
	selection *lines // nil: not logged

	update   int // updates done
	position int // samples drawn
	totals   totals
	progress progress
	selected int64    // bytes of selection.jsonl after the last whole update
	saved    int      // update of the newest checkpoint, -1: none
	sitting  struct { // where this process began
		position int
		seconds  float64
	}
}

// newTrainer allocates the model and everything else of a run whose inputs are in.
func newTrainer(cfg config.Config, opt RunOptions, d disk, in *material) (*trainer, error) {
	t := &trainer{cfg: cfg, opt: opt, d: d, in: in, saved: -1}
	var err error
	if t.rule, err = newCounting(cfg, in.train.Len()); err != nil {
		return nil, err
	}
	t.order = text.NewOrder(in.train.Len(), cfg.Train.Seed)
	length := func(position int) int { return in.train.length(t.order.At(uint64(position))) }
	if t.plan, err = t.rule.newPlan(cfg, length); err != nil {
		return nil, err
	}
	t.schedule = newSchedule(cfg.Optimizer, t.plan.updates)

	objective := bert.Objective{Classification: true}
	if err := t.rule.sift.Validate(in.model, objective); err != nil {
		return nil, err
	}
	frozen, err := cfg.Train.FrozenLayers(in.model.Layers)
	if err != nil {
		return nil, err
	}
	longest := max(in.train.longest(), in.valid.longest())
	limits := bert.Limits{Rows: max(t.plan.rows, in.valid.longest()), Seqs: t.plan.seqs, MaxLen: longest}
	if t.model, err = bert.NewModel(opt.Device, in.model, limits); err != nil {
		return nil, err
	}
	if err := t.model.SetObjective(objective); err != nil {
		return nil, err
	}
	if err := t.model.FreezeLayers(frozen); err != nil {
		return nil, err
	}
	if err := t.model.SetWeights(in.weights); err != nil {
		return nil, err
	}
	t.packer = bert.NewPacker(limits)
	t.packer.Classification = true
	t.staging = newValues(opt.Device.Info().Float, t.model.Parameters().Len())
	t.optim, err = newAdamW(opt.Device, t.model, cfg.Optimizer, cfg.Train.ClipNorm)
	return t, err
}

// openLogs opens the line files where the state says they end, and the stepper, which
// records into one of them.
func (t *trainer) openLogs(at logSizes) error {
	var err error
	if t.metrics, err = openLines(t.d, filepath.Join(t.opt.Out, metricsName), at.Metrics); err != nil {
		return err
	}
	options := t.rule.sift
	if t.cfg.Sift.Log {
		if t.selection, err = openLines(t.d, filepath.Join(t.opt.Out, selectionName), at.Selection); err != nil {
			return err
		}
		options.Record = sift.NewRecorder(t.selection)
		t.selected = at.Selection
	}
	if t.cfg.Sift.Replay != "" {
		f, err := os.Open(t.cfg.Sift.Replay)
		if err != nil {
			return diskError(fault.Missing, t.cfg.Sift.Replay, err)
		}
		options.Replay, err = sift.ReadReplay(f, t.cfg.Sift.Replay)
		f.Close()
		if err != nil {
			return err
		}
	}
	t.stepper, err = sift.NewStepper(t.model, options)
	return err
}

func (t *trainer) close() {
	for _, l := range []*lines{t.metrics, t.selection} {
		if l != nil {
			_ = l.Close() // what must last was synchronised
		}
	}
	if t.stepper != nil {
		_ = t.stepper.Free() // the device is going away
	}
	if t.optim != nil {
		t.optim.free()
	}
	if t.model != nil {
		_ = t.model.Free()
	}
}

func (t *trainer) notify(e Event) {
	if t.opt.Progress != nil {
		t.opt.Progress(e)
	}
}

func (t *trainer) notice(text string) { t.notify(&Notice{Text: text}) }

// run goes on to the end of the plan. It returns an error of kind fault.Interrupted
// when ctx is cancelled.
func (t *trainer) run(ctx context.Context) error {
	t.sitting.position, t.sitting.seconds = t.position, t.totals.TrainSeconds
	for {
		if ctx.Err() != nil {
			return t.interrupted()
		}
		if t.evaluationDue() {
			err := t.evaluate(ctx)
			if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return t.interrupted()
			}
			if err != nil {
				return err
			}
		}
		if t.done() {
			return t.save()
		}
		if every := t.cfg.Train.SaveEvery; every > 0 && t.update > 0 && t.update%every == 0 {
			if err := t.save(); err != nil {
				return err
			}
		}
		if err := t.step(); err != nil {
			return t.failed(err)
		}
	}
}

// done reports whether no update is left.
func (t *trainer) done() bool { return t.update >= t.plan.updates || t.stoppedEarly() }

func (t *trainer) stoppedEarly() bool {
	n := t.cfg.Train.EarlyStopping
	return n > 0 && t.progress.WithoutGain >= n
}

func (t *trainer) interrupted() error {
	if err := t.save(); err != nil {
		return err
	}
	return fault.New(fault.Interrupted, "%s: interrupted at update %d; continue with --resume", t.opt.Out, t.update)
}

// failed adds to an error of an update what a user can go back to. A divergence leaves
// the parameters as they were before, so they are saved first.
func (t *trainer) failed(err error) error {
	last := "no checkpoint was written"
	if fault.KindOf(err) == fault.Diverged {
		if saveErr := t.save(); saveErr != nil {
			last = "the state before it could not be saved (" + saveErr.Error() + ")"
		}
	}
	if t.saved >= 0 {
		last = "the last good checkpoint is " + filepath.Join(checkpointDir, checkpointName(t.saved))
	}
	return &fault.Error{Kind: fault.KindOf(err), Cause: err,
		Text: fmt.Sprintf("%s: update %d: %v; %s", t.opt.Out, t.update+1, err, last)}
}

// step makes one update: its micro-batches, the norm, AdamW, the line of metrics.
func (t *trainer) step() error {
	start := time.Now()
	u := t.update + 1
	t.draws = t.rule.update(t.draws[:0], u, t.position)
	m := Metrics{Kind: "update", Update: u, Selecting: t.rule.sift.Selects(u - 1)}
	sum, err := t.accumulate(&m)
	if err != nil {
		return err
	}
	micro := float64(len(t.draws))
	m.KeptLoss = sum.kept / micro
	if sum.scored {
		loss := sum.scoredLoss / micro
		m.ScoredLoss = &loss
	}
	if sum.count > 0 {
		m.Accuracy = float64(sum.correct) / float64(sum.count)
	}
	if !finite(m.KeptLoss) {
		return fault.New(fault.Diverged, "the loss is %v", m.KeptLoss)
	}
	if m.GradNorm, err = t.optim.norm(); err != nil {
		return err
	}
	if !finite(m.GradNorm) {
		return fault.New(fault.Diverged, "the norm of the gradient is %v", m.GradNorm)
	}
	m.LearningRate = t.cfg.Optimizer.LR * t.schedule.at(u)
	if err := t.optim.step(m.LearningRate, u); err != nil {
		return err
	}
	if err := t.model.Stream().Sync(); err != nil {
		return err
	}

	t.update = u
	t.position += sum.drawn
	t.totals.Backprop += sum.keptSamples
	t.totals.TokensDrawn += sum.rows
	t.totals.TokensBackprop += sum.keptRows
	t.totals.LastLoss = m.KeptLoss
	m.Epoch = float64(t.position) / float64(t.rule.size)
	m.KeptShare = float64(sum.keptSamples) / float64(sum.drawn)
	m.SamplesDrawn, m.SamplesBackprop = t.position, t.totals.Backprop
	m.TokensDrawn, m.TokensBackprop = t.totals.TokensDrawn, t.totals.TokensBackprop
	m.ScoreSeconds = sum.scoreTime.Seconds()
	m.StepSeconds = time.Since(start).Seconds()
	t.totals.TrainSeconds += m.StepSeconds
	t.totals.ScoreSeconds += m.ScoreSeconds
	m.TrainSeconds = t.totals.TrainSeconds
	if m.StepSeconds > 0 {
		m.TokensPerSecond = float64(sum.rows) / m.StepSeconds
	}
	if err := t.metrics.write(&m); err != nil {
		return err
	}
	if t.selection != nil {
		t.selected = t.selection.size
	}
	t.notify(&Updated{Metrics: m, Updates: t.plan.updates, Remaining: t.remaining()})
	return nil
}

// updateSums add up over the micro-batches of an update.
type updateSums struct {
	kept, scoredLoss   float64 // sums of micro-batch means
	scored             bool
	correct, count     int
	drawn, keptSamples int
	rows, keptRows     int
	scoreTime          time.Duration
}

// accumulate runs the micro-batches of t.draws, leaving the mean of their gradients in
// the model.
func (t *trainer) accumulate(m *Metrics) (updateSums, error) {
	var sum updateSums
	for micro, d := range t.draws {
		b, err := t.pack(d)
		if err != nil {
			return sum, err
		}
		r, err := t.stepper.Step(b, sift.StepArgs{
			Update: m.Update - 1, Micro: micro, Select: m.Selecting,
			Seed: t.cfg.Train.Seed, GradScale: 1 / float64(len(t.draws)),
		})
		if err != nil {
			// Package sift names the update too, from 0; the caller does it from 1.
			return sum, trimmed(err, fmt.Sprintf("update %d: ", m.Update-1))
		}
		sum.kept += r.Loss
		if r.Scored {
			sum.scored = true
			sum.scoredLoss += r.ScoredLoss
		}
		sum.correct += r.Correct
		sum.count += r.Count
		sum.drawn += r.Drawn
		sum.keptSamples += r.Kept
		sum.rows += r.DrawnRows
		sum.keptRows += r.KeptRows
		sum.scoreTime += r.ScoreTime
		if r.Drawn != d.n || r.Kept != d.keep && t.cfg.Sift.Replay == "" {
			return sum, fault.New(fault.Internal, "drew %d and kept %d, planned %d and %d", r.Drawn, r.Kept, d.n, d.keep)
		}
	}
	return sum, nil
}

// trimmed drops a prefix of an error's text.
func trimmed(err error, prefix string) error {
	return &fault.Error{Kind: fault.KindOf(err), Text: strings.TrimPrefix(err.Error(), prefix), Cause: err}
}

// pack gathers the samples of a draw.
func (t *trainer) pack(d draw) (*bert.Batch, error) {
	t.packer.Reset()
	for p := d.first; p < d.first+d.n; p++ {
		if err := t.packer.AddSequence(t.in.train.sequence(t.order.At(uint64(p)), uint64(p))); err != nil {
			return nil, err
		}
	}
	return t.packer.Batch(), nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// remaining is the training time left at the pace of this sitting.
func (t *trainer) remaining() time.Duration {
	drawn := t.position - t.sitting.position
	if drawn == 0 {
		return 0
	}
	each := (t.totals.TrainSeconds - t.sitting.seconds) / float64(drawn)
	return time.Duration(each * float64(t.plan.drawn-t.position) * float64(time.Second))
}

// save writes a checkpoint of the present update, unless there is one, and removes the
// oldest. The line files are made to last first: a checkpoint never knows more of them
// than the disk does.
func (t *trainer) save() error {
	if t.saved == t.update {
		return nil
	}
	if err := t.metrics.sync(); err != nil {
		return err
	}
	if t.selection != nil {
		if err := t.selection.sync(); err != nil {
			return err
		}
	}
	dir := filepath.Join(t.opt.Out, checkpointDir)
	path := filepath.Join(dir, checkpointName(t.update))
	if err := writeCheckpoint(t.d, path, t.header(), t.staging, []string{"params", "m", "v"}, t.fetch); err != nil {
		return err
	}
	t.saved = t.update
	if err := prune(t.d, dir, t.cfg.Train.KeepCheckpoints); err != nil {
		return err
	}
	t.notify(&Saved{Update: t.update, Path: path})
	return nil
}

// fetch downloads a section into the staging buffer.
func (t *trainer) fetch(name string) error { return t.staging.download(t.opt.Device, t.section(name)) }

func (t *trainer) section(name string) backend.Tensor {
	switch name {
	case "m":
		return t.optim.m
	case "v":
		return t.optim.v
	}
	return t.model.Parameters()
}

func (t *trainer) header() header {
	return header{
		Program: t.opt.Version, Update: t.update, Position: t.position, Totals: t.totals, Progress: t.progress,
		Logs: logSizes{Metrics: t.metrics.size, Selection: t.selected}, Inputs: t.in.hashes, Config: t.in.configText,
		Device: recordDevice(t.opt.Device), Model: t.in.model, Labels: t.in.labels, Params: t.model.Params(),
	}
}

// restore takes over the state of a checkpoint.
func (t *trainer) restore(c *checkpoint) error {
	for _, s := range c.Sections {
		if err := c.read(s.Name, t.staging); err != nil {
			return err
		}
		if err := t.staging.upload(t.opt.Device, t.section(s.Name)); err != nil {
			return err
		}
	}
	t.update, t.position, t.totals, t.progress = c.Update, c.Position, c.Totals, c.Progress
	t.saved = c.Update
	return nil
}
