package train

import (
	"context"
	"math"
	"time"

	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/text"
)

// EvaluateText measures a masked LM on running text or prepared data. The examples are
// made as in training, the masks are the same every time.
func (c *Trained) EvaluateText(ctx context.Context, paths config.Paths, opt ReadOptions) (*Evaluation, error) {
	start := time.Now()
	if !c.MaskedLM() {
		return nil, fault.New(fault.Data, "%s: is a classifier, not a masked LM", c.Path)
	}
	if err := checkLength(opt.Task, c.Config); err != nil {
		return nil, err
	}
	corpus, err := openCorpus(ctx, c.Tokenizer, paths)
	if err != nil {
		return nil, err
	}
	defer corpus.Close()
	if opt.Notice != nil {
		for _, note := range corpus.Notes {
			opt.Notice(note)
		}
	}
	p, err := text.NewPretraining(c.Tokenizer, corpus, examplesOf(opt.Task, c.Data, validationSeed, true))
	if err != nil {
		return nil, fault.In(paths.String(), err)
	}
	size := opt.BatchSize
	if size <= 0 {
		size = 32
	}
	length, most := opt.Task.MaxLength, maskedOf(opt.Task.MaxLength, c.Data.MaskProbability)
	m, err := bert.NewModel(opt.Device, c.Config, bert.Limits{Rows: size * length, Seqs: size, MaxLen: length, Labelled: size * most})
	if err != nil {
		return nil, err
	}
	defer m.Free()
	if err := m.SetObjective(bert.Objective{MLM: true, NSP: c.Data.NextSentence}); err != nil {
		return nil, err
	}
	if err := m.SetWeights(c.Weights); err != nil {
		return nil, err
	}
	packer := bert.NewPacker(m.Limits())
	packer.NextSentence = c.Data.NextSentence
	h := &maskedHeldOut{p: p, running: &running{types: c.Config.TypeVocab > 1, next: c.Data.NextSentence, maxLength: length, most: most}}
	e, err := h.run(ctx, m, packer, func(e Event) {
		if opt.Progress != nil {
			opt.Progress(e)
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, fault.New(fault.Interrupted, "%s: interrupted", c.Path)
		}
		return nil, err
	}
	if !finite(e.Loss) {
		return nil, fault.New(fault.Data, "%s: the mean loss on %s is %v", c.Source, paths, e.Loss)
	}
	e.Seconds = time.Since(start).Seconds()
	return &e, nil
}

// examplesOf says how examples are made of running text.
func examplesOf(task config.Task, data config.Data, seed uint64, fixed bool) text.PretrainingOptions {
	return text.PretrainingOptions{
		MaxLength: task.MaxLength, NextSentence: data.NextSentence, ShortShare: data.ShortShare,
		MaskShare: data.MaskProbability, Replace: [3]float64(data.MaskReplace), Seed: seed, Fixed: fixed,
	}
}

// maskedOf is how many of n ordinary tokens are masked: of a sequence's longest, the most.
func maskedOf(n int, share float64) int { return max(1, int(math.Round(share*float64(n)))) }
