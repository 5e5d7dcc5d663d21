package train

import (
	"math"
	"slices"

	"sift/backend"
	"sift/bert"
	"sift/config"
)

// adamW is the optimiser over a model's flat buffers. Parameters are cut into runs of
// neighbours that share a decay; frozen ones are in no run, so that nothing touches them.
type adamW struct {
	model *bert.Model
	cfg   config.Optimizer
	clip  float64
	m, v  backend.Tensor // as Parameters
	sumSq backend.Tensor
	runs  []decayRun
	host  [1]float64
}

type decayRun struct {
	offset, length int
	decay          float64
}

// newAdamW allocates the moments. Freeze the model first.
func newAdamW(dev backend.Device, model *bert.Model, cfg config.Optimizer, clip float64) (*adamW, error) {
	o := &adamW{model: model, cfg: cfg, clip: clip, runs: decayRuns(model.Params(), model.Trainable, cfg)}
	float, n := dev.Info().Float, model.Parameters().Len()
	var err error
	if o.m, err = backend.Alloc(dev, float, 1, n); err != nil {
		return nil, err
	}
	if o.v, err = backend.Alloc(dev, float, 1, n); err != nil {
		return nil, err
	}
	if o.sumSq, err = backend.Alloc(dev, float, 1, 1); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *adamW) free() {
	for _, t := range []backend.Tensor{o.m, o.v, o.sumSq} {
		if !t.Absent() {
			_ = t.Buf.Free() // the device is going away
		}
	}
}

// decayRuns cuts the trainable parameters. The zeros between parameters join a run:
// their gradients are zero, so they stay zero.
func decayRuns(params []bert.Param, trainable func(int) bool, cfg config.Optimizer) []decayRun {
	var runs []decayRun
	adjacent := false // the parameter before this one ends the last run
	for i, p := range params {
		if !trainable(i) {
			adjacent = false
			continue
		}
		decay := cfg.WeightDecay
		if excluded(p.Kind, cfg.DecayExclude) {
			decay = 0
		}
		if last := len(runs) - 1; adjacent && runs[last].decay == decay {
			runs[last].length = p.Offset + p.Len() - runs[last].offset
		} else {
			runs = append(runs, decayRun{p.Offset, p.Len(), decay})
		}
		adjacent = true
	}
	return runs
}

// excluded reports whether parameters of this kind do not decay.
func excluded(kind bert.Kind, exclude []string) bool {
	switch kind {
	case bert.Bias:
		return slices.Contains(exclude, "bias")
	case bert.Gamma, bert.Beta:
		return slices.Contains(exclude, "norm")
	case bert.Embedding:
		return slices.Contains(exclude, "embeddings")
	}
	return false
}

// norm is the Euclidean norm of all gradients, as they are scaled. It waits for the device.
func (o *adamW) norm() (float64, error) {
	s := o.model.Stream()
	s.SumSquares(o.sumSq, o.model.Grads())
	if err := s.DownloadF64(o.host[:], o.sumSq); err != nil {
		return 0, err
	}
	return math.Sqrt(o.host[0]), nil
}

// step applies update number step (from 1) with the given learning rate, after norm,
// and zeroes the gradients, which are scale times those of the loss.
func (o *adamW) step(lr float64, step int, scale float64) error {
	s := o.model.Stream()
	param, grad := o.model.Parameters(), o.model.Grads()
	for _, r := range o.runs {
		var half backend.Tensor
		if h := o.model.Half(); !h.Absent() {
			half = h.ColRange(r.offset, r.length)
		}
		s.AdamW(backend.AdamWArgs{
			Half:  half,
			Param: param.ColRange(r.offset, r.length), Grad: grad.ColRange(r.offset, r.length),
			M: o.m.ColRange(r.offset, r.length), V: o.v.ColRange(r.offset, r.length),
			SumSq: o.sumSq, ClipNorm: o.clip, GradScale: 1 / scale,
			LR: lr, Beta1: o.cfg.Beta1, Beta2: o.cfg.Beta2, Eps: o.cfg.Eps, Decay: r.decay, Step: step,
		})
	}
	return s.Err()
}

// deviceBytes is the memory of a model under training: its own with all workspaces, and
// AdamW's two moments.
func deviceBytes(m *bert.Model, dev backend.Device) int64 {
	return m.MemoryBytes() + 2*int64(m.Parameters().Len())*int64(dev.Info().Float.Size())
}
