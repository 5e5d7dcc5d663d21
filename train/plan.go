package train

import (
	"math"

	"sift/config"
	"sift/fault"
	"sift/sifting"
)

// A draw is one micro-batch as the counting rule has it: samples first ... first+n-1
// of the stream are drawn and keep of them back-propagated. keep == n: none is dropped.
// Sample id p is the example at place p mod size of epoch p / size.
type draw struct{ first, n, keep int }

// counting is the rule that cuts the stream of samples into updates and micro-batches.
//
// An update has accumulate micro-batches. A micro-batch that selects draws round(N/keep)
// samples and keeps N of them; one that does not draws N and drops none. The end of an
// epoch, and of the stream, cuts a batch short: of n drawn samples it then keeps
// max(1, round(keep n)). An update never crosses an epoch: the last of an epoch may
// have fewer micro-batches, over which its gradient is the mean.
type counting struct {
	size       int // examples
	end        int // samples of the whole run; 0: without end
	accumulate int // micro-batches of an update
	sift       sifting.Options
}

// newCounting checks the configuration against the number of examples.
func newCounting(cfg config.Config, size int) (counting, error) {
	opt, err := sifting.FromConfig(cfg)
	if err != nil {
		return counting{}, err
	}
	c := counting{size: size, accumulate: cfg.Train.Accumulate, sift: opt}
	if size == 0 {
		return c, fault.New(fault.Data, "%s: no examples", cfg.Data.Train)
	}
	if cfg.Train.Updates == 0 {
		samples := math.Round(cfg.Train.Epochs * float64(size))
		if samples < 1 || samples >= 1<<47 {
			return c, fault.New(fault.Config, "train.epochs: %v: draws %.6g samples of %d examples; must be at least 1 and below 2^47",
				cfg.Train.Epochs, samples, size)
		}
		c.end = int(samples)
	}
	if opt.Score != sifting.None && opt.Keep*float64(min(opt.MaxDraw(), size)) < 0.5 {
		return c, fault.New(fault.Config, "sift.keep: %v: selects 0 of the %d examples of %s", opt.Keep, size, cfg.Data.Train)
	}
	return c, nil
}

// update appends the micro-batches of update u, from stream position at, to draws.
// None are appended at the end of the stream.
func (c counting) update(draws []draw, u, at int) []draw {
	end := (at/c.size + 1) * c.size
	if c.end > 0 {
		end = min(end, c.end)
	}
	selecting := c.sift.Selects(u - 1) // package sifting counts updates from 0
	for i := 0; i < c.accumulate && at < end; i++ {
		n := min(c.sift.Draw(u-1), end-at)
		keep := n
		if selecting {
			keep = c.sift.KeepOf(n)
		}
		draws = append(draws, draw{at, n, keep})
		at += n
	}
	return draws
}

// A plan is what the whole run comes to.
type plan struct {
	updates, drawn, kept int
	rows, seqs           int // of the largest micro-batch
}

// maxUpdates bounds a run, and so the time that planning one takes.
const maxUpdates = 1 << 30

// exactSamples is how far into the stream batches are measured in tokens; beyond, every
// sample counts as the longest.
const exactSamples = 1 << 26

// simulate walks the rule to the end of the stream, or for the given number of updates
// where that is above 0, or until there are too many. length gives the tokens of the
// sample at a stream position, longest the most of any.
func (c counting) simulate(updates int, length func(int) int, longest int) plan {
	var p plan
	draws := make([]draw, 0, min(c.accumulate, c.size))
	for (updates == 0 || p.updates < updates) && p.updates <= maxUpdates {
		draws = c.update(draws[:0], p.updates+1, p.drawn)
		if len(draws) == 0 {
			break
		}
		p.updates++
		for _, d := range draws {
			rows := 0
			if d.first+d.n <= exactSamples {
				for i := range d.n {
					rows += length(d.first + i)
				}
			} else {
				rows = d.n * longest
			}
			p.rows, p.seqs = max(p.rows, rows), max(p.seqs, d.n)
			p.drawn += d.n
			p.kept += d.keep
		}
	}
	return p
}

// newPlan simulates and checks what depends on the number of updates.
func (c counting) newPlan(cfg config.Config, length func(int) int, longest int) (plan, error) {
	p := c.simulate(cfg.Train.Updates, length, longest)
	if p.updates > maxUpdates || p.drawn >= 1<<48 { // sample ids have 48 bits
		return p, fault.New(fault.Config, "train.updates: %d, train.epochs: %v: more than %d updates or 2^48 samples",
			cfg.Train.Updates, cfg.Train.Epochs, maxUpdates)
	}
	if w := cfg.Optimizer.Warmup; w > float64(p.updates) {
		return p, fault.New(fault.Config, "optimizer.warmup: %v: the run has %d updates", w, p.updates)
	}
	return p, nil
}

// uncovered returns the first selecting micro-batch of the run that a record lacks.
func (c counting) uncovered(r *sifting.Replay, updates int) (update, micro int, found bool) {
	var draws []draw
	at := 0
	for u := 1; u <= updates; u++ {
		draws = c.update(draws[:0], u, at)
		for i, d := range draws {
			if c.sift.Selects(u-1) && !r.Covers(u-1, i) {
				return u, i, true
			}
			at += d.n
		}
	}
	return 0, 0, false
}
