package sifting

import (
	"time"

	"sift/backend/philox"
	"sift/bert"
	"sift/fault"
)

// Scores are the early loss and entropy of one sequence at an exit layer.
type Scores struct {
	Loss, Entropy float64 // mean over its labels, or sum with Options.Sum
	Labelled      int     // labels they are over; 0: Loss is 0 and the sequence never preferred
}

// scoring is a batch whose scores are enqueued.
type scoring struct {
	begun  bool
	losses *bert.Pending // nil: scores are not computed by the model
	start  time.Time
}

// Score enqueues the scores of b, for the next Start, which must be of the same batch and
// arguments. Start does so itself where it was not done before. Done before, while the
// device is still busy, it makes the device go on without a pause; and without reuse, on a
// device with a second queue, all that is enqueued between Score and that Start may run
// at the same time: then nothing of it may write what scoring reads, which are the
// parameters up to the exit layer and of the heads, nor use Model.Inference or the heads.
//
// The head is the model's own final one (arXiv:2402.07052, section 6), applied to the
// representation after the exit layer; no gradient passes through the scores. With
// reuse, the prefix stays in its workspace.
func (s *Stepper) Score(b *bert.Batch, a StepArgs) error {
	if !s.selects(a) {
		return nil
	}
	if err := carries(b, s.m.Objective()); err != nil {
		return err
	}
	s.scoring.begun, s.scoring.start = true, s.opt.Now()
	if s.opt.Score == Random {
		return nil
	}
	w, mode := s.prefix, s.mode(a)
	if w == nil {
		w = s.m.Inference()
		if !s.opt.ScoringDropout {
			mode = bert.Mode{}
		}
	}
	if s.side != nil {
		s.side.After(s.m.Stream())
		defer s.m.On(s.m.On(s.side))
	}
	err := s.early(w, b, mode, s.opt.ExitLayer)
	s.m.Fetch(s.scoring.losses)
	s.scoring.begun = err == nil
	return err
}

// Dropped makes the next Start score its batch itself.
func (s *Stepper) Dropped() { s.scoring.begun = false }

// scored waits for the scores of b and fills s.scores and s.sequence: what b's sequences are
// ranked by.
func (s *Stepper) scored(b *bert.Batch, a StepArgs, r *Result) error {
	s.scoring.begun = false
	s.scores = s.scores[:0]
	if s.opt.Score == Random {
		s.sequence = s.sequence[:0]
		for i, id := range b.SampleID {
			u := float64(philox.Dropout(a.Seed, bert.SiteScore, uint32(a.Update), id, 0)) / (1 << 32)
			s.scores = append(s.scores, u)
			s.sequence = append(s.sequence, Scores{Labelled: s.labels(b, i)})
		}
		r.Scores = s.scores
		return nil
	}
	l, err := s.scoring.losses.Wait()
	if err != nil {
		s.m.Stream().Fail(err) // it may be the side's
		return err
	}
	s.aggregate(l, b)
	s.rank()
	r.Scores = s.scores
	r.Scored, r.ScoredLoss = true, total(l, countsOf(b)).Loss
	return nil
}

// early runs b up to layer k in w and the scored head on top of it.
func (s *Stepper) early(w *bert.Workspace, b *bert.Batch, mode bert.Mode, k int) error {
	if err := w.Load(b); err != nil {
		return err
	}
	w.Embed(mode)
	w.Encode(0, k)
	return w.Heads(k, s.head(), 0)
}

// head is the one head that scores come from: the masked LM if it is trained, else the
// classifier. The next-sentence loss is never scored.
func (s *Stepper) head() bert.Objective {
	if s.m.Objective().MLM {
		return bert.Objective{MLM: true}
	}
	return bert.Objective{Classification: s.m.Objective().Classification}
}

// labels returns how many labels of the scored head sequence i has.
func (s *Stepper) labels(b *bert.Batch, i int) int {
	if !s.m.Objective().MLM {
		if len(b.Labels) > 0 && b.Labels[i] != bert.NoLabel {
			return 1
		}
		return 0
	}
	n := 0
	for _, row := range b.MLMRows {
		if row >= b.Offsets[i] && row < b.Offsets[i+1] {
			n++
		}
	}
	return n
}

// aggregate fills s.sequence from the losses by row, summing in ascending order.
func (s *Stepper) aggregate(l *bert.Losses, b *bert.Batch) {
	s.sequence = s.sequence[:0]
	if !s.m.Objective().MLM {
		for i := range b.Seqs {
			s.sequence = append(s.sequence, Scores{Loss: l.Class.Loss[i], Entropy: l.Class.Entropy[i], Labelled: s.labels(b, i)})
		}
		return
	}
	row := 0
	for i := range b.Seqs {
		var q Scores
		for ; row < len(b.MLMRows) && b.MLMRows[row] < b.Offsets[i+1]; row++ {
			q.Loss += l.MLM.Loss[row]
			q.Entropy += l.MLM.Entropy[row]
			q.Labelled++
		}
		if q.Labelled > 0 && !s.opt.Sum {
			q.Loss /= float64(q.Labelled)
			q.Entropy /= float64(q.Labelled)
		}
		s.sequence = append(s.sequence, q)
	}
}

// ScoresAt returns every sequence's loss and entropy at exit layer k, without dropout.
// The slice is valid until the next call of any method.
func (s *Stepper) ScoresAt(b *bert.Batch, k int) ([]Scores, error) {
	o := s.opt
	o.Score, o.ExitLayer, o.Keep, o.Reuse = Loss, k, 1, false
	if err := o.Validate(s.m.Config(), s.m.Objective()); err != nil {
		return nil, err
	}
	if !s.m.Objective().MLM && len(b.Labels) == 0 {
		return nil, fault.New(fault.Data, "batch: no class labels")
	}
	if err := s.early(s.m.Inference(), b, bert.Mode{}, k); err != nil {
		return nil, err
	}
	l, err := s.m.Losses()
	if err != nil {
		return nil, err
	}
	s.aggregate(l, b)
	return s.sequence, nil
}
