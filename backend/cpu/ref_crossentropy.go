package cpu

import (
	"math"

	"sift/backend"
	"sift/fault"
)

// ignored is the label of a row that has none.
const ignored = -100

// CrossEntropy, per row of logits x with m = max x and w_j = exp(x_j - m):
//
//	LSE = m + log sum w,  Loss = LSE - x[label],  Entropy = log sum w - sum w (x - m) / sum w
func (r *reference[T]) CrossEntropy(a backend.CrossEntropyArgs) error {
	logits := view[T](a.Logits)
	if logits.rows == 0 {
		return nil
	}
	labels := view[int32](a.Labels).row(0)
	loss, entropy, lse, correct := view[T](a.Loss), view[T](a.Entropy), view[T](a.LSE), view[T](a.Correct)
	for i, label := range labels {
		if err := labelWithin(i, label, logits.cols); err != nil {
			return err
		}
		x := logits.row(i)
		best := 0
		for j, v := range x {
			if v > x[best] {
				best = j
			}
		}
		top := float64(x[best])
		var sum, weighted float64
		for _, v := range x {
			w := math.Exp(float64(v) - top)
			sum += w
			if w > 0 { // a logit of minus infinity adds nothing, not NaN
				weighted += w * (float64(v) - top)
			} else if math.IsNaN(w) {
				weighted = w
			}
		}
		entropy.row(i)[0] = T(math.Log(sum) - weighted/sum)
		lse.row(i)[0] = T(top + math.Log(sum))
		loss.row(i)[0], correct.row(i)[0] = 0, 0
		if label == ignored {
			continue
		}
		loss.row(i)[0] = T(top - float64(x[label]) + math.Log(sum))
		if int(label) == best {
			correct.row(i)[0] = 1
		}
	}
	return nil
}

// CrossEntropyBackward sets DLogits = Scale * (exp(Logits - LSE) - onehot(label)), and
// rows without a label to 0.
func (r *reference[T]) CrossEntropyBackward(a backend.CrossEntropyBackwardArgs) error {
	logits := view[T](a.Logits)
	if logits.rows == 0 || logits.cols == 0 {
		return nil
	}
	labels := view[int32](a.Labels).row(0)
	dlogits, lse := view[T](a.DLogits), view[T](a.LSE)
	for i, label := range labels {
		if err := labelWithin(i, label, logits.cols); err != nil {
			return err
		}
		dr := dlogits.row(i)
		if label == ignored {
			clear(dr)
			continue
		}
		l := float64(lse.row(i)[0])
		for j, v := range logits.row(i) {
			p := math.Exp(float64(v) - l)
			if j == int(label) {
				p--
			}
			dr[j] = T(a.Scale * p)
		}
	}
	return nil
}

func labelWithin(i int, label int32, classes int) error {
	if label != ignored && (label < 0 || int(label) >= classes) {
		return fault.New(fault.Internal, "label %d of row %d is outside the %d classes", label, i, classes)
	}
	return nil
}
