package train

import (
	"context"

	"sift/bert"
	"sift/config"
	"sift/sifting"
)

// Forecast is what a run comes to before anything of it is computed.
type Forecast struct {
	Task       string      `json:"task"`
	Model      bert.Config `json:"model"`
	Parameters int         `json:"parameters"`
	Trainable  int         `json:"trainable_parameters"`

	Lengths    string  `json:"lengths"`     // of sequences: from "data", from a "sample" of it, or "expected"
	Why        string  `json:"lengths_why"` // not all data was read; empty if all was
	Examples   int     `json:"examples"`    // of an epoch; 0: unknown
	Validated  int     `json:"validation_examples"`
	MeanTokens float64 `json:"mean_tokens"` // of an example
	MeanLabels float64 `json:"mean_labels"` // masked tokens of an example

	Updates          int     `json:"updates"`           // 0: epochs cannot be counted without data
	SelectingUpdates int     `json:"selecting_updates"` // of these
	Warmup           int     `json:"warmup_updates"`
	Epochs           float64 `json:"epochs"` // 0: unknown
	SamplesDrawn     int     `json:"samples_drawn"`
	SamplesBackprop  int     `json:"samples_backpropagated"`
	TokensDrawn      float64 `json:"tokens_drawn"`
	TokensBackprop   float64 `json:"tokens_backpropagated"`
	FLOPs            float64 `json:"flops"`       // of the run, what is back-propagated
	ScoreFLOPs       float64 `json:"score_flops"` // of the run, scoring beside that, as sift.reuse says

	Plain     UpdateForecast  `json:"update"`           // one that does not select
	Selecting *UpdateForecast `json:"selecting_update"` // one that does; null without sift.score

	Evaluations     int     `json:"evaluations"`
	ValidationFLOPs float64 `json:"validation_flops"` // of all evaluations, which are off the training clock

	Limits bert.Limits    `json:"micro_batch"` // the largest, that memory is sized for
	Memory MemoryForecast `json:"memory"`

	objective bert.Objective // these are for Measure
	sift      sifting.Options
	sizes     []exampleSize
}

// UpdateForecast is one whole update. Operations are counted as bert.Config.StepFLOPs does.
type UpdateForecast struct {
	Drawn       int     `json:"drawn"` // sequences
	Kept        int     `json:"kept"`
	TokensDrawn float64 `json:"tokens_drawn"`
	TokensKept  float64 `json:"tokens_kept"`
	FLOPs       float64 `json:"flops"`             // of what is back-propagated
	ScoreFLOPs  float64 `json:"score_flops"`       // of scoring beside that, as sift.reuse says
	ScoreReuse  float64 `json:"score_flops_reuse"` // the same with the prefix reused
	ScoreNaive  float64 `json:"score_flops_naive"` // and in a pass of its own
}

// Seconds returns the time of training and of validation at a rate in GFLOP/s.
func (f *Forecast) Seconds(gflops float64) (training, validation float64) {
	return (f.FLOPs + f.ScoreFLOPs) / gflops / 1e9, f.ValidationFLOPs / gflops / 1e9
}

// NewForecast says what a run of cfg comes to. It allocates no memory of the model's size.
//
// Lengths of sequences are those of the data where all of it is there (of a part, if there
// is much), else expected ones. Which sequences a selection will keep depends on the model.
// Those of a masked LM are taken to be kept with the probabilities of chancesOfMeans or,
// where a score is a sum over labels, to be those with most labels; those of a classifier
// and of a random selection to be as long as the drawn ones on average.
func NewForecast(ctx context.Context, cfg config.Config) (*Forecast, error) {
	validate := cfg.Validate
	switch {
	case len(cfg.Data.Train) == 0:
	case cfg.Task.Name == "classification":
		validate = cfg.ValidateFinetune
	default:
		validate = cfg.ValidatePretrain
	}
	if err := validate(); err != nil {
		return nil, err
	}
	p, err := readPopulation(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.forecast(cfg)
}

func (p *population) forecast(cfg config.Config) (*Forecast, error) {
	params, err := bert.Params(p.model)
	if err != nil {
		return nil, err
	}
	f := &Forecast{Task: cfg.Task.Name, Model: p.model, Lengths: p.lengths, Why: p.why, Examples: p.size, Validated: p.valids}
	for _, x := range params {
		f.Parameters += x.Len()
	}
	counted := cfg
	size := p.size
	if size == 0 {
		if size = p.samples.Len(); cfg.Train.Updates == 0 {
			counted.Train.Updates, counted.Train.Epochs = 1, 0 // as many as are known
		}
	}
	rule, err := newCounting(counted, size)
	if err != nil {
		return nil, err
	}
	if err := rule.sift.Validate(p.model, p.objective); err != nil {
		return nil, err
	}
	plan, err := rule.newPlan(counted, p.samples.length, p.samples.longest())
	if err != nil {
		return nil, err
	}
	w := &walk{p: p, rule: rule, ops: newOperations(p.model, p.objective, rule.sift), f: f}
	if cfg.Train.Updates > 0 || p.size > 0 {
		f.Updates, f.SamplesDrawn, f.SamplesBackprop = plan.updates, plan.drawn, plan.kept
		f.Warmup = newSchedule(cfg.Optimizer, plan.updates).warmup
	}
	if err := w.examine(); err != nil {
		return nil, err
	}
	f.Plain, f.Selecting = w.updates(cfg.Sift.Reuse)
	w.add(cfg)
	f.objective, f.sift, f.sizes = p.objective, rule.sift, w.sizes
	f.Limits = batchLimits(plan, p.samples, p.held)
	f.Memory, f.Trainable, err = forecastMemory(cfg, p.model, p.objective, rule.sift, f.Limits)
	return f, err
}
