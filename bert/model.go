package bert

import (
	"math"

	"sift/backend"
	"sift/fault"
)

// Model holds the parameters of a Config on a device, their gradients, the heads' memory
// and a workspace to run it forward. Training memory belongs to further workspaces.
// A Model is used by one goroutine at a time.
type Model struct {
	cfg    Config
	limits Limits
	params []Param
	index  map[string]int

	s           *backend.Stream
	flat, grads backend.Tensor // [1,FlatLen]
	half        backend.Tensor // flat rounded to the type of activations, for products; absent where that is flat's
	arena       *backend.Arena // of the heads
	memory      int64

	objective Objective
	unfrozen  []bool // by parameter: not frozen by the caller
	trainable []bool // and read by the objective
	lowest    int    // lowest stage with a trainable parameter; Layers+1 if only heads have

	embeddings embeddings
	blocks     []block
	heads      heads
	infer      *Workspace
	workspaces map[*Workspace]bool // that hold memory
}

// NewModel allocates a model whose parameters are all zero. No batch given to it, or to
// a workspace of it, may exceed limits. The objective is classification if cfg has
// classes, else masked LM and next sentence as far as cfg has those heads.
func NewModel(dev backend.Device, cfg Config, limits Limits) (*Model, error) {
	m, err := newModel(dev, cfg, limits)
	if err != nil {
		if m != nil {
			m.Free()
		}
		return nil, err
	}
	return m, nil
}

// newModel returns what it has allocated beside an error.
func newModel(dev backend.Device, cfg Config, limits Limits) (*Model, error) {
	params, err := Params(cfg)
	if err != nil {
		return nil, err
	}
	if err := limits.validate(cfg); err != nil {
		return nil, err
	}
	m := &Model{cfg: cfg, limits: limits, params: params, index: make(map[string]int, len(params)),
		s: backend.NewStream(dev), workspaces: map[*Workspace]bool{}}
	for i, p := range params {
		m.index[p.Role] = i
	}
	n := FlatLen(params)
	for _, t := range []*backend.Tensor{&m.flat, &m.grads} {
		if *t, err = backend.Alloc(dev, m.s.Float(), 1, n); err != nil {
			return m, err
		}
		m.memory += t.Buf.Bytes()
	}
	if m.s.Act() != m.s.Float() {
		if m.half, err = backend.Alloc(dev, m.s.Act(), 1, n); err != nil {
			return m, err
		}
		m.memory += m.half.Buf.Bytes()
	}
	if err := m.allocateHeads(); err != nil {
		return m, err
	}
	if m.heads.pending, err = m.NewPending(); err != nil {
		return m, err
	}
	m.unfrozen, m.trainable = make([]bool, len(params)), make([]bool, len(params))
	for i := range m.unfrozen {
		m.unfrozen[i] = true
	}
	m.blocks = make([]block, cfg.Layers)
	if cfg.Classes > 0 {
		m.objective = Objective{Classification: true}
	} else {
		m.objective = Objective{MLM: cfg.HasMLM, NSP: cfg.HasNSP}
	}
	m.bind()
	if m.infer, err = m.NewWorkspace(WorkspaceOptions{Limits: limits, Layers: cfg.Layers}); err != nil {
		return m, err
	}
	return m, m.s.Sync()
}

// validate refuses limits that no batch of cfg can have or that overflow 32-bit rows.
func (l Limits) validate(cfg Config) error {
	switch {
	case l.Rows < 1 || l.Seqs < 1 || l.MaxLen < 1 || l.Labelled < 0 || l.Labelled > l.Rows:
		return fault.New(fault.Config, "batch: %d tokens, %d sequences, longest %d, %d labels cannot be", l.Rows, l.Seqs, l.MaxLen, l.Labelled)
	case l.Rows > math.MaxInt32/4 || l.Seqs > l.Rows:
		return fault.New(fault.Config, "batch: %d sequences of %d tokens in all are too many", l.Seqs, l.Rows)
	case l.MaxLen > cfg.MaxTokens():
		return fault.New(fault.Config, "batch: sequences of %d tokens, the model's position table allows %d", l.MaxLen, cfg.MaxTokens())
	}
	return nil
}

// allocateHeads takes the memory of the heads, first counting it.
func (m *Model) allocateHeads() error {
	take := func(arena *backend.Arena) error {
		a := newAllocator(arena, m.s)
		h := &m.heads
		if m.cfg.HasMLM {
			h.m = a.mlm(m.cfg, m.limits.Labelled)
			h.mlmStats = a.stats(m.limits.Labelled)
		}
		if m.cfg.HasPooler {
			h.p = a.pooled(m.cfg, m.limits.Seqs)
			h.nspStats, h.classStats = a.stats(m.limits.Seqs), a.stats(m.limits.Seqs)
		}
		return a.err
	}
	counter := backend.NewCounter()
	err := take(counter)
	if err == nil {
		m.arena, err = backend.NewArena(m.s.Device(), counter.Peak())
	}
	if err == nil {
		m.memory += m.arena.Size()
		err = take(m.arena)
	}
	return err
}

