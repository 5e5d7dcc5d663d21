package bert

import (
	"sift/backend"
	"sift/fault"
)

// Mode is the regularisation of a pass; the zero Mode has none. Masks depend on Seed,
// Update and each sequence's sample id, see backend.Drop.
type Mode struct {
	Dropout, AttentionDropout float64
	Seed                      uint64
	Update                    uint32
}

// pass is what the layers need to know of the batch at hand.
type pass struct {
	layout backend.Layout
	mode   Mode
}

func (p *pass) drop(site uint32) backend.Drop {
	return p.dropKeyed(p.mode.Dropout, site, p.layout.RowKey)
}

func (p *pass) attentionDrop(site uint32) backend.Drop {
	return p.dropKeyed(p.mode.AttentionDropout, site, p.layout.RowKey)
}

func (p *pass) dropKeyed(prob float64, site uint32, key backend.Tensor) backend.Drop {
	if prob == 0 {
		return backend.Drop{}
	}
	return backend.Drop{P: prob, Seed: p.mode.Seed, Site: site, Update: p.mode.Update, RowKey: key}
}

// WorkspaceOptions say what a workspace is for.
type WorkspaceOptions struct {
	Limits Limits
	Layers int  // it can run the embeddings and this many layers
	Keep   bool // keep what the backward pass of the trainable stages needs
	Grads  bool // hold the scratch of the backward pass; implies Keep
}

// Workspace is the memory of one batch in the trunk: its integers, the activations of
// each layer, and the scratch of the backward pass. Layers that need no backward pass
// share one set of activations.
type Workspace struct {
	m      *Model
	opt    WorkspaceOptions
	lowest int // lowest stage that keeps activations; above Layers: none
	arena  *backend.Arena
	in     inputs
	pass   pass

	x     []backend.Tensor // [T,H] x[0]: embeddings; x[n]: output of layer n-1, counted from 0
	embed normActs
	acts  []blockActs
	tmp   backend.Tensor // [T,H] forward scratch
	take  backend.Tensor // I32 [1,T] rows of another workspace

	g0, g1, g2 backend.Tensor // [T,H] backward scratch; g0 carries the gradient down
	big, delta backend.Tensor // [T,max(I,3H)], [T,heads]
}

// blockActs is what a block keeps: y1 is the attention half's output.
type blockActs struct {
	attention attentionActs
	y1        backend.Tensor // [T,H]
	ff        feedForwardActs
}

// NewWorkspace allocates a workspace for the parameters that are trainable now. Its
// limits may not exceed the model's.
func (m *Model) NewWorkspace(opt WorkspaceOptions) (*Workspace, error) {
	if !opt.Limits.Fits(m.limits) || opt.Layers < 0 || opt.Layers > m.cfg.Layers {
		return nil, fault.New(fault.Internal, "bert: workspace %+v exceeds the model's limits %+v", opt, m.limits)
	}
	opt.Keep = opt.Keep || opt.Grads
	w := &Workspace{m: m, opt: opt, lowest: m.lowest}
	if !opt.Keep {
		w.lowest = m.cfg.Layers + 1
	}
	counter := backend.NewCounter()
	if err := w.allocate(counter); err != nil {
		return nil, err
	}
	arena, err := backend.NewArena(m.s.Device(), counter.Peak())
	if err != nil {
		return nil, err
	}
	if err := w.allocate(arena); err != nil {
		return nil, err
	}
	w.arena = arena
	m.memory += arena.Size()
	m.workspaces[w] = true
	return w, nil
}

// Free returns the memory to the device; a second time it does nothing.
func (w *Workspace) Free() error {
	if !w.m.workspaces[w] {
		return nil
	}
	delete(w.m.workspaces, w)
	w.m.memory -= w.arena.Size()
	return w.arena.Free()
}

