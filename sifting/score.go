package sifting

import (
	"sift/backend/philox"
	"sift/bert"
	"sift/fault"
)

// Scores are the early loss and entropy of one sequence at an exit layer.
type Scores struct {
	Loss, Entropy float64 // mean over its labels, or sum with Options.Sum
	Labelled      int     // labels they are over; 0: Loss is 0 and the sequence never preferred
}

// score fills s.scores and s.sequence: what b's sequences are ranked by.
//
// The head is the model's own final one (arXiv:2402.07052, section 6), applied to the
// representation after the exit layer; no gradient passes through the scores. With
// reuse, the prefix stays in its workspace.
func (s *Stepper) score(b *bert.Batch, mode bert.Mode, a StepArgs, r *Result) error {
	s.scores = s.scores[:0]
	if s.opt.Score == Random {
		s.sequence = s.sequence[:0]
		for i, id := range b.SampleID {
			u := float64(philox.Dropout(a.Seed, bert.SiteScore, uint32(a.Update), id, 0)) / (1 << 32)
			s.scores = append(s.scores, u)
			s.sequence = append(s.sequence, Scores{Labelled: s.labels(b, i)})
		}
		return nil
	}
	w := s.prefix
	if w == nil {
		w = s.m.Inference()
		if !s.opt.ScoringDropout {
			mode = bert.Mode{}
		}
	}
	l, err := s.early(w, b, mode, s.opt.ExitLayer)
	if err != nil {
		return err
	}
	s.aggregate(l, b)
	s.rank()
	e := total(l, b)
	r.Scored, r.ScoredLoss = true, e.Loss
	return nil
}

// early runs b up to layer k in w and the scored head on top of it.
func (s *Stepper) early(w *bert.Workspace, b *bert.Batch, mode bert.Mode, k int) (*bert.Losses, error) {
	if err := w.Load(b); err != nil {
		return nil, err
	}
	w.Embed(mode)
	w.Encode(0, k)
	if err := w.Heads(k, s.scored(), 0); err != nil {
		return nil, err
	}
	return s.m.Losses()
}

// scored is the one head that scores come from: the masked LM if it is trained, else the
// classifier. The next-sentence loss is never scored.
func (s *Stepper) scored() bert.Objective {
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
	l, err := s.early(s.m.Inference(), b, bert.Mode{}, k)
	if err != nil {
		return nil, err
	}
	s.aggregate(l, b)
	return s.sequence, nil
}
