package train

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"sift/bert"
	"sift/fault"
	"sift/sifting"
)

// flight is an update that is enqueued and has not reported yet.
type flight struct {
	under bool
	m     Metrics
	sum   updateSums
	last  *sifting.Flight // micro-batch that is not in sum yet
	start time.Time
}

// step makes one update: its micro-batches, the norm, AdamW, the line of metrics.
//
// On a device that queues, only the scores are waited for. What else the host wants to know
// of an update comes with the next one, while the device is at that: land. Between
// the two t.update and t.position count an update whose line is not written.
func (t *trainer) step() error {
	err := t.enqueue()
	if err == nil && !t.defers {
		return t.land()
	}
	if err != nil && t.flying.under {
		// The error of the update before, if there is one, is the cause.
		if e := t.land(); e != nil {
			return e
		}
	}
	return err
}

// enqueue starts the next update and lands the one before.
func (t *trainer) enqueue() error {
	f := flight{start: time.Now()}
	u := t.update + 1
	f.m = Metrics{Kind: "update", Update: u, Selecting: t.rule.sift.Selects(u - 1), LearningRate: t.cfg.Optimizer.LR * t.schedule.at(u)}
	t.draws = t.rule.update(t.draws[:0], u, t.position)
	if err := t.accumulate(&f); err != nil {
		return err
	}
	t.optim.measure()
	if !t.defers {
		if err := t.losses(&f); err != nil {
			return err
		}
		if err := t.apply(&f.m); err != nil {
			return err
		}
	}
	f.under = true
	t.flying = f
	t.update = u
	t.position += f.sum.drawn
	if t.defers {
		return t.optim.step(f.m.LearningRate, u, 1, t.lookAhead)
	}
	return nil
}

// lookAhead starts to score what the next update draws. It is called as soon as the
// parameters are up to date that scoring reads; without reuse the others change meanwhile.
func (t *trainer) lookAhead() {
	u := t.update + 1
	if u > t.plan.updates || !t.rule.sift.Selects(u-1) || t.evaluationDue() {
		return
	}
	t.draws = t.rule.update(t.draws[:0], u, t.position)
	b, err := t.pack(t.draws[0])
	if err != nil {
		return // accumulate meets it again
	}
	_ = t.stepper.Score(b, t.place(u, 0)) // the stream keeps the error
	t.ahead = u
}

// place returns the arguments of a micro-batch of t.draws.
func (t *trainer) place(u, micro int) sifting.StepArgs {
	return sifting.StepArgs{Update: u - 1, Micro: micro, Select: t.rule.sift.Selects(u - 1),
		Seed: t.cfg.Train.Seed, GradScale: t.scale.Factor / float64(len(t.draws))}
}

// land waits for the update under way, if there is one, and reports it. On an error of kind
// fault.Diverged nothing has changed but the gradients, and the update is not counted.
func (t *trainer) land() error {
	f := &t.flying
	if !f.under {
		return nil
	}
	f.under = false
	if t.defers {
		err := t.losses(f)
		norm, e := t.optim.norm()
		if e == nil && !finite(norm) {
			e = t.scale.overflowed(norm)
		}
		if err != nil || e != nil {
			t.update--
			t.position -= f.sum.drawn
			t.spoiled = e == nil // the optimiser's step was made
			return cmp.Or(err, e)
		}
		f.m.GradNorm = norm
	}
	m, sum := &f.m, &f.sum
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
	if t.landed.After(f.start) {
		f.start = t.landed
	}
	t.landed = time.Now()
	m.ScoreSeconds = sum.scoreTime.Seconds()
	m.StepSeconds = t.landed.Sub(f.start).Seconds()
	t.totals.TrainSeconds += m.StepSeconds
	t.totals.ScoreSeconds += m.ScoreSeconds
	m.TrainSeconds = t.totals.TrainSeconds
	if m.StepSeconds > 0 {
		m.TokensPerSecond = float64(sum.rows) / m.StepSeconds
	}
	if err := t.metrics.write(m); err != nil {
		return err
	}
	if t.selection != nil {
		t.selected = t.selection.size
	}
	t.notify(&Updated{Metrics: *m, Updates: t.plan.updates, Remaining: t.remaining()})
	return nil
}

// losses waits for the last micro-batch and fills in the losses. It is an error if they are
// not finite.
func (t *trainer) losses(f *flight) error {
	if err := f.add(); err != nil {
		return err
	}
	m, sum, micro := &f.m, &f.sum, float64(f.sum.micro)
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
		if err := t.optim.step(m.LearningRate, m.Update-t.scale.Skipped, scale, nil); err != nil {
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
	micro               int     // micro-batches
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

// accumulate enqueues the micro-batches of t.draws, which leave the mean of their gradients,
// times the loss scale, in the model. It lands the update before, and adds up the results of
// all but the last. A device that queues is given the next scores, or without a selection the
// whole next micro-batch, before results are waited for.
func (t *trainer) accumulate(f *flight) error {
	f.sum = updateSums{micro: len(t.draws)}
	for micro, d := range t.draws {
		if !t.defers {
			if err := f.add(); err != nil {
				return err
			}
		}
		args, b := t.place(f.m.Update, micro), t.packer.Batch()
		if t.ahead != f.m.Update || micro > 0 {
			var err error
			if b, err = t.pack(d); err != nil {
				return err
			}
			if err := t.stepper.Score(b, args); err != nil {
				return err
			}
		}
		if f.m.Selecting {
			if err := t.catchUp(f); err != nil {
				return err
			}
		}
		next, err := t.stepper.Start(b, args)
		if err != nil {
			// The caller names the update, with the run before it.
			return trimmed(err, fmt.Sprintf("update %d: ", f.m.Update))
		}
		if err := t.catchUp(f); err != nil {
			return err
		}
		if drawn, kept := next.Drawn(); drawn != d.n || kept != d.keep && t.cfg.Sift.Replay == "" {
			return fault.New(fault.Internal, "drew %d and kept %d, planned %d and %d", drawn, kept, d.n, d.keep)
		}
		f.last = next
		f.sum.drawn += d.n
	}
	return nil
}

// catchUp lands the update before f, or adds up f's results so far.
func (t *trainer) catchUp(f *flight) error {
	if err := t.land(); err != nil {
		return err
	}
	return f.add()
}

// add waits for the last micro-batch, unless it is in the sums already, and adds its results.
func (f *flight) add() error {
	if f.last == nil {
		return nil
	}
	sum := &f.sum
	r, err := f.last.Wait()
	if err != nil {
		return trimmed(err, fmt.Sprintf("update %d: ", f.m.Update))
	}
	f.last = nil
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
	sum.keptSamples += r.Kept
	sum.rows += r.DrawnRows
	sum.keptRows += r.KeptRows
	sum.scoreTime += r.ScoreTime
	return nil
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
