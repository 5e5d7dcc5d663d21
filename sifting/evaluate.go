package sifting

import (
	"sift/bert"
	"sift/fault"
)

// Evaluation is the result of a batch without dropout, selection or gradients.
type Evaluation struct {
	Loss, MLMLoss, NSPLoss, ClassLoss float64   // means over the counts below; Loss is the sum of the others
	Correct, Count                    int       // masked tokens, or sequences of a classification task
	NSPCorrect, NSPCount              int       // sequences
	Logits                            []float32 // [S,Classes] of a classifier; valid until the next call
}

// Evaluate runs b without dropout or selection. It counts what the objective reads:
// labelled rows of the masked LM, labelled sequences of the other heads.
func (s *Stepper) Evaluate(b *bert.Batch) (Evaluation, error) {
	e, err := Evaluate(s.m, b)
	if err == nil && s.m.Objective().Classification {
		s.logits, err = s.m.ClassLogits(b.Seqs, s.logits)
		e.Logits = s.logits
	}
	return e, err
}

// Evaluate is Stepper.Evaluate without the memory of a training step, and without Logits.
func Evaluate(m *bert.Model, b *bert.Batch) (Evaluation, error) {
	obj := m.Objective()
	if err := carries(b, obj); err != nil {
		return Evaluation{}, err
	}
	w, layers := m.Inference(), m.Config().Layers
	if err := w.Load(b); err != nil {
		return Evaluation{}, err
	}
	w.Embed(bert.Mode{})
	w.Encode(0, layers)
	if err := w.Heads(layers, obj, 0); err != nil {
		return Evaluation{}, err
	}
	l, err := m.Losses()
	if err != nil {
		return Evaluation{}, err
	}
	return total(l, countsOf(b)), nil
}

// total averages losses by row: the masked LM over labelled rows, the others over the
// sequences that have a label. A mean over nothing is 0.
func total(l *bert.Losses, n counts) Evaluation {
	var e Evaluation
	e.MLMLoss, e.Correct = means(l.MLM, len(l.MLM.Loss))
	e.Count = len(l.MLM.Loss)
	if len(l.NSP.Loss) > 0 {
		e.NSPCount = n.nsp
	}
	e.NSPLoss, e.NSPCorrect = means(l.NSP, e.NSPCount)
	if len(l.Class.Loss) > 0 {
		loss, correct := means(l.Class, n.classes)
		e.ClassLoss = loss
		if len(l.MLM.Loss) == 0 {
			e.Correct, e.Count = correct, n.classes
		}
	}
	e.Loss = e.MLMLoss + e.NSPLoss + e.ClassLoss
	return e
}

func means(r bert.RowLosses, n int) (loss float64, correct int) {
	for i, v := range r.Loss {
		loss += v
		correct += int(r.Correct[i])
	}
	if n == 0 {
		return 0, 0
	}
	return loss / float64(n), correct
}

// counts are the sequences of a batch that have a label.
type counts struct{ nsp, classes int }

func countsOf(b *bert.Batch) counts { return counts{labelled(b.NSPLabels), labelled(b.Labels)} }

func labelled(labels []int32) int {
	n := 0
	for _, l := range labels {
		if l != bert.NoLabel {
			n++
		}
	}
	return n
}

// Gradients returns the losses of b and the gradient of every parameter they depend on,
// without dropout or selection. It makes the losses that b has labels for m's objective
// and leaves the gradients in m.
func Gradients(m *bert.Model, b *bert.Batch) (Result, bert.Weights, error) {
	obj := bert.Objective{MLM: len(b.MLMRows) > 0, NSP: len(b.NSPLabels) > 0, Classification: len(b.Labels) > 0}
	if obj == (bert.Objective{}) {
		return Result{}, nil, fault.New(fault.Data, "batch: no labels")
	}
	if err := m.SetObjective(obj); err != nil {
		return Result{}, nil, err
	}
	s, err := NewStepper(m, Options{})
	if err != nil {
		return Result{}, nil, err
	}
	defer s.Free()
	m.ZeroGrads()
	r, err := s.Step(b, StepArgs{})
	if err != nil {
		return r, nil, err
	}
	g, err := m.Gradients()
	return r, g, err
}
