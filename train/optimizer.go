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
	early int // so many runs come first, see readFirst
	guard bool
	back  *backend.Readback // of sumSq
}

type decayRun struct {
	offset, length int
	decay          float64
}

// newAdamW allocates the moments. Freeze the model first.
func newAdamW(dev backend.Device, model *bert.Model, cfg config.Optimizer, clip float64) (*adamW, error) {
	o := &adamW{model: model, cfg: cfg, clip: clip, runs: decayRuns(model.Params(), model.Trainable, cfg)}
	o.early = len(o.runs)
	float, n := dev.Info().Float, model.Parameters().Len()
	var err error
	if o.back, err = model.Stream().NewReadback(1); err != nil {
		return nil, err
	}
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

// readFirst makes step update what scoring at an exit layer reads before all else: the
// embeddings, layers 1 to exit and the heads.
func (o *adamW) readFirst(exit int) {
	params, layers := o.model.Params(), o.model.Config().Layers
	only := func(first bool) []decayRun {
		return decayRuns(params, func(i int) bool {
			return o.model.Trainable(i) && first == (params[i].Stage <= exit || params[i].Stage > layers)
		}, o.cfg)
	}
	o.runs = only(true)
	o.early = len(o.runs)
	o.runs = append(o.runs, only(false)...)
}

func (o *adamW) free() {
	_ = o.back.Free()
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

// measure starts to work out the norm.
func (o *adamW) measure() {
	s := o.model.Stream()
	s.SumSquares(o.sumSq, o.model.Grads())
	o.back.Start(s, o.sumSq)
}

// norm waits for the Euclidean norm of all gradients, as they are scaled, that measure was
// about.
func (o *adamW) norm() (float64, error) {
	v, err := o.back.Wait()
	if err != nil {
		return 0, err
	}
	return math.Sqrt(v[0]), nil
}

// step applies update number step (from 1) with the given learning rate, after measure,
// and zeroes the gradients, which are scale times those of the loss. It calls early, unless
// that is nil, when the parameters of readFirst are done.
func (o *adamW) step(lr float64, step int, scale float64, early func()) error {
	s := o.model.Stream()
	param, grad := o.model.Parameters(), o.model.Grads()
	for i, r := range o.runs {
		if i == o.early && early != nil {
			early()
		}
		var half backend.Tensor
		if h := o.model.Half(); !h.Absent() {
			half = h.ColRange(r.offset, r.length)
		}
		s.AdamW(backend.AdamWArgs{
			Half:  half,
			Param: param.ColRange(r.offset, r.length), Grad: grad.ColRange(r.offset, r.length),
			M: o.m.ColRange(r.offset, r.length), V: o.v.ColRange(r.offset, r.length),
			SumSq: o.sumSq, ClipNorm: o.clip, GradScale: 1 / scale, Guard: o.guard,
			LR: lr, Beta1: o.cfg.Beta1, Beta2: o.cfg.Beta2, Eps: o.cfg.Eps, Decay: r.decay, Step: step,
		})
	}
	if o.early == len(o.runs) && early != nil {
		early()
	}
	return s.Err()
}

// deviceBytes is the memory of a model under training: its own with all workspaces, and
// AdamW's two moments.
func deviceBytes(m *bert.Model, dev backend.Device) int64 {
	return m.MemoryBytes() + 2*int64(m.Parameters().Len())*int64(dev.Info().Float.Size())
}
