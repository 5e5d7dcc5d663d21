package sift

import (
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
}

// Evaluation is the result of a batch without dropout, selection or gradients.
type Evaluation struct {
	Loss, MLMLoss, NSPLoss, ClassLoss float64 // means over the counts below
	Correct, Count                    int
	NSPCorrect, NSPCount              int
	Logits                            []float32 // [S,Classes] of a classifier; valid until the next call
}

// Stepper runs sifted steps of a model. It is used by one goroutine at a time.
type Stepper struct{ opt Options }

// NewStepper allocates the memory of all later steps: a workspace for the kept
// sequences and, with reuse, one for the prefix of the drawn ones. Freeze and choose
// the objective of m before.
func NewStepper(m *bert.Model, opt Options) (*Stepper, error) {
	return nil, fault.New(fault.Internal, "sift: not written yet")
}

// Step adds the gradient of GradScale times the mean loss of the kept sequences of b to
// m.Grads(). An error of kind fault.Diverged says that all scores, or the loss, are not
// finite; gradients are then worthless.
func (s *Stepper) Step(b *bert.Batch, a StepArgs) (Result, error) { return Result{}, nil }

// Evaluate runs b without dropout or selection. Every label of b is counted; labelled
// rows of the masked LM, sequences of the other heads.
func (s *Stepper) Evaluate(b *bert.Batch) (Evaluation, error) { return Evaluation{}, nil }

// Scores are the early loss and entropy of one sequence at an exit layer.
type Scores struct {
	Loss, Entropy float64
	Labelled      int // labels they are over; 0: both are 0
}

// ScoresAt returns every sequence's loss and entropy at exit layer k, without dropout.
func (s *Stepper) ScoresAt(b *bert.Batch, k int) ([]Scores, error) { return nil, nil }

// Select returns whom score would keep of the sequences with these ids, as Step does.
func (s *Stepper) Select(scores []Scores, ids []uint64) ([]int, error) { return nil, nil }
