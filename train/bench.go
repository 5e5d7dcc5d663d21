package train

import (
	"cmp"
	"context"
	"time"

	"sift/backend"
	"sift/backend/philox"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/sifting"
)

// BenchOptions describe a training step to time: masked LM with next sentence, fresh
// weights, Seqs random sequences of Length tokens back-propagated, 15% of the tokens
// labelled, AdamW with clipping.
type BenchOptions struct {
	Device backend.Device
	Model  bert.Config
	Seqs   int // back-propagated; Sift.Keep decides how many are drawn
	Length int
	Sift   sifting.Options
	Warmup int // steps before the clock counts
	Runs   int
	Seed   uint64
	// Profile runs the steps once more, after those that are timed, with the time of each
	// kernel taken. The device must be a backend.Profiler.
	Profile bool
}

// BenchResult is what the steps took. FLOPs are the necessary ones of the part that is
// back-propagated (bert.Config.StepFLOPs), without scoring.
type BenchResult struct {
	StepSeconds, ScoreSeconds, OptimizerSeconds []float64 // one a run, each waited for
	// QueuedSeconds are steps as a run makes them on a device that queues: each is enqueued
	// before what the last reports is waited for. Nil on other devices.
	QueuedSeconds                    []float64
	Drawn, Kept, DrawnRows, KeptRows int
	FLOPs                            float64
	Parameters                       int
	DeviceBytes                      int64 // parameters, gradients, workspaces and moments
	Profile                          *StepProfile
}

// StepProfile is where the time of Steps whole steps went, which took Seconds together.
// Waiting overlaps with the kernels that are waited for.
type StepProfile struct {
	backend.Profile
	Steps   int
	Seconds float64
}

// BenchStep times whole training steps.
func BenchStep(ctx context.Context, o BenchOptions) (*BenchResult, error) {
	profiler, ok := o.Device.(backend.Profiler)
	if o.Profile && !ok {
		return nil, fault.New(fault.Usage, "--profile: device %s does not time its kernels; vulkan and cuda do", o.Device.Info().Name)
	}
	o.Sift.MicroBatch = o.Seqs
	draw := o.Sift.MaxDraw()
	labelled := max(1, o.Length*15/100)
	limits := bert.Limits{Rows: draw * o.Length, Seqs: draw, MaxLen: o.Length, Labelled: draw * labelled}
	model, err := bert.NewModel(o.Device, o.Model, limits)
	if err != nil {
		return nil, err
	}
	defer model.Free()
	objective := bert.Objective{MLM: true, NSP: true}
	if err := model.SetObjective(objective); err != nil {
		return nil, err
	}
	if err := o.Sift.Validate(o.Model, objective); err != nil {
		return nil, err
	}
	if err := model.Init(o.Seed); err != nil {
		return nil, err
	}
	stepper, err := sifting.NewStepper(model, o.Sift)
	if err != nil {
		return nil, err
	}
	defer stepper.Free()
	optim, err := newAdamW(o.Device, model, config.Default().Optimizer, 1)
	if err != nil {
		return nil, err
	}
	defer optim.free()

	r := &BenchResult{DeviceBytes: deviceBytes(model, o.Device)}
	for _, p := range model.Params() {
		r.Parameters += p.Len()
	}
	packer := bert.NewPacker(limits)
	packer.NextSentence = true
	b := &stepBench{o: o, model: model, stepper: stepper, optim: optim, packer: packer, drawn: draw, labelled: labelled}
	for i := range o.Warmup + o.Runs {
		timed := r
		if i < o.Warmup {
			timed = &BenchResult{}
		}
		if err := b.step(ctx, timed); err != nil {
			return nil, err
		}
	}
	if _, ok := o.Device.(backend.Queued); ok {
		if r.QueuedSeconds, err = b.queued(ctx, o.Runs); err != nil {
			return nil, err
		}
	}
	if !o.Profile {
		return r, nil
	}
	if err := profiler.StartProfile(); err != nil {
		return nil, err
	}
	profiled := &BenchResult{}
	for range o.Runs {
		if err := b.step(ctx, profiled); err != nil {
			return nil, err
		}
	}
	r.Profile = &StepProfile{Steps: o.Runs}
	for _, s := range profiled.StepSeconds {
		r.Profile.Seconds += s
	}
	r.Profile.Profile, err = profiler.StopProfile()
	return r, err
}

