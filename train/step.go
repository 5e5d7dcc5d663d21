package train

import (
	"fmt"
	"math"
	"strings"
	"time"

	"sift/bert"
	"sift/fault"
	"sift/sifting"
)

// step makes one update: its micro-batches, the norm, AdamW, the line of metrics.
func (t *trainer) step() error {
	start := time.Now()
	u := t.update + 1
	t.draws = t.rule.update(t.draws[:0], u, t.position)
	m := Metrics{Kind: "update", Update: u, Selecting: t.rule.sift.Selects(u - 1)}
	sum, err := t.accumulate(&m)
	if err != nil {
		return err
	}
	micro := float64(len(t.draws))
	m.KeptLoss = sum.kept / micro
	if sum.scored {
		loss := sum.scoredLoss / micro
		m.ScoredLoss = &loss
	}
	if sum.count > 0 {
		m.Accuracy = float64(sum.correct) / float64(sum.count)
	}
	if t.objective.MLM {
		mlm := sum.mlm / micro
		m.MLMLoss = &mlm
	}
	if sum.pairs > 0 {
		nsp, accuracy := sum.nsp/micro, float64(sum.correctPairs)/float64(sum.pairs)
		m.NSPLoss, m.NSPAccuracy = &nsp, &accuracy
	}
	if !finite(m.KeptLoss) {
		return fault.New(fault.Diverged, "the loss is %v", m.KeptLoss)
	}
	m.LearningRate = t.cfg.Optimizer.LR * t.schedule.at(u)
	if err := t.apply(&m); err != nil {
		return err
	}

	t.update = u
	t.position += sum.drawn
	t.totals.Backprop += sum.keptSamples
	t.totals.TokensDrawn += sum.rows
	t.totals.TokensBackprop += sum.keptRows
	t.totals.LastLoss = m.KeptLoss
	t.totals.FLOPs += sum.flops
	t.totals.ScoreFLOPs += sum.scoreFLOPs
	m.FLOPs, m.ScoreFLOPs = sum.flops, sum.scoreFLOPs
	m.Epoch = float64(t.position) / float64(t.rule.size)
	m.KeptShare = float64(sum.keptSamples) / float64(sum.drawn)
	m.SamplesDrawn, m.SamplesBackprop = t.position, t.totals.Backprop
	m.TokensDrawn, m.TokensBackprop = t.totals.TokensDrawn, t.totals.TokensBackprop
	m.ScoreSeconds = sum.scoreTime.Seconds()
	m.StepSeconds = time.Since(start).Seconds()
	t.totals.TrainSeconds += m.StepSeconds
	t.totals.ScoreSeconds += m.ScoreSeconds
	m.TrainSeconds = t.totals.TrainSeconds
	if m.StepSeconds > 0 {
		m.TokensPerSecond = float64(sum.rows) / m.StepSeconds
	}
	if err := t.metrics.write(&m); err != nil {
		return err
	}
	if t.selection != nil {
		t.selected = t.selection.size
	}
	t.notify(&Updated{Metrics: m, Updates: t.plan.updates, Remaining: t.remaining()})
	return nil
}

// apply makes the optimiser's step with the gradients of an update and clears them. Where
// the loss scale made them overflow, clearing is all.
func (t *trainer) apply(m *Metrics) error {
	norm, err := t.optim.norm()
	if err != nil {
		return err
	}
	scale := t.scale.Factor
	if t.scale.scaled() {
		m.LossScale = scale
	}
	if finite(norm) {
		m.GradNorm = norm / scale
		if err := t.optim.step(m.LearningRate, m.Update-t.scale.Skipped, scale); err != nil {
			return err
		}
		t.scale.applied()
	} else {
		if err := t.scale.overflowed(norm); err != nil {
			return err
		}
		m.Skipped = true
		t.model.Stream().Zero(t.model.Grads())
	}
	m.SkippedUpdates = t.scale.Skipped
	return t.model.Stream().Sync()
}

// updateSums add up over the micro-batches of an update.
type updateSums struct {
	kept, scoredLoss    float64 // sums of micro-batch means
	scored              bool
	mlm, nsp            float64 // sums of micro-batch means
	correct, count      int
	correctPairs, pairs int
	flops, scoreFLOPs   float64
	drawn, keptSamples  int
	rows, keptRows      int
	scoreTime           time.Duration
}

// accumulate runs the micro-batches of t.draws, leaving the mean of their gradients, times
// the loss scale, in the model.
func (t *trainer) accumulate(m *Metrics) (updateSums, error) {
	var sum updateSums
	for micro, d := range t.draws {
		b, err := t.pack(d)
		if err != nil {
			return sum, err
		}
		r, err := t.stepper.Step(b, sifting.StepArgs{
			Update: m.Update - 1, Micro: micro, Select: m.Selecting,
			Seed: t.cfg.Train.Seed, GradScale: t.scale.Factor / float64(len(t.draws)),
		})
		if err != nil {
			// The caller names the update, with the run before it.
			return sum, trimmed(err, fmt.Sprintf("update %d: ", m.Update))
		}
		sum.kept += r.Loss
		if r.Scored {
			sum.scored = true
			sum.scoredLoss += r.ScoredLoss
		}
		sum.correct += r.Correct
		sum.count += r.Count
		sum.mlm += r.MLMLoss
		sum.nsp += r.NSPLoss
		sum.correctPairs += r.NSPCorrect
		sum.pairs += r.NSPCount
		sum.flops += r.FLOPs
		sum.scoreFLOPs += r.ScoreFLOPs
		sum.drawn += r.Drawn
		sum.keptSamples += r.Kept
		sum.rows += r.DrawnRows
		sum.keptRows += r.KeptRows
		sum.scoreTime += r.ScoreTime
		if r.Drawn != d.n || r.Kept != d.keep && t.cfg.Sift.Replay == "" {
			return sum, fault.New(fault.Internal, "drew %d and kept %d, planned %d and %d", r.Drawn, r.Kept, d.n, d.keep)
		}
	}
	return sum, nil
}

// trimmed drops a prefix of an error's text.
func trimmed(err error, prefix string) error {
	return &fault.Error{Kind: fault.KindOf(err), Text: strings.TrimPrefix(err.Error(), prefix), Cause: err}
}

// pack gathers the samples of a draw.
func (t *trainer) pack(d draw) (*bert.Batch, error) {
	t.packer.Reset()
	for p := d.first; p < d.first+d.n; p++ {
		if err := t.samples.add(t.packer, uint64(p)); err != nil {
			return nil, err
		}
	}
	return t.packer.Batch(), nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
