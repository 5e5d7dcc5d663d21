package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/sifting"
)

// trainer is a run under way. Between two updates its whole state is the flat buffers
// and the fields of header that save writes.
type trainer struct {
	cfg       config.Config
	opt       RunOptions
	d         disk
	in        *material
	rule      counting
	plan      plan
	schedule  schedule
	objective bert.Objective
	samples   samples
	held      heldOut // nil: nothing is validated

	model     *bert.Model
	stepper   *sifting.Stepper
	optim     *adamW
	packer    *bert.Packer
	staging   *values
	draws     []draw
	metrics   *lines
	selection *lines // nil: not logged

	update   int  // updates done
	position int  // samples drawn
	defers   bool // what an update reports is waited for after the next has begun
	flying   flight
	ahead    int       // update whose first micro-batch is packed and its scores enqueued
	landed   time.Time // when the last report was made
	spoiled  bool      // parameters are not those of t.update
	totals   totals
	progress progress
	scale    lossScale
	selected int64    // bytes of selection.jsonl after the last whole update
	saved    int      // update of the newest checkpoint, -1: none
	sitting  struct { // where this process began
		position int
		seconds  float64
	}
}

// newTrainer allocates the model and everything else of a run whose inputs are in.
func newTrainer(cfg config.Config, opt RunOptions, d disk, in *material) (*trainer, error) {
	t := &trainer{cfg: cfg, opt: opt, d: d, in: in, saved: -1, scale: newLossScale(cfg.Train.Precision, opt.growthInterval)}
	var err error
	size := in.train.Len()
	if in.text != nil {
		size = in.text.train.Len()
	}
	if t.rule, err = newCounting(cfg, size); err != nil {
		return nil, err
	}
	t.objective, t.samples, t.held = in.streams(cfg.Train.Seed)
	if t.plan, err = t.rule.newPlan(cfg, t.samples.length, t.samples.longest()); err != nil {
		return nil, err
	}
	t.schedule = newSchedule(cfg.Optimizer, t.plan.updates)

	if err := t.rule.sift.Validate(in.model, t.objective); err != nil {
		return nil, err
	}
	frozen, err := cfg.Train.FrozenLayers(in.model.Layers)
	if err != nil {
		return nil, err
	}
	limits := batchLimits(t.plan, t.samples, t.held)
	if t.model, err = bert.NewModel(opt.Device, in.model, limits); err != nil {
		return nil, err
	}
	if err := t.model.SetObjective(t.objective); err != nil {
		return nil, err
	}
	if err := t.model.FreezeLayers(frozen); err != nil {
		return nil, err
	}
	if err := t.model.SetWeights(in.weights); err != nil {
		return nil, err
	}
	in.weights = nil // on the device now
	t.packer = bert.NewPacker(limits)
	t.packer.Classification, t.packer.NextSentence = t.objective.Classification, t.objective.NSP
	t.staging = newValues(opt.Device.Info().Float, t.model.Parameters().Len())
	t.optim, err = newAdamW(opt.Device, t.model, cfg.Optimizer, cfg.Train.ClipNorm)
	return t, err
}

// openLogs opens the line files where the state says they end.
func (t *trainer) openLogs(at logSizes) error {
	var err error
	if t.metrics, err = openLines(t.d, filepath.Join(t.opt.Out, metricsName), at.Metrics); err != nil {
		return err
	}
	if t.cfg.Sift.Log {
		if t.selection, err = openLines(t.d, filepath.Join(t.opt.Out, selectionName), at.Selection); err != nil {
			return err
		}
		t.selected = at.Selection
	}
	// They may be new, and a synchronised file without a name is lost.
	if err := t.d.SyncDir(t.opt.Out); err != nil {
		return diskError(fault.IO, t.opt.Out, err)
	}
	return nil
}

// newStepper allocates the memory of all steps. Open the logs first: one of them
// receives the selections.
func (t *trainer) newStepper() error {
	options := t.rule.sift
	options.Order = fmt.Sprintf("seed %d of %.16s", t.cfg.Train.Seed, t.in.hashes.Train)
	if t.selection != nil {
		options.Record = sifting.NewRecorder(t.selection)
	}
	if t.cfg.Sift.Replay != "" {
		f, err := os.Open(t.cfg.Sift.Replay)
		if err != nil {
			return diskError(fault.Missing, t.cfg.Sift.Replay, err)
		}
		defer f.Close()
		if options.Replay, err = sifting.ReadReplay(f, t.cfg.Sift.Replay); err != nil {
			return err
		}
		if u, micro, ok := t.rule.uncovered(options.Replay, t.plan.updates); ok {
			return fault.New(fault.Data, "%s: update %d, micro-batch %d: not recorded; this run has %d updates",
				t.cfg.Sift.Replay, u, micro, t.plan.updates)
		}
	}
	var err error
	if t.stepper, err = sifting.NewStepper(t.model, options); err != nil {
		return err
	}
	_, queued := t.opt.Device.(backend.Queued)
	// With a loss scale the host decides whether an update is applied.
	t.defers = queued && !t.scale.scaled()
	t.optim.guard = t.defers
	if t.defers && t.stepper.Beside() {
		t.optim.readFirst(options.ExitLayer)
	}
	return nil
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
		every := t.cfg.Train.SaveEvery
		stop, save := ctx.Err() != nil, every > 0 && t.update > 0 && t.update%every == 0
		if stop || save || t.evaluationDue() || t.done() {
			if err := t.land(); err != nil {
				return t.failed(err)
			}
		}
		if stop {
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
		if done := t.done(); done || save {
			err := t.save()
			if fault.KindOf(err) == fault.Diverged {
				return t.failed(err)
			}
			if err != nil || done {
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
	if fault.KindOf(err) == fault.Diverged && !t.spoiled {
		if saveErr := t.save(); saveErr != nil && t.saved < 0 && fault.KindOf(saveErr) != fault.Diverged {
			last = "no checkpoint was written, since the state before it could not be saved: " + saveErr.Error()
		}
	}
	if t.saved >= 0 {
		last = "the last good checkpoint is " + filepath.Join(checkpointDir, checkpointName(t.saved))
	}
	return &fault.Error{Kind: fault.KindOf(err), Cause: err,
		Text: fmt.Sprintf("%s: update %d: %v; %s", t.opt.Out, t.update+1, err, last)}
}

// remaining is the training time left at the pace of this sitting.
func (t *trainer) remaining() time.Duration {
	drawn := t.position - t.sitting.position
	if drawn == 0 {
		return 0
	}
	each := (t.totals.TrainSeconds - t.sitting.seconds) / float64(drawn)
	return time.Duration(each * float64(t.plan.drawn-t.position) * float64(time.Second))
}
