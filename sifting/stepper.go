package sifting

import (
	"cmp"
	"math"
	"time"

	"sift/backend"
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

// Result is what a step did. Its slices are valid until the next step starts.
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

	// ScoreTime is from the start of scoring, or from when the results of the step before
	// were there, to the scores; StepTime includes it.
	ScoreTime, StepTime time.Duration

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

	side     *backend.Stream // without reuse: where scores are computed, on a device that has a second queue
	scoring  scoring
	flights  [2]*Flight  // in turn
	started  int         // steps
	idle     time.Time   // when the last results were there
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
	if err := s.allocate(kept, drawn); err != nil {
		s.Free()
		return nil, err
	}
	return s, nil
}

func (s *Stepper) allocate(kept, drawn bert.Limits) (err error) {
	m := s.m
	if s.main, err = m.NewWorkspace(bert.WorkspaceOptions{Limits: kept, Layers: m.Config().Layers, Grads: true}); err != nil {
		return err
	}
	for i := range s.flights {
		s.flights[i] = &Flight{s: s}
		if s.flights[i].losses, err = m.NewPending(); err != nil {
			return err
		}
	}
	if s.opt.Score != Loss && s.opt.Score != Entropy {
		return nil
	}
	if s.scoring.losses, err = m.NewPending(); err != nil {
		return err
	}
	if s.opt.Reuse {
		s.prefix, err = m.NewWorkspace(bert.WorkspaceOptions{Limits: drawn, Layers: s.opt.ExitLayer, Keep: true})
		return err
	}
	s.side, err = m.Stream().Fork()
	return err
}

// Free returns the stepper's memory to the device.
func (s *Stepper) Free() error {
	err := s.scoring.losses.Free()
	for _, f := range s.flights {
		if f != nil {
			err = cmp.Or(err, f.losses.Free())
		}
	}
	for _, w := range []*bert.Workspace{s.main, s.prefix} {
		if w != nil {
			err = cmp.Or(err, w.Free())
		}
	}
	if s.side != nil {
		err = cmp.Or(err, s.side.Device().Close())
	}
	return err
}

// Options returns the stepper's options.
func (s *Stepper) Options() Options { return s.opt }

// Step adds the gradient of GradScale times the mean loss of the kept sequences of b to
// m.Grads(). An error of kind fault.Diverged says that all scores, or the loss, are not
// finite; gradients are then worthless.
func (s *Stepper) Step(b *bert.Batch, a StepArgs) (Result, error) {
	f, err := s.Start(b, a)
	if err != nil {
		return Result{}, err
	}
	return f.Wait()
}

// Flight is a step whose work is enqueued.
type Flight struct {
	s      *Stepper
	r      Result
	losses *bert.Pending
	start  time.Time
	update int
	counts counts
}

// Start is Step as far as the losses, which it does not wait for: only for scores, where it
// selects. b is not needed afterwards. Of the last two steps results can be waited for, the
// older ones first.
func (s *Stepper) Start(b *bert.Batch, a StepArgs) (*Flight, error) {
	f := s.flights[s.started%2]
	s.started++
	f.start, f.update = s.opt.Now(), a.Update
	f.r = Result{Drawn: b.Seqs, DrawnRows: b.Rows}
	r := &f.r
	if err := carries(b, s.m.Objective()); err != nil {
		return nil, err
	}
	layers := s.m.Config().Layers
	ran := 0 // layers of the main workspace that need not run again
	batch := b
	s.kept = s.kept[:0]
	if s.selects(a) {
		if !s.scoring.begun {
			if err := s.Score(b, a); err != nil {
				return nil, err
			}
		}
		if err := s.scored(b, a, r); err != nil {
			return nil, err
		}
		if err := s.choose(b, a); err != nil {
			return nil, err
		}
		s.rows = b.Select(s.compact, s.kept, s.rows)
		batch = s.compact
		begin := s.scoring.start
		if s.idle.After(begin) {
			begin = s.idle
		}
		r.ScoreTime = s.opt.Now().Sub(begin)
		if r.Scored {
			r.ScoreFLOPs = s.m.Config().ScoreFLOPs(b, s.opt.ExitLayer, s.head())
		}
	} else {
		for i := range b.Seqs {
			s.kept = append(s.kept, i)
		}
	}
	if err := s.main.Load(batch); err != nil {
		return nil, err
	}
	if batch != b && s.prefix != nil {
		if err := s.main.Take(s.prefix, s.rows, s.opt.ExitLayer); err != nil {
			return nil, err
		}
		ran = s.opt.ExitLayer
		r.ScoreFLOPs -= s.m.Config().ForwardFLOPs(batch, ran)
	} else {
		s.main.Embed(s.mode(a))
	}
	s.main.Encode(ran, layers)
	scale := a.GradScale
	if scale == 0 {
		scale = 1
	}
	if err := s.main.Heads(layers, s.m.Objective(), scale); err != nil {
		return nil, err
	}
	if err := s.main.Backward(); err != nil {
		return nil, err
	}
	s.m.Fetch(f.losses)
	r.FLOPs = s.m.Config().StepFLOPs(batch)
	r.Kept, r.KeptRows, r.KeptIndex = batch.Seqs, batch.Rows, s.kept
	f.counts = countsOf(batch)
	return f, nil
}

// Drawn returns how many sequences were drawn and kept.
func (f *Flight) Drawn() (drawn, kept int) { return f.r.Drawn, f.r.Kept }

// Wait waits for the losses of a step that Start returned, and says what it did.
func (f *Flight) Wait() (Result, error) {
	l, err := f.losses.Wait()
	if err != nil {
		return f.r, err
	}
	r, s := &f.r, f.s
	e := total(l, f.counts)
	r.Loss, r.MLMLoss, r.NSPLoss, r.ClassLoss = e.Loss, e.MLMLoss, e.NSPLoss, e.ClassLoss
	r.Correct, r.Count, r.NSPCorrect, r.NSPCount = e.Correct, e.Count, e.NSPCorrect, e.NSPCount
	s.idle = s.opt.Now()
	r.StepTime = s.idle.Sub(f.start)
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return *r, fault.New(fault.Diverged, "update %d: the loss is %g", f.update+1, r.Loss)
	}
	return *r, nil
}

// Beside reports whether scores are computed in a queue of their own.
func (s *Stepper) Beside() bool { return s.side != nil }

// selects reports whether a step with these arguments selects.
func (s *Stepper) selects(a StepArgs) bool { return a.Select && s.opt.Score != None }

// mode is the regularisation of a step.
func (s *Stepper) mode(a StepArgs) bert.Mode {
	return bert.Mode{Dropout: s.opt.Dropout, AttentionDropout: s.opt.AttentionDropout, Seed: a.Seed, Update: uint32(a.Update)}
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
