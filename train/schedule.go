package train

import (
	"math"

	"sift/config"
)

// schedule multiplies the learning rate of update u of total, u from 1. With w warm-up
// updates and s = u - 1:
//
//	s < w:            (s + 1) / w
//	linear, s >= w:   (total - s) / (total - w)
//	cosine, s >= w:   (1 + cos(pi (s - w) / (total - w))) / 2
//	constant, s >= w: 1
//
// From w on these are transformers' get_linear_schedule_with_warmup and its siblings;
// during warm-up they are one update ahead of it, so that the first update is not lost.
type schedule struct {
	shape         string
	warmup, total int
}

// newSchedule resolves a warm-up below 1 as a share of the updates.
func newSchedule(o config.Optimizer, total int) schedule {
	w := o.Warmup
	if w < 1 {
		w *= float64(total)
	}
	return schedule{shape: o.Schedule, warmup: int(math.Round(w)), total: total}
}

func (s schedule) at(update int) float64 {
	done, w, n := float64(update-1), float64(s.warmup), float64(s.total)
	switch {
	case done < w:
		return (done + 1) / w
	case done >= n:
		return 0
	case s.shape == "linear":
		return (n - done) / (n - w)
	case s.shape == "cosine":
		return (1 + math.Cos(math.Pi*(done-w)/(n-w))) / 2
	}
	return 1
}
