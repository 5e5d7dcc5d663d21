package sifting

import (
	"math"
	"time"

	"sift/bert"
	"sift/fault"
)

// StepArgs place a micro-batch in the run.
type StepArgs struct {
	Update    int     // from 0
	Micro     int     // micro-batch of the update, from 0
	Select    bool    // Options.Selects(Update)
	Seed      uint64  // of dropout and random scores
	GradScale float64 // factor on the loss for its gradient: 1 / accumulate; 0 means 1
}

// Result is what a step did. Its slices are valid until the next step.
type Result struct {
	Drawn, Kept         int       // sequences
	DrawnRows, KeptRows int       // tokens
	KeptIndex           []int     // positions in the batch, ascending
	Scores              []float64 // of the drawn sequences; nil if the step did not select

	Scored     bool    // the exit head ran, so ScoredLoss is set
	ScoredLoss float64 // mean early loss of everything drawn

	// Of the kept sequences at the last layer. Loss is the sum of the other three.
	Loss, MLMLoss, NSPLoss, ClassLoss float64
	Correct, Count                    int // masked tokens, or sequences of a classification task
	NSPCorrect, NSPCount              int

	ScoreTime, StepTime time.Duration // StepTime includes ScoreTime

	// Necessary operations: FLOPs of the forward and backward pass over what was kept,
	// ScoreFLOPs of the rest. A prefix that was reused counts once, in FLOPs.
	FLOPs, ScoreFLOPs float64
}

// Stepper runs sifted steps of a model. It is used by one goroutine at a time.
type Stepper struct {
	m      *bert.Model
	opt    Options
	main   *bert.Workspace // the kept sequences, all layers, with gradients
	prefix *bert.Workspace // with reuse: the drawn sequences up to the exit layer

	compact  *bert.Batch // the kept sequences
	rows     []int32     // their rows in the drawn batch
	sequence []Scores
	scores   []float64
	order    []int
	kept     []int
	logits   []float32
}

