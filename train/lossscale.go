package train

import "sift/fault"

// lossScale keeps small gradients out of the hole that float16 has below 2^-24
// (Micikevicius et al. 2018, section 3.2): the loss, and with it every gradient, is
// multiplied by a factor that the optimiser divides out again. The factor is halved when
// a gradient overflows, and then that update is not applied; it is doubled after interval
// updates that did not. Its values are powers of two, so that scaling rounds nothing.
//
// An update that is skipped counts like any other: its samples are drawn and not drawn
// again, and the schedule of the learning rate goes on. Only AdamW does not count it, so
// that its bias correction is that of the gradients it has seen.
type lossScale struct {
	Factor  float64 `json:"factor"`
	Good    int     `json:"good_updates"` // applied since the factor changed
	Skipped int     `json:"skipped_updates"`

	interval int // 0: the factor is 1 and nothing is skipped
}

const (
	firstFactor    = 1 << 16
	mostFactor     = 1 << 24
	growthInterval = 2000
)

// newLossScale returns the scale of a run's first update: 1 for good in f32. An interval
// of 0 is growthInterval.
func newLossScale(precision string, interval int) lossScale {
	if precision != "f16" {
		return lossScale{Factor: 1}
	}
	if interval == 0 {
		interval = growthInterval
	}
	return lossScale{Factor: firstFactor, interval: interval}
}

func (s *lossScale) scaled() bool { return s.interval > 0 }

// overflowed takes note of an update whose gradient is not finite. At a factor of 1, and
// without scaling, the gradient itself is not finite: that is divergence, and s stays as it was.
func (s *lossScale) overflowed(norm float64) error {
	switch {
	case !s.scaled():
		return fault.New(fault.Diverged, "the norm of the gradient is %v", norm)
	case s.Factor <= 1:
		return fault.New(fault.Diverged, "the norm of the gradient is %v with a loss scale of 1, after %d skipped updates", norm, s.Skipped)
	}
	s.Factor /= 2
	s.Good = 0
	s.Skipped++
	return nil
}

// applied takes note of an update that was made.
func (s *lossScale) applied() {
	if !s.scaled() {
		return
	}
	if s.Good++; s.Good >= s.interval {
		s.Good = 0
		s.Factor = min(2*s.Factor, mostFactor)
	}
}

// restored continues from what a checkpoint of the update says.
func (s *lossScale) restored(from *lossScale, update int) error {
	if s.scaled() != (from != nil) {
		return fault.New(fault.Data, "header: a loss scale where there is none, or none where there is one")
	}
	if from == nil {
		return nil
	}
	if !powerOfTwo(from.Factor) || from.Good < 0 || from.Good >= s.interval || from.Skipped < 0 || from.Skipped+from.Good > update {
		return fault.New(fault.Data, "header: a loss scale of %v after %d good and %d skipped updates of %d", from.Factor, from.Good, from.Skipped, update)
	}
	s.Factor, s.Good, s.Skipped = from.Factor, from.Good, from.Skipped
	return nil
}

// powerOfTwo reports whether x is one of the values a factor takes.
func powerOfTwo(x float64) bool {
	return x >= 1 && x <= mostFactor && x == float64(int(x)) && int(x)&(int(x)-1) == 0
}
