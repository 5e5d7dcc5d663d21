package train

import (
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
	StepSeconds, ScoreSeconds, OptimizerSeconds []float64 // one a run
	Drawn, Kept, DrawnRows, KeptRows            int
	FLOPs                                       float64
	Parameters                                  int
	DeviceBytes                                 int64 // parameters, gradients, workspaces and moments
	Profile                                     *StepProfile
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
		return nil, fault.New(fault.Usage, "--profile: device %s does not time its kernels; vulkan does", o.Device.Info().Name)
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
	steps := o.Warmup + o.Runs
	if o.Profile {
		steps += o.Runs
		r.Profile = &StepProfile{Steps: o.Runs}
	}
	for i := range steps {
		if ctx.Err() != nil {
			return nil, fault.New(fault.Interrupted, "bench step: interrupted")
		}
		profiled := i >= o.Warmup+o.Runs
		if profiled && i == o.Warmup+o.Runs {
			if err := profiler.StartProfile(); err != nil {
				return nil, err
			}
		}
		randomBatch(packer, o, draw, labelled, uint64(i))
		start := time.Now()
		step, err := stepper.Step(packer.Batch(), sifting.StepArgs{Update: i, Select: o.Sift.Selects(i), Seed: o.Seed})
		if err != nil {
			return nil, err
		}
		backward := time.Now()
		optim.measure()
		if _, err := optim.norm(); err != nil {
			return nil, err
		}
		if err := optim.step(1e-4, i+1, 1, nil); err != nil {
			return nil, err
		}
		if err := model.Stream().Sync(); err != nil {
			return nil, err
		}
		if profiled {
			r.Profile.Seconds += time.Since(start).Seconds()
			continue
		}
		if i < o.Warmup {
			continue
		}
		r.StepSeconds = append(r.StepSeconds, time.Since(start).Seconds())
		r.ScoreSeconds = append(r.ScoreSeconds, step.ScoreTime.Seconds())
		r.OptimizerSeconds = append(r.OptimizerSeconds, time.Since(backward).Seconds())
		r.Drawn, r.Kept, r.DrawnRows, r.KeptRows = step.Drawn, step.Kept, step.DrawnRows, step.KeptRows
		kept := &bert.Batch{}
		packer.Batch().Select(kept, step.KeptIndex, nil)
		r.FLOPs = o.Model.StepFLOPs(kept)
	}
	if o.Profile {
		if r.Profile.Profile, err = profiler.StopProfile(); err != nil {
			return nil, err
		}
	}
	return r, nil
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
