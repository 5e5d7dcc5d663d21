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

// Measurement is how long updates take, by a few micro-batches of each kind.
type Measurement struct {
	PlainSeconds     float64 `json:"update_seconds"`           // of one that does not select
	SelectingSeconds float64 `json:"selecting_update_seconds"` // of one that does; 0 without sift.score
	GFLOPS           float64 `json:"gflops"`                   // of the run at this pace, scoring included
}

// Measure times micro-batches of random tokens, as long as the forecast has them, on a
// device, with fresh weights: one as a warm-up, then until there are three or ten seconds
// are over. The run's memory is allocated, and it is an error if the device has less.
func (f *Forecast) Measure(ctx context.Context, cfg config.Config, dev backend.Device) (*Measurement, error) {
	if have := dev.Info().MemoryBytes; have > 0 && f.Memory.Total > have {
		return nil, fault.New(fault.Device, "the run needs %.1f GB of memory, %s has %.1f GB", float64(f.Memory.Total)/1e9, dev.Info().Name, float64(have)/1e9)
	}
	model, err := bert.NewModel(dev, f.Model, f.Limits)
	if err != nil {
		return nil, err
	}
	defer model.Free()
	frozen, err := cfg.Train.FrozenLayers(f.Model.Layers)
	if err != nil {
		return nil, err
	}
	if err := model.SetObjective(f.objective); err != nil {
		return nil, err
	}
	if err := model.FreezeLayers(frozen); err != nil {
		return nil, err
	}
	if err := model.Init(cfg.Train.Seed); err != nil {
		return nil, err
	}
	stepper, err := sifting.NewStepper(model, f.sift)
	if err != nil {
		return nil, err
	}
	optim, err := newAdamW(dev, model, cfg.Optimizer, cfg.Train.ClipNorm)
	if err != nil {
		return nil, err
	}
	defer optim.free()
	b := &bench{f: f, model: model, stepper: stepper, optim: optim, packer: bert.NewPacker(f.Limits)}
	b.packer.NextSentence, b.packer.Classification = f.objective.NSP, f.objective.Classification
	m := &Measurement{}
	if m.PlainSeconds, err = b.update(ctx, f.Plain.Drawn, cfg.Train.Accumulate, false); err != nil {
		return nil, err
	}
	flops, seconds := f.Plain.FLOPs, m.PlainSeconds
	if f.Selecting != nil {
		if m.SelectingSeconds, err = b.update(ctx, f.Selecting.Drawn, cfg.Train.Accumulate, true); err != nil {
			return nil, err
		}
		flops, seconds = f.Selecting.FLOPs+f.Selecting.ScoreFLOPs, m.SelectingSeconds
		if plain := float64(f.Updates - f.SelectingUpdates); f.Updates > 0 {
			flops = flops*float64(f.SelectingUpdates) + f.Plain.FLOPs*plain
			seconds = seconds*float64(f.SelectingUpdates) + m.PlainSeconds*plain
		}
	}
	m.GFLOPS = flops / seconds / 1e9
	return m, nil
}

// bench is the memory of a measurement.
type bench struct {
	f       *Forecast
	model   *bert.Model
	stepper *sifting.Stepper
	optim   *adamW
	packer  *bert.Packer
	step    int
	at      int // next of the forecast's sizes
}

// update returns the seconds of an update that draws so many sequences in accumulate
// micro-batches, by the mean of some micro-batches and of the optimiser's steps after them.
func (b *bench) update(ctx context.Context, drawn, accumulate int, selecting bool) (float64, error) {
	var micro, optimiser float64
	n := 0
	begin := time.Now()
	for warm := false; n < 3 && (n == 0 || time.Since(begin) < 10*time.Second); warm = true {
		if ctx.Err() != nil {
			return 0, fault.New(fault.Interrupted, "measuring was interrupted")
		}
		if err := b.fill(min(b.f.Limits.Seqs, (drawn+accumulate-1)/accumulate)); err != nil {
			return 0, err
		}
		b.step++
		start := time.Now()
		_, err := b.stepper.Step(b.packer.Batch(), sifting.StepArgs{Update: b.step, Select: selecting, Seed: 1, GradScale: 1 / float64(accumulate)})
		if err != nil {
			return 0, err
		}
		middle := time.Now()
		b.optim.measure()
		if _, err := b.optim.norm(); err != nil {
			return 0, err
		}
		if err := b.optim.step(1e-6, b.step, 1, nil); err != nil {
			return 0, err
		}
		if err := b.model.Stream().Sync(); err != nil {
			return 0, err
		}
		if !warm {
			continue
		}
		n++
		micro += middle.Sub(start).Seconds()
		optimiser += time.Since(middle).Seconds()
	}
	return (micro*float64(accumulate) + optimiser) / float64(n), nil
}

// fill packs n sequences of random tokens.
func (b *bench) fill(n int) error {
	b.packer.Reset()
	for s := range n {
		x := b.f.sizes[b.at%len(b.f.sizes)]
		b.at++
		q := bert.Sequence{IDs: make([]int32, x.tokens), SampleID: uint64(b.at)}
		if b.f.objective.MLM {
			q.MLMLabels = make([]int32, x.tokens)
		}
		for i := range q.IDs {
			w := philox.Block(philox.Key(1), [4]uint32{uint32(i), uint32(s), uint32(b.step), 0})
			q.IDs[i] = int32(w[0] % uint32(b.f.Model.Vocab))
			if b.f.objective.MLM {
				if q.MLMLabels[i] = bert.NoLabel; i < x.labels {
					q.MLMLabels[i] = int32(w[1] % uint32(b.f.Model.Vocab))
				}
			}
		}
		if b.f.objective.NSP {
			q.NSP = int32(s & 1)
		}
		if b.f.objective.Classification {
			q.Label = int32(s % b.f.Model.Classes)
		}
		if err := b.packer.AddSequence(q); err != nil {
			return err
		}
	}
	return nil
}
