// Package train runs the loop around the sifted step: data order, counting, schedules,
// AdamW, validation, checkpoints that a run continues from bit for bit, and the run
// directory.
package train

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/onnx"
)

// RunOptions are what a run needs beside its configuration.
type RunOptions struct {
	Out      string         // the run directory
	Resume   bool           // continue the run in Out
	Device   backend.Device // opened by the caller, who closes it
	Version  string         // of the program, written into checkpoints
	Progress func(Event)    // optional
	// Verify, if given, is called with the finished model file under a temporary name and
	// the classifier it must agree with; an error keeps the file from getting its final
	// name. certificate is where a certificate may be written.
	Verify func(ctx context.Context, model string, c *Trained, certificate string) error

	disk           disk // nil: the operating system's
	growthInterval int  // of the loss scale; 0: growthInterval
}

// Finetune trains a classifier as cfg says and leaves everything in opt.Out.
//
// Errors: fault.Config, Data, Missing for the inputs (nothing is left behind then),
// CannotWrite if opt.Out is already a run or another process works on it, IO, Device;
// Interrupted when ctx was cancelled: the update under way was finished and a checkpoint
// written; Diverged when a loss or gradient norm was not finite, with
// train.precision f16 at a loss scale of 1: that update was not applied.
func Finetune(ctx context.Context, cfg config.Config, opt RunOptions) (*Summary, error) {
	if err := cfg.ValidateFinetune(); err != nil {
		return nil, err
	}
	return start(ctx, cfg, opt)
}

// start reads the inputs of a run whose configuration is legal, and runs it.
func start(ctx context.Context, cfg config.Config, opt RunOptions) (*Summary, error) {
	if opt.Out == "" {
		return nil, fault.New(fault.Usage, "--out: not set: must be a directory for the run")
	}
	if opt.Resume {
		before, err := readRunConfig(opt.Out)
		if err != nil {
			return nil, err
		}
		if err := checkConflicts(opt.Out, before, cfg); err != nil {
			return nil, err
		}
	} else if err := checkNew(opt.Out); err != nil {
		return nil, err
	}
	cfg, text, err := resolvedText(cfg)
	if err != nil {
		return nil, err
	}
	var in *material
	if cfg.Task.Name == "mlm" {
		in, err = readText(ctx, cfg)
	} else {
		in, err = readInputs(cfg)
	}
	if err != nil {
		return nil, err
	}
	defer in.text.close()
	in.configText, in.export = text, true
	return execute(ctx, cfg, opt, in)
}

// execute makes a run whose inputs are read.
func execute(ctx context.Context, cfg config.Config, opt RunOptions, in *material) (*Summary, error) {
	if opt.disk == nil {
		opt.disk = osDisk{}
	}
	t, err := newTrainer(cfg, opt, opt.disk, in)
	if t != nil {
		defer t.close()
	}
	if err != nil {
		return nil, err
	}
	_, statErr := os.Stat(opt.Out)
	existed := statErr == nil
	if !existed {
		if err := opt.disk.Mkdir(opt.Out); err != nil {
			return nil, diskError(fault.CannotWrite, opt.Out, err)
		}
	}
	lock, err := lockRun(opt.Out)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := t.begin(); err != nil {
		if !opt.Resume && !errors.Is(err, errNotOurs) {
			discardNew(opt.Out, existed)
		}
		return nil, err
	}
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	return t.finish(ctx)
}

// errNotOurs marks the error of finding another run in the directory after all.
var errNotOurs = errors.New("not this process's run")

// begin makes the directory, or takes over the newest whole checkpoint in it.
func (t *trainer) begin() error {
	dir := filepath.Join(t.opt.Out, checkpointDir)
	var at logSizes
	if t.opt.Resume {
		if err := sweep(t.d, dir); err != nil {
			return err
		}
		c, damaged, err := newest(t.d, dir, t.notice)
		if err != nil {
			return err
		}
		if c != nil {
			defer c.Close()
			if err := t.takeOver(c, damaged); err != nil {
				return err
			}
			at = c.Logs
		} else {
			t.notice(t.opt.Out + ": no checkpoint yet; starting from the beginning")
		}
	} else if err := checkNew(t.opt.Out); err != nil {
		return &fault.Error{Kind: fault.KindOf(err), Text: err.Error(), Cause: errNotOurs}
	}
	// On resuming too: the keys that may change are recorded, and a directory that a crash
	// left half made is completed.
	if err := makeRun(t.d, t.opt.Out, t.in, t.opt.Device, t.cfg.Train.Precision); err != nil {
		return err
	}
	if err := t.openLogs(at); err != nil {
		return err
	}
	if err := t.newStepper(); err != nil {
		return err
	}
	for _, text := range t.in.notices {
		t.notice(text)
	}
	p := &Planned{
		Updates: t.plan.updates, Epochs: float64(t.plan.drawn) / float64(t.rule.size), Drawn: t.plan.drawn, Kept: t.plan.kept,
		Done: t.update, Examples: t.samples.Len(), Tokens: t.samples.tokens(), Labels: t.in.labels,
		MemoryBytes: deviceBytes(t.model, t.opt.Device),
	}
	if t.in.train != nil {
		p.Cut = t.in.train.Truncated
	} else {
		p.Documents, p.Held, p.Pairs = t.in.text.documents, t.in.text.heldDocuments, t.in.text.next
	}
	if t.held != nil {
		p.Validated = t.held.Len()
	}
	t.notify(p)
	return nil
}