// allocate takes every tensor from arena. It runs twice, first to count.
func (w *Workspace) allocate(arena *backend.Arena) error {
	a := newAllocator(arena, w.m.s)
	c, l := w.m.cfg, w.opt.Limits
	t, h := l.Rows, c.Hidden
	w.in = newInputs(a, l)
	w.take = a.ints(1, t)
	w.x, w.acts = make([]backend.Tensor, w.opt.Layers+1), make([]blockActs, w.opt.Layers)
	var shared blockActs
	var sharedX backend.Tensor
	for n := range w.x {
		if w.keepsInput(n) || sharedX.Absent() {
			w.x[n] = a.acts(t, h)
			if !w.keepsInput(n) {
				sharedX = w.x[n]
			}
		} else {
			w.x[n] = sharedX
		}
		if n == w.opt.Layers {
			break
		}
		switch {
		case w.keeps(n):
			w.acts[n] = a.block(c, t, true)
		case shared.y1.Absent():
			shared = a.block(c, t, false)
			fallthrough
		default:
			w.acts[n] = shared
		}
	}
	if w.opt.Grads && w.lowest <= c.Layers {
		w.g0, w.g1, w.g2 = a.acts(t, h), a.acts(t, h), a.acts(t, h)
		w.big, w.delta = a.acts(t, max(c.Intermediate, 3*h)), a.floats(t, c.Heads)
		w.tmp = w.g1 // the forward pass is over when the backward pass begins
	} else {
		w.tmp = a.acts(t, h)
	}
	w.embed = normActs{w.tmp, a.floats(t, 1), a.floats(t, 1)}
	if w.lowest == StageEmbeddings {
		w.embed.Z = a.acts(t, h)
	}
	return a.err
}

// keeps reports whether layer n, from 0, keeps its activations.
func (w *Workspace) keeps(n int) bool { return n+1 >= w.lowest }

// keepsInput reports whether x[n] must survive: layer n reads it going backward.
func (w *Workspace) keepsInput(n int) bool { return n < w.m.cfg.Layers && w.keeps(n) }

// Load validates b and uploads it.
func (w *Workspace) Load(b *Batch) error {
	if err := b.Validate(w.m.cfg); err != nil {
		return err
	}
	if err := w.in.load(w.m.s, b, w.m.cfg.PositionOffset); err != nil {
		return err
	}
	w.pass.layout = w.in.layout(b.MaxLen)
	return nil
}

// allocator takes tensors from an arena and keeps the first error.
type allocator struct {
	arena *backend.Arena
	float backend.DType // statistics, logits, losses
	act   backend.DType // activations
	err   error
}

func newAllocator(arena *backend.Arena, s *backend.Stream) *allocator {
	return &allocator{arena: arena, float: s.Float(), act: s.Act()}
}

func (a *allocator) alloc(d backend.DType, rows, cols int) backend.Tensor {
	if a.err != nil {
		return backend.Tensor{}
	}
	var t backend.Tensor
	t, a.err = a.arena.Alloc(d, rows, cols)
	return t
}

func (a *allocator) floats(rows, cols int) backend.Tensor { return a.alloc(a.float, rows, cols) }
func (a *allocator) acts(rows, cols int) backend.Tensor   { return a.alloc(a.act, rows, cols) }
func (a *allocator) ints(rows, cols int) backend.Tensor   { return a.alloc(backend.I32, rows, cols) }

func (a *allocator) norm(t, h int) normActs {
	return normActs{a.acts(t, h), a.floats(t, 1), a.floats(t, 1)}
}

// block allocates a block's activations; without keep, what only its backward pass
// needs is absent or shared.
func (a *allocator) block(c Config, t int, keep bool) blockActs {
	h := c.Hidden
	b := blockActs{
		attention: attentionActs{a.acts(t, 3*h), a.acts(t, h), a.floats(t, c.Heads), a.norm(t, h)},
		y1:        a.acts(t, h),
		ff:        feedForwardActs{u: a.acts(t, c.Intermediate)},
	}
	if keep {
		b.ff.pre, b.ff.norm = a.acts(t, c.Intermediate), a.norm(t, h)
	} else {
		b.ff.norm = b.attention.norm
	}
	return b
}

// view returns the first rows*cols elements of the contiguous t as rows x cols.
func view(t backend.Tensor, rows, cols int) backend.Tensor {
	return t.Reshape(1, t.Len()).ColRange(0, rows*cols).Reshape(rows, cols)
}