// Free returns the memory of the model and of all its workspaces to the device.
func (m *Model) Free() error {
	err := m.s.Sync()
	first := func(e error) {
		if err == nil {
			err = e
		}
	}
	for w := range m.workspaces {
		first(w.Free())
	}
	first(m.heads.pending.Free())
	if m.arena != nil {
		first(m.arena.Free())
	}
	for _, t := range []backend.Tensor{m.flat, m.grads, m.half} {
		if !t.Absent() {
			first(t.Buf.Free())
		}
	}
	m.memory, m.arena, m.flat, m.grads, m.half = 0, nil, backend.Tensor{}, backend.Tensor{}, backend.Tensor{}
	return err
}

// Config returns the configuration.
func (m *Model) Config() Config { return m.cfg }

// Limits returns the limits that memory was sized for.
func (m *Model) Limits() Limits { return m.limits }

// Params lists the parameters in the order of the flat buffers.
func (m *Model) Params() []Param { return m.params }

// Parameters returns the flat buffer [1,FlatLen] of all parameters. Whoever writes to it
// must call Refresh, or write Half too.
func (m *Model) Parameters() backend.Tensor { return m.flat }

// Half returns Parameters rounded to the type of activations, which matrix products read;
// it is absent where that is the type of Parameters.
func (m *Model) Half() backend.Tensor { return m.half }

// Refresh sets Half from Parameters.
func (m *Model) Refresh() {
	if !m.half.Absent() {
		m.s.Convert(m.half, m.flat)
	}
}

// Grads returns the flat buffer of all gradients, laid out as Parameters. Backward adds
// to it; the optimiser's step zeroes what it reads. Where a parameter is not trainable
// it stays zero.
func (m *Model) Grads() backend.Tensor { return m.grads }

// Stream returns the stream that all of the model's work goes through.
func (m *Model) Stream() *backend.Stream { return m.s }

// On makes the model's work go through s, its own stream or a fork of that, and returns the
// stream before. Whoever does so sees to it that no two streams use the same workspace, or
// the heads, at a time (backend.Stream.After).
func (m *Model) On(s *backend.Stream) *backend.Stream {
	before := m.s
	m.s = s
	return before
}

// MemoryBytes returns the device memory held: parameters, gradients, heads and all
// workspaces.
func (m *Model) MemoryBytes() int64 { return m.memory }

// Inference returns the workspace of the methods that run the model forward. It runs any
// batch within the limits through all layers and keeps nothing for a backward pass.
func (m *Model) Inference() *Workspace { return m.infer }

// part returns parameter p in a flat buffer as [Rows,Cols].
func (p Param) part(flat backend.Tensor) backend.Tensor {
	return flat.ColRange(p.Offset, p.Len()).Reshape(p.Rows, p.Cols)
}

// ZeroGrads sets all gradients to 0.
func (m *Model) ZeroGrads() { m.s.Zero(m.grads) }

// Init draws fresh parameters, as InitMissing does.
func (m *Model) Init(seed uint64) error {
	for _, p := range m.params {
		if err := m.s.UploadF32(p.part(m.flat), freshValues(p, seed)); err != nil {
			return err
		}
	}
	m.Refresh()
	return m.s.Err()
}

// SetWeights uploads all parameters; w must pass Check.
func (m *Model) SetWeights(w Weights) error {
	if err := w.Check(m.cfg); err != nil {
		return err
	}
	for _, p := range m.params {
		if err := m.s.UploadF32(p.part(m.flat), w[p.Role]); err != nil {
			return err
		}
	}
	m.Refresh()
	return m.s.Err()
}

// Weights downloads all parameters.
func (m *Model) Weights() (Weights, error) {
	w := make(Weights, len(m.params))
	for _, p := range m.params {
		w[p.Role] = make([]float32, p.Len())
		if err := m.s.DownloadF32(w[p.Role], p.part(m.flat)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Gradients downloads the gradients of all trainable parameters.
func (m *Model) Gradients() (Weights, error) {
	w := make(Weights, len(m.params))
	for i, p := range m.params {
		if !m.trainable[i] {
			continue
		}
		w[p.Role] = make([]float32, p.Len())
		if err := m.s.DownloadF32(w[p.Role], p.part(m.grads)); err != nil {
			return nil, err
		}
	}
	return w, nil
}