// stepBench makes steps of random data.
type stepBench struct {
	o               BenchOptions
	model           *bert.Model
	stepper         *sifting.Stepper
	optim           *adamW
	packer          *bert.Packer
	drawn, labelled int
	made            int // steps
}

// next packs the batch of the next step.
func (b *stepBench) next(ctx context.Context) (sifting.StepArgs, error) {
	if ctx.Err() != nil {
		return sifting.StepArgs{}, fault.New(fault.Interrupted, "bench step: interrupted")
	}
	randomBatch(b.packer, b.o, b.drawn, b.labelled, uint64(b.made))
	a := sifting.StepArgs{Update: b.made, Select: b.o.Sift.Selects(b.made), Seed: b.o.Seed}
	b.made++
	return a, nil
}

// step makes a step, waits for it and adds its times to r.
func (b *stepBench) step(ctx context.Context, r *BenchResult) error {
	a, err := b.next(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	step, err := b.stepper.Step(b.packer.Batch(), a)
	if err != nil {
		return err
	}
	backward := time.Now()
	b.optim.measure()
	if _, err := b.optim.norm(); err != nil {
		return err
	}
	if err := b.optim.step(1e-4, b.made, 1, nil); err != nil {
		return err
	}
	if err := b.model.Stream().Sync(); err != nil {
		return err
	}
	r.StepSeconds = append(r.StepSeconds, time.Since(start).Seconds())
	r.ScoreSeconds = append(r.ScoreSeconds, step.ScoreTime.Seconds())
	r.OptimizerSeconds = append(r.OptimizerSeconds, time.Since(backward).Seconds())
	r.Drawn, r.Kept, r.DrawnRows, r.KeptRows = step.Drawn, step.Kept, step.DrawnRows, step.KeptRows
	kept := &bert.Batch{}
	b.packer.Batch().Select(kept, step.KeptIndex, nil)
	r.FLOPs = b.o.Model.StepFLOPs(kept)
	return nil
}

// queued makes one step more than n, as trainer does on a device that queues, and returns the times
// between their reports.
func (b *stepBench) queued(ctx context.Context, n int) ([]float64, error) {
	b.optim.guard = true
	if b.stepper.Beside() {
		b.optim.readFirst(b.o.Sift.ExitLayer)
	}
	a, err := b.next(ctx)
	if err != nil {
		return nil, err
	}
	var seconds []float64
	var last time.Time
	for i := range n + 1 {
		flight, err := b.stepper.Start(b.packer.Batch(), a)
		if err != nil {
			return nil, err
		}
		b.optim.measure()
		step := b.made
		if i < n {
			if a, err = b.next(ctx); err != nil {
				return nil, err
			}
		}
		var scored error
		err = b.optim.step(1e-4, step, 1, func() {
			if i < n {
				scored = b.stepper.Score(b.packer.Batch(), a)
			}
		})
		if err := cmp.Or(err, scored); err != nil {
			return nil, err
		}
		if _, err := flight.Wait(); err != nil {
			return nil, err
		}
		if _, err := b.optim.norm(); err != nil {
			return nil, err
		}
		now := time.Now()
		if i > 0 {
			seconds = append(seconds, now.Sub(last).Seconds())
		}
		last = now
	}
	return seconds, b.model.Stream().Sync()
}

// randomBatch packs sequences of random tokens, the first tokens of each labelled.
func randomBatch(p *bert.Packer, o BenchOptions, seqs, labelled int, step uint64) {
	p.Reset()
	ids, labels := make([]int32, o.Length), make([]int32, o.Length)
	for s := range seqs {
		for i := range ids {
			w := philox.Block(philox.Key(o.Seed), [4]uint32{uint32(i), uint32(s), uint32(step), 1})
			ids[i] = int32(w[0] % uint32(o.Model.Vocab))
			labels[i] = bert.NoLabel
			if i < labelled {
				labels[i] = int32(w[1] % uint32(o.Model.Vocab))
			}
		}
		// The sequence fits the limits it was made for, so there is no error to look at.
		_ = p.AddSequence(bert.Sequence{IDs: ids, MLMLabels: labels, NSP: int32(s & 1), SampleID: step*uint64(seqs) + uint64(s)})
	}
}
