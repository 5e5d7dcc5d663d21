package train

import (
	"context"
	"math"
	"path/filepath"
	"time"

	"sift/bert"
	"sift/fault"
)

// classify runs all examples through m in order, batch by batch within m's limits, and
// gives each example's logits to each. It stops with ctx's error when that is cancelled.
func classify(ctx context.Context, m *bert.Model, p *bert.Packer, e *examples, logits []float32,
	each func(i int, logits []float32) error, progress func(Event)) ([]float32, error) {
	limits, classes := m.Limits(), m.Config().Classes
	for first := 0; first < e.Len(); {
		if err := ctx.Err(); err != nil {
			return logits, err
		}
		p.Reset()
		n, rows := 0, 0
		for first+n < e.Len() && n < limits.Seqs && rows+e.length(first+n) <= limits.Rows {
			s := e.sequence(first+n, uint64(first+n))
			s.Label = bert.NoLabel
			if err := p.AddSequence(s); err != nil {
				return logits, err
			}
			rows += e.length(first + n)
			n++
		}
		var err error
		if logits, err = m.Classify(p.Batch(), logits); err != nil {
			return logits, err
		}
		for i := range n {
			if err := each(first+i, logits[i*classes:(i+1)*classes]); err != nil {
				return logits, err
			}
		}
		first += n
		if progress != nil {
			progress(&Evaluating{Done: first, Of: e.Len()})
		}
	}
	return logits, nil
}

// softmax overwrites p with the probabilities of logits and returns log sum exp of them.
func softmax(p []float64, logits []float32) float64 {
	largest := math.Inf(-1)
	for _, x := range logits {
		largest = max(largest, float64(x))
	}
	sum := 0.0
	for i, x := range logits {
		p[i] = math.Exp(float64(x) - largest)
		sum += p[i]
	}
	for i := range logits {
		p[i] /= sum
	}
	return largest + math.Log(sum)
}

// argmax is the first index of the largest value.
func argmax(x []float32) int {
	best := 0
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	return best
}

// confusion counts predictions and adds up the cross-entropy, in float64.
type confusion struct {
	counts [][]int64 // [true][predicted]
	loss   float64
	p      []float64
}

func newConfusion(classes int) *confusion {
	c := &confusion{counts: make([][]int64, classes), p: make([]float64, classes)}
	for i := range c.counts {
		c.counts[i] = make([]int64, classes)
	}
	return c
}

func (c *confusion) add(label int, logits []float32) {
	c.loss += softmax(c.p, logits) - float64(logits[label])
	c.counts[label][argmax(logits)]++
}

// evaluation works out the metrics.
//
// F1 = 2 TP / (2 TP + FP + FN), 0 where that is 0/0. MCC = (c n - sum_k p_k t_k) /
// sqrt((n^2 - sum p_k^2)(n^2 - sum t_k^2)) with c correct of n, p_k predicted and t_k
// true counts of label k (Gorodkin 2004; Matthews' for two labels), 0 where the root is 0.
func (c *confusion) evaluation(labels []string) Evaluation {
	k := len(c.counts)
	truth, predicted := make([]float64, k), make([]float64, k)
	n, correct := 0.0, 0.0
	for i, row := range c.counts {
		for j, count := range row {
			truth[i] += float64(count)
			predicted[j] += float64(count)
			n += float64(count)
			if i == j {
				correct += float64(count)
			}
		}
	}
	e := Evaluation{N: int(n), ClassEvaluation: &ClassEvaluation{Labels: labels, Confusion: c.counts}}
	if n == 0 {
		return e
	}
	e.Loss, e.Accuracy = c.loss/n, correct/n
	e.Low, e.High = Wilson(int(correct), int(n))
	f1 := func(i int) float64 {
		if d := truth[i] + predicted[i]; d > 0 {
			return 2 * float64(c.counts[i][i]) / d
		}
		return 0
	}
	if k == 2 {
		e.F1 = f1(1)
	} else {
		for i := range k {
			e.F1 += f1(i) / float64(k)
		}
	}
	cross, pp, tt, most := 0.0, 0.0, 0.0, 0
	for i := range k {
		cross += predicted[i] * truth[i]
		pp += predicted[i] * predicted[i]
		tt += truth[i] * truth[i]
		if truth[i] > truth[most] {
			most = i
		}
	}
	if d := math.Sqrt(n*n-pp) * math.Sqrt(n*n-tt); d > 0 {
		e.MCC = (correct*n - cross) / d
	}
	e.Majority, e.MajorityShare = labels[most], truth[most]/n
	return e
}

// Metric returns the value that task.metric names.
func (e *Evaluation) Metric(name string) float64 {
	switch name {
	case "f1":
		return e.F1
	case "mcc":
		return e.MCC
	}
	return e.Accuracy
}

// better reports whether e beats best: the larger metric, then the smaller loss.
func (e *Evaluation) better(best *Evaluation, metric string) bool {
	if best == nil {
		return true
	}
	a, b := e.Metric(metric), best.Metric(metric)
	return a > b || a == b && e.Loss < best.Loss
}

// evaluationLine is an evaluation's line in metrics.jsonl.
type evaluationLine struct {
	Kind            string  `json:"kind"` // "evaluation"
	Update          int     `json:"update"`
	Best            bool    `json:"best"`
	SamplesBackprop int     `json:"samples_backpropagated"`
	TrainSeconds    float64 `json:"train_seconds"`
	Evaluation
}

// evaluationDue reports whether the validation file is to be run now: every
// train.evaluate_every updates, or at the end of each epoch, and at the end.
func (t *trainer) evaluationDue() bool {
	if t.held == nil || t.update == 0 || t.progress.EvaluatedAt == t.update {
		return false
	}
	every := t.cfg.Train.EvaluateEvery
	return t.update == t.plan.updates || every > 0 && t.update%every == 0 || every == 0 && t.position%t.rule.size == 0
}

// evaluate runs the held-out data off the training clock. The weights of the best
// evaluation so far are kept in a file of their own.
func (t *trainer) evaluate(ctx context.Context) error {
	start := time.Now()
	e, err := t.held.evaluate(ctx, t)
	if err != nil {
		return err
	}
	if !finite(e.Loss) {
		last := "no checkpoint was written"
		if t.saved >= 0 {
			last = "the last good checkpoint is " + filepath.Join(checkpointDir, checkpointName(t.saved))
		}
		return fault.New(fault.Diverged, "%s: update %d: the validation loss is %v; %s", t.opt.Out, t.update, e.Loss, last)
	}
	e.Seconds = time.Since(start).Seconds()
	t.totals.EvaluateSeconds += e.Seconds
	best := e.better(t.progress.Best, t.cfg.Task.Metric)
	t.progress.EvaluatedAt, t.progress.Last = t.update, &e
	t.progress.WithoutGain++
	if best {
		t.progress.BestAt, t.progress.Best, t.progress.WithoutGain = t.update, &e, 0
		path := filepath.Join(t.opt.Out, checkpointDir, bestName)
		if err := writeCheckpoint(t.d, path, t.header(), t.staging, []string{"params"}, t.fetch); err != nil {
			return err
		}
	}
	if err := t.metrics.write(evaluationLine{"evaluation", t.update, best, t.totals.Backprop, t.totals.TrainSeconds, e}); err != nil {
		return err
	}
	t.notify(&Evaluated{Update: t.update, Evaluation: e, Best: best})
	if t.stoppedEarly() && t.update < t.plan.updates {
		t.notice("stopped early: no gain in the last evaluations")
	}
	return nil
}
