package sifting

import (
	"cmp"
	"math"
	"slices"

	"sift/fault"
)

// largest sets s.kept to the k sequences with the largest s.scores, ascending by
// position. Ties go to the lower sample id. NaN is never kept, even if fewer than k
// remain; sequences without labels come after all others. If every score is NaN the
// error is of kind fault.Diverged.
func (s *Stepper) largest(ids []uint64, k, update int) ([]int, error) {
	s.order = s.order[:0]
	for i, v := range s.scores {
		if !math.IsNaN(v) {
			s.order = append(s.order, i)
		}
	}
	if len(s.order) == 0 {
		return s.kept[:0], fault.New(fault.Diverged, "update %d: every selection score is NaN", update+1)
	}
	slices.SortFunc(s.order, func(i, j int) int {
		if a, b := s.sequence[i].Labelled > 0, s.sequence[j].Labelled > 0; a != b {
			if a {
				return -1
			}
			return 1
		}
		if c := cmp.Compare(s.scores[j], s.scores[i]); c != 0 {
			return c
		}
		if c := cmp.Compare(ids[i], ids[j]); c != 0 {
			return c
		}
		return i - j
	})
	s.kept = append(s.kept[:0], s.order[:min(k, len(s.order))]...)
	slices.Sort(s.kept)
	return s.kept, nil
}

// Select returns whom a step would keep of the sequences with these ids, which scores,
// the result of the last ScoresAt, are about: by the stepper's score (Loss or Entropy)
// and Keep. The slice is valid until the next call of any method.
func (s *Stepper) Select(scores []Scores, ids []uint64) ([]int, error) {
	if len(ids) != len(scores) || len(ids) == 0 {
		return nil, fault.New(fault.Internal, "sift: %d sample ids, %d scores", len(ids), len(scores))
	}
	if s.opt.Score != Loss && s.opt.Score != Entropy {
		return nil, fault.New(fault.Config, "sift.score: %s: must be loss or entropy", s.opt.Score)
	}
	s.sequence = append(s.sequence[:0], scores...) // a copy onto itself after ScoresAt
	s.rank()
	return s.largest(ids, s.opt.KeepOf(len(ids)), 0)
}

// rank fills s.scores with the loss or the entropy of s.sequence.
func (s *Stepper) rank() {
	s.scores = s.scores[:0]
	for _, q := range s.sequence {
		v := q.Loss
		if s.opt.Score == Entropy {
			v = q.Entropy
		}
		s.scores = append(s.scores, v)
	}
}
