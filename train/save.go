package train

import (
	"path/filepath"

	"sift/backend"
	"sift/fault"
)

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
	if err := writeCheckpoint(t.d, path, t.header(), t.staging, sections, t.fetch); err != nil {
		return err
	}
	t.saved = t.update
	if err := prune(t.d, dir, t.cfg.Train.KeepCheckpoints); err != nil {
		return err
	}
	t.notify(&Saved{Update: t.update, Path: path})
	return nil
}

// fetch downloads a section into the staging buffer. A checkpoint is something to go
// back to, so numbers that are not finite are an error of kind fault.Diverged.
func (t *trainer) fetch(name string) error {
	if err := t.staging.download(t.opt.Device, t.section(name)); err != nil {
		return err
	}
	if !t.staging.finite() {
		what := map[string]string{"params": "the parameters", "m": "the first moments", "v": "the second moments"}[name]
		return fault.New(fault.Diverged, "%s are no longer finite", what)
	}
	return nil
}

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
	h := header{
		Program: t.opt.Version, Update: t.update, Position: t.position, Totals: t.totals, Progress: t.progress,
		Logs: logSizes{Metrics: t.metrics.size, Selection: t.selected}, Inputs: t.in.hashes, Config: t.in.configText,
		Device: recordDevice(t.opt.Device), Model: t.in.model, Labels: t.in.labels, Params: t.model.Params(),
	}
	if t.scale.scaled() {
		scale := t.scale
		h.Scale = &scale
	}
	return h
}

// sections of a checkpoint that a run continues from.
var sections = []string{"params", "m", "v"}

// restore takes over the state of a checkpoint.
func (t *trainer) restore(c *checkpoint) error {
	at := plan{}
	if c.Update > 0 && c.Update <= t.plan.updates {
		at = t.rule.simulate(c.Update, func(int) int { return 0 }, 0)
	}
	if at.updates != c.Update || at.drawn != c.Position {
		return fault.New(fault.Data, "%s: update %d at sample %d is not on this run's way", c.path, c.Update, c.Position)
	}
	if err := t.scale.restored(c.Scale, c.Update); err != nil {
		return fault.In(c.path, err)
	}
	for _, name := range sections {
		if err := c.read(name, t.staging); err != nil {
			return err
		}
		if err := t.staging.upload(t.opt.Device, t.section(name)); err != nil {
			return err
		}
	}
	t.model.Refresh()
	t.update, t.position, t.totals, t.progress = c.Update, c.Position, c.Totals, c.Progress
	t.saved = c.Update
	return nil
}