// NewStepper allocates the memory of all later steps: a workspace for the kept
// sequences and, with reuse, one for the prefix of the drawn ones. Freeze and choose
// the objective of m before.
func NewStepper(m *bert.Model, opt Options) (*Stepper, error) {
	cfg, drawn := m.Config(), m.Limits()
	if err := opt.Validate(cfg, m.Objective()); err != nil {
		return nil, err
	}
	if opt.Replay != nil {
		if err := opt.Replay.Check(opt.Order); err != nil {
			return nil, err
		}
	}
	if opt.MicroBatch == 0 {
		opt.MicroBatch = drawn.Seqs
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	kept := drawn
	kept.Seqs = min(drawn.Seqs, opt.MicroBatch)
	kept.Rows = min(drawn.Rows, kept.Seqs*drawn.MaxLen)
	kept.Labelled = min(drawn.Labelled, kept.Rows)
	s := &Stepper{m: m, opt: opt, compact: bert.NewBatch(kept), rows: make([]int32, 0, kept.Rows),
		sequence: make([]Scores, 0, drawn.Seqs), scores: make([]float64, 0, drawn.Seqs),
		order: make([]int, 0, drawn.Seqs), kept: make([]int, 0, drawn.Seqs)}
	var err error
	if s.main, err = m.NewWorkspace(bert.WorkspaceOptions{Limits: kept, Layers: cfg.Layers, Grads: true}); err != nil {
		return nil, err
	}
	if opt.Reuse && (opt.Score == Loss || opt.Score == Entropy) {
		s.prefix, err = m.NewWorkspace(bert.WorkspaceOptions{Limits: drawn, Layers: opt.ExitLayer, Keep: true})
		if err != nil {
			s.main.Free()
			return nil, err
		}
	}
	return s, nil
}

// Free returns the stepper's memory to the device.
func (s *Stepper) Free() error {
	err := s.main.Free()
	if s.prefix != nil {
		if e := s.prefix.Free(); err == nil {
			err = e
		}
	}
	return err
}

// Options returns the stepper's options.
func (s *Stepper) Options() Options { return s.opt }

// Step adds the gradient of GradScale times the mean loss of the kept sequences of b to
// m.Grads(). An error of kind fault.Diverged says that all scores, or the loss, are not
// finite; gradients are then worthless.
func (s *Stepper) Step(b *bert.Batch, a StepArgs) (Result, error) {
	start := s.opt.Now()
	r := Result{Drawn: b.Seqs, DrawnRows: b.Rows}
	if err := carries(b, s.m.Objective()); err != nil {
		return r, err
	}
	mode := bert.Mode{Dropout: s.opt.Dropout, AttentionDropout: s.opt.AttentionDropout, Seed: a.Seed, Update: uint32(a.Update)}
	layers := s.m.Config().Layers
	ran := 0 // layers of the main workspace that need not run again
	batch := b
	s.kept = s.kept[:0]
	if a.Select && s.opt.Score != None {
		if err := s.score(b, mode, a, &r); err != nil {
			return r, err
		}
		r.Scores = s.scores
		if err := s.choose(b, a); err != nil {
			return r, err
		}
		s.rows = b.Select(s.compact, s.kept, s.rows)
		batch = s.compact
		r.ScoreTime = s.opt.Now().Sub(start)
		if r.Scored {
			r.ScoreFLOPs = s.m.Config().ScoreFLOPs(b, s.opt.ExitLayer, s.scored())
		}
	} else {
		for i := range b.Seqs {
			s.kept = append(s.kept, i)
		}
	}
	if err := s.main.Load(batch); err != nil {
		return r, err
	}
	if batch != b && s.prefix != nil {
		if err := s.main.Take(s.prefix, s.rows, s.opt.ExitLayer); err != nil {
			return r, err
		}
		ran = s.opt.ExitLayer
		r.ScoreFLOPs -= s.m.Config().ForwardFLOPs(batch, ran)
	} else {
		s.main.Embed(mode)
	}
	s.main.Encode(ran, layers)
	scale := a.GradScale
	if scale == 0 {
		scale = 1
	}
	if err := s.main.Heads(layers, s.m.Objective(), scale); err != nil {
		return r, err
	}
	if err := s.main.Backward(); err != nil {
		return r, err
	}
	l, err := s.m.Losses()
	if err != nil {
		return r, err
	}
	r.FLOPs = s.m.Config().StepFLOPs(batch)
	r.Kept, r.KeptRows, r.KeptIndex = batch.Seqs, batch.Rows, s.kept
	e := total(l, batch)
	r.Loss, r.MLMLoss, r.NSPLoss, r.ClassLoss = e.Loss, e.MLMLoss, e.NSPLoss, e.ClassLoss
	r.Correct, r.Count, r.NSPCorrect, r.NSPCount = e.Correct, e.Count, e.NSPCorrect, e.NSPCount
	r.StepTime = s.opt.Now().Sub(start)
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return r, fault.New(fault.Diverged, "update %d: the loss is %g", a.Update+1, r.Loss)
	}
	return r, nil
}

// carries refuses batches that cannot carry an objective.
func carries(b *bert.Batch, o bert.Objective) error {
	switch {
	case b.Seqs == 0:
		return fault.New(fault.Data, "batch: no sequences")
	case o == bert.Objective{}:
		return fault.New(fault.Config, "model: no head to train")
	case o.Classification && len(b.Labels) == 0:
		return fault.New(fault.Data, "batch: no class labels")
	case o.NSP && len(b.NSPLabels) == 0:
		return fault.New(fault.Data, "batch: no next-sentence labels")
	}
	return nil
}

// choose sets s.kept from s.scores or the replayed record, and records it.
func (s *Stepper) choose(b *bert.Batch, a StepArgs) error {
	var err error
	if s.opt.Replay != nil {
		s.kept, err = s.opt.Replay.kept(a.Update, a.Micro, b.SampleID, s.kept)
	} else {
		s.kept, err = s.largest(b.SampleID, s.opt.KeepOf(b.Seqs), a.Update)
	}
	if err == nil && s.opt.Record != nil {
		err = s.opt.Record.write(s.opt.Order, a.Update, a.Micro, b.SampleID, s.scores, s.kept)
	}
	return err
}