// takeOver continues from c. Damaged newer checkpoints are set aside under another
// name, so that they do not count as generations.
func (t *trainer) takeOver(c *checkpoint, damaged []string) error {
	before, err := parseConfig(c.path, []byte(c.Config))
	if err != nil {
		return err
	}
	if err := checkConflicts(t.opt.Out, before, t.cfg); err != nil {
		return err
	}
	if err := checkResume(c, t.in, t.cfg); err != nil {
		return err
	}
	notice, err := c.Device.check(recordDevice(t.opt.Device), c.path, before.Device.Name)
	if err != nil {
		return err
	}
	if notice != "" {
		t.notice(notice)
	}
	for _, path := range damaged {
		if err := t.d.Rename(path, path+".damaged"); err != nil {
			return diskError(fault.IO, path, err)
		}
	}
	return t.restore(c)
}

// finish exports the best weights, or the last where nothing was evaluated, and writes
// the summary.
func (t *trainer) finish(ctx context.Context) (*Summary, error) {
	s := &Summary{
		Kind: "summary", Run: t.opt.Out, Updates: t.update, Planned: t.plan.updates,
		Epochs: float64(t.position) / float64(t.rule.size), SamplesDrawn: t.position, SamplesBackprop: t.totals.Backprop,
		TokensDrawn: t.totals.TokensDrawn, TokensBackprop: t.totals.TokensBackprop, FinalLoss: t.totals.LastLoss,
		FLOPs: t.totals.FLOPs, ScoreFLOPs: t.totals.ScoreFLOPs,
		Metric: t.cfg.Task.Metric, BestUpdate: t.progress.BestAt, Best: t.progress.Best, Last: t.progress.Last,
		StoppedEarly: t.update < t.plan.updates, TrainSeconds: t.totals.TrainSeconds, ScoreSeconds: t.totals.ScoreSeconds,
		EvaluateSeconds: t.totals.EvaluateSeconds,
	}
	if t.scale.scaled() {
		s.LossScale, s.SkippedUpdates = t.scale.Factor, t.scale.Skipped
	}
	source := checkpointName(t.update)
	if t.progress.BestAt > 0 {
		source = bestName
	}
	s.Checkpoint = filepath.Join(checkpointDir, source)
	c, err := openCheckpoint(t.d, filepath.Join(t.opt.Out, s.Checkpoint))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	w, err := c.weights()
	if err != nil {
		return nil, err
	}
	if t.in.export {
		if err := t.export(ctx, c, w); err != nil {
			return nil, err
		}
		s.Model = filepath.Join(modelDir, modelName)
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fault.New(fault.Internal, "%s: %w", summaryName, err)
	}
	if err := writeFile(t.d, filepath.Join(t.opt.Out, summaryName), append(data, '\n')); err != nil {
		return nil, err
	}
	if err := t.metrics.write(s); err != nil {
		return nil, err
	}
	return s, t.metrics.sync()
}

// export writes the model aside, has it verified, and only then gives it its name.
func (t *trainer) export(ctx context.Context, c *checkpoint, w bert.Weights) error {
	aside := filepath.Join(t.opt.Out, ".export")
	if err := os.RemoveAll(aside); err != nil { // left by a crash
		return diskError(fault.IO, aside, err)
	}
	defer os.RemoveAll(aside)
	if err := t.d.Mkdir(aside); err != nil {
		return diskError(fault.CannotWrite, aside, err)
	}
	trained := &Trained{
		Path: t.opt.Out, Run: t.opt.Out, Import: t.cfg.Model.Path, Labels: t.in.labels, Task: t.cfg.Task,
		Update: c.Update, Source: c.path, Config: t.in.model, Weights: w, Tokenizer: t.in.tokenizer,
	}
	changes, err := trained.Export(filepath.Join(aside, modelName), onnx.BuildOptions{Version: t.opt.Version})
	if err != nil {
		return err
	}
	files := append(changes.DataFiles, modelName) // the model last: it refers to the others
	cert := filepath.Join(aside, certificate)
	if t.opt.Verify != nil {
		if err := t.opt.Verify(ctx, filepath.Join(aside, modelName), trained, cert); err != nil {
			if ctx.Err() != nil {
				return fault.New(fault.Interrupted, "%s: interrupted while the export was verified; continue with --resume", t.opt.Out)
			}
			return err
		}
	}
	for _, name := range files {
		to := filepath.Join(t.opt.Out, modelDir, filepath.Base(name))
		if err := t.d.Rename(filepath.Join(aside, filepath.Base(name)), to); err != nil {
			return diskError(fault.IO, to, err)
		}
	}
	if _, err := os.Stat(cert); err == nil {
		to := filepath.Join(t.opt.Out, certificate)
		if err := t.d.Rename(cert, to); err != nil {
			return diskError(fault.IO, to, err)
		}
	}
	if err := t.d.SyncDir(filepath.Join(t.opt.Out, modelDir)); err != nil {
		return diskError(fault.IO, t.opt.Out, err)
	}
	return nil
}

// RunConfig reads the resolved configuration of the run in dir, from which a resumed
// run starts.
func RunConfig(dir string) (config.Config, error) { return readRunConfig(dir) }
