// Package sifting is training on the samples with the largest approximate losses, SIFT
// ("Understanding the Training Speedup from Sampling with Approximate Losses",
// arXiv:2402.07052): a step runs the first layers on all drawn sequences, applies the
// model's own head there, and back-propagates only the sequences with the largest
// early loss or entropy.
package sifting

import (
	"math"
	"time"

	"sift/bert"
	"sift/config"
	"sift/fault"
)

// Score is what sequences are ranked by.
type Score uint8

const (
	None    Score = iota // no selection
	Loss                 // the task's loss at the exit layer
	Entropy              // the entropy of the predictions at the exit layer
	Random               // uniform, as a control; nothing is computed
)

func (s Score) String() string { return [...]string{"none", "loss", "entropy", "random"}[s] }

// Options are the configured selection and the regularisation of the step around it.
type Options struct {
	Score          Score
	ExitLayer      int     // masked LM: 0..L (0: the embeddings); classification: 1..L
	Keep           float64 // share of the drawn sequences that is back-propagated
	Start          int     // first selecting update; updates count from 0
	End            int     // first update no longer selecting; 0: never
	Interrupt      int     // every n-th update does not select; 0: never
	Reuse          bool    // go on from the scored prefix instead of running it again
	Sum            bool    // masked LM: a sequence's score is the sum over its labels, not their mean
	ScoringDropout bool    // score with the dropout masks of the update; Reuse needs it

	MicroBatch                int // N, the sequences back-propagated; 0: the model's limit
	Dropout, AttentionDropout float64

	// Order identifies the stream that sample ids are positions of: a record of another
	// order is not replayed. Empty: not checked.
	Order  string
	Record *Recorder // optional
	Replay *Replay   // optional: whom to keep, from a record

	Now func() time.Time // for Result's times; nil: time.Now
}

// FromConfig reads the sections sift and train. Record and Replay stay nil.
func FromConfig(c config.Config) (Options, error) {
	o := Options{
		ExitLayer: c.Sift.ExitLayer, Keep: c.Sift.Keep, Start: c.Sift.Start, End: c.Sift.End,
		Interrupt: c.Sift.Interrupt, Reuse: c.Sift.Reuse, ScoringDropout: c.Sift.ScoringDropout,
		MicroBatch: c.Train.MicroBatch, Dropout: c.Train.Dropout, AttentionDropout: c.Train.AttentionDropout,
	}
	switch c.Sift.Score {
	case "none":
	case "loss":
		o.Score = Loss
	case "entropy":
		o.Score = Entropy
	case "random":
		o.Score = Random
	default:
		return o, fault.New(fault.Config, "sift.score: %q is none of none, loss, entropy, random", c.Sift.Score)
	}
	switch c.Sift.Aggregate {
	case "mean":
	case "sum":
		o.Sum = true
	default:
		return o, fault.New(fault.Config, "sift.aggregate: %q is neither mean nor sum", c.Sift.Aggregate)
	}
	return o, nil
}

// Validate returns an error of kind fault.Config naming the first key that cannot work
// with a model and its objective.
func (o Options) Validate(cfg bert.Config, obj bert.Objective) error {
	bad := func(key, format string, args ...any) error {
		return fault.New(fault.Config, key+": "+format, args...)
	}
	for _, p := range []struct {
		key string
		v   float64
	}{{"train.dropout", o.Dropout}, {"train.attention_dropout", o.AttentionDropout}} {
		if !(p.v >= 0 && p.v < 1) {
			return bad(p.key, "%g is not in [0,1)", p.v)
		}
	}
	if o.MicroBatch < 0 {
		return bad("train.micro_batch", "%d is negative", o.MicroBatch)
	}
	switch {
	case o.Score == None:
		return nil
	case o.Score > Random:
		return bad("sift.score", "%d is unknown", o.Score)
	case !(o.Keep > 0 && o.Keep <= 1):
		return bad("sift.keep", "%g is not in (0,1]", o.Keep)
	case o.Start < 0 || o.End < 0 || o.Interrupt < 0:
		return bad("sift.start, sift.end, sift.interrupt", "%d, %d, %d: none may be negative", o.Start, o.End, o.Interrupt)
	case o.End != 0 && o.End <= o.Start:
		return bad("sift.end", "%d is not after sift.start, %d", o.End, o.Start)
	case o.Score == Random:
		return nil
	case o.ExitLayer < 0 || o.ExitLayer > cfg.Layers:
		return bad("sift.exit_layer", "%d is not between 0 and the model's %d layers", o.ExitLayer, cfg.Layers)
	case o.ExitLayer == 0 && !obj.MLM:
		return bad("sift.exit_layer", "0: before the first layer every [CLS] is the same; classification exits at 1 or above")
	case !obj.MLM && !obj.Classification:
		return bad("sift.score", "%s needs a masked-LM or classification objective; the next-sentence loss is not scored", o.Score)
	case o.Reuse && !o.ScoringDropout && (o.Dropout > 0 || o.AttentionDropout > 0):
		return bad("sift.reuse", "true with sift.scoring_dropout false: the scored prefix is then not the trained one; set sift.reuse to false")
	}
	return nil
}

// Selects reports whether update, counted from 0, selects.
func (o Options) Selects(update int) bool {
	return o.Score != None && update >= o.Start && (o.End == 0 || update < o.End) &&
		(o.Interrupt == 0 || (update+1)%o.Interrupt != 0)
}

// Draw returns the sequences to draw for a micro-batch of update: round(N / keep) when
// it selects, else N.
func (o Options) Draw(update int) int {
	if !o.Selects(update) {
		return o.MicroBatch
	}
	return o.MaxDraw()
}

// MaxDraw returns the most that Draw returns for any update: what the model's Limits
// must allow.
func (o Options) MaxDraw() int {
	if o.Score == None {
		return o.MicroBatch
	}
	return int(math.Round(float64(o.MicroBatch) / o.Keep))
}

// KeepOf returns how many of n drawn sequences are kept: max(1, round(keep n)).
func (o Options) KeepOf(n int) int {
	return min(n, max(1, int(math.Round(o.Keep*float64(n)))))
}
