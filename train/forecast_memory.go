package train

import (
	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/sifting"
)

// MemoryForecast is the device memory of a run, in bytes, by purpose.
type MemoryForecast struct {
	Parameters int64 `json:"parameters"`
	Gradients  int64 `json:"gradients"`
	Moments    int64 `json:"moments"` // AdamW's two, and the sum of squares
	Kept       int64 `json:"kept"`    // activations of the sequences back-propagated, and scratch of the backward pass
	Prefix     int64 `json:"prefix"`  // with reuse: activations of the drawn sequences up to the exit layer
	Forward    int64 `json:"forward"` // activations of a forward pass: validation, and scoring without reuse
	Heads      int64 `json:"heads"`   // logits of a chunk of labelled rows, pooled rows
	Total      int64 `json:"total"`
}

// forecastMemory makes the model, the stepper and the optimiser of a run on a device that
// only counts, and counts the trainable parameters too. What it counts is what they allocate, since it is they who do.
func forecastMemory(cfg config.Config, model bert.Config, objective bert.Objective, opt sifting.Options, limits bert.Limits) (f MemoryForecast, trainable int, err error) {
	dev := &tally{float: backend.F32}
	if cfg.Train.Precision == "bf16" {
		dev.act = backend.BF16
	}
	m, err := bert.NewModel(dev, model, limits)
	if err != nil {
		return f, 0, err
	}
	f.Parameters, f.Gradients = m.Parameters().Buf.Bytes(), m.Grads().Buf.Bytes()
	if h := m.Half(); !h.Absent() {
		f.Parameters += h.Buf.Bytes()
	}
	f.Heads, f.Forward = m.HeadBytes(), m.Inference().Bytes()
	if err := m.SetObjective(objective); err != nil {
		return f, 0, err
	}
	frozen, err := cfg.Train.FrozenLayers(model.Layers)
	if err != nil {
		return f, 0, err
	}
	if err := m.FreezeLayers(frozen); err != nil {
		return f, 0, err
	}
	opt.Record, opt.Replay = nil, nil
	whole, err := stepperBytes(dev, m, opt)
	if err != nil {
		return f, 0, err
	}
	alone := opt
	alone.Score = sifting.None
	if f.Kept, err = stepperBytes(dev, m, alone); err != nil {
		return f, 0, err
	}
	f.Prefix = whole - f.Kept
	before := dev.bytes
	if _, err := newAdamW(dev, m, cfg.Optimizer, cfg.Train.ClipNorm); err != nil {
		return f, 0, err
	}
	f.Moments = dev.bytes - before
	f.Total = f.Parameters + f.Gradients + f.Moments + f.Kept + f.Prefix + f.Forward + f.Heads
	for i, x := range m.Params() {
		if m.Trainable(i) {
			trainable += x.Len()
		}
	}
	return f, trainable, nil
}

// stepperBytes counts a stepper's memory.
func stepperBytes(dev *tally, m *bert.Model, opt sifting.Options) (int64, error) {
	before := dev.bytes
	s, err := sifting.NewStepper(m, opt)
	if err != nil {
		return 0, err
	}
	n := dev.bytes - before
	return n, s.Free()
}

// tally is a device without memory: it counts what is asked of it. It computes nothing,
// so nobody may run a step on it.
type tally struct {
	backend.Kernels // nil: none
	float, act      backend.DType
	bytes           int64 // held now
}

var errCounts = fault.New(fault.Internal, "counting device: it has no memory to read or write")

func (c *tally) Info() backend.Info {
	return backend.Info{Name: "tally", Description: "counts memory", Kind: "tally", Threads: 1, Float: c.float, Act: c.act}
}

// Alloc counts bytes and returns a buffer that only knows its size.
func (c *tally) Alloc(bytes int64) (backend.Buffer, error) {
	if bytes < 0 {
		return nil, errCounts
	}
	c.bytes += bytes
	return &tallied{c, bytes}, nil
}

func (c *tally) UploadF32(backend.Tensor, []float32) error   { return errCounts }
func (c *tally) UploadF64(backend.Tensor, []float64) error   { return errCounts }
func (c *tally) UploadI32(backend.Tensor, []int32) error     { return errCounts }
func (c *tally) DownloadF32([]float32, backend.Tensor) error { return errCounts }
func (c *tally) DownloadF64([]float64, backend.Tensor) error { return errCounts }
func (c *tally) DownloadI32([]int32, backend.Tensor) error   { return errCounts }
func (c *tally) Sync() error                                 { return nil }
func (c *tally) Close() error                                { return nil }

// tallied is a buffer of a tally.
type tallied struct {
	c     *tally
	bytes int64
}

func (b *tallied) Bytes() int64 { return b.bytes }

func (b *tallied) Free() error {
	b.c.bytes -= b.bytes
	b.bytes = 0
	return nil
}
