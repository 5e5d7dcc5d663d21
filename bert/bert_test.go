package bert_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/bert"
)

// tiny is a model small enough to check every parameter, with sizes that differ.
func tiny() bert.Config {
	return bert.Config{Layers: 2, Hidden: 8, Heads: 2, Intermediate: 12, Vocab: 19, Positions: 9, TypeVocab: 2,
		Activation: backend.GeluErf, Eps: 1e-12, HasPooler: true, HasMLM: true, HasNSP: true, TiedDecoder: true}
}

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// padded is a random batch as padded arrays: lengths, holes in the mask, labels on
// masked positions.
type padded struct {
	ids, mask, types, mlm [][]int32
	nsp, labels           []int32
	sample                []uint64
}

func randomPadded(r *rand.Rand, cfg bert.Config, lens ...int) padded {
	var p padded
	width := 0
	for _, n := range lens {
		width = max(width, n)
	}
	for s, n := range lens {
		ids, mask, types, mlm := make([]int32, width), make([]int32, width), make([]int32, width), make([]int32, width)
		for i := range width {
			mlm[i] = bert.NoLabel
			ids[i] = int32(r.IntN(cfg.Vocab))
			types[i] = int32(r.IntN(max(cfg.TypeVocab, 1)))
			if i < n && (i == 0 || r.IntN(6) > 0) {
				mask[i] = 1
			}
			if r.IntN(3) == 0 {
				mlm[i] = int32(r.IntN(cfg.Vocab))
			}
		}
		p.ids, p.mask, p.types, p.mlm = append(p.ids, ids), append(p.mask, mask), append(p.types, types), append(p.mlm, mlm)
		p.nsp = append(p.nsp, int32(r.IntN(2)))
		p.labels = append(p.labels, int32(r.IntN(max(cfg.Classes, 1))))
		p.sample = append(p.sample, uint64(s)*7+3)
	}
	p.nsp[len(lens)-1] = bert.NoLabel
	return p
}

// pack packs what cfg has heads for.
func (p padded) pack(t testing.TB, cfg bert.Config) *bert.Batch {
	t.Helper()
	mlm, nsp, labels := p.mlm, p.nsp, p.labels
	if !cfg.HasMLM {
		mlm = nil
	}
	if !cfg.HasNSP {
		nsp = nil
	}
	if cfg.Classes == 0 {
		labels = nil
	}
	b, err := bert.PackPadded(p.ids, p.mask, p.types, mlm, nsp, labels, p.sample)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rig is a model with a workspace for gradients.
type rig struct {
	t testing.TB
	m *bert.Model
	w *bert.Workspace
}

func newRig(t testing.TB, dev backend.Device, cfg bert.Config, l bert.Limits, seed uint64) rig {
	t.Helper()
	m, err := bert.NewModel(dev, cfg, l)
	if err != nil {
		t.Fatal(err)
	}
	scatter(t, m, seed)
	r := rig{t: t, m: m}
	r.workspace()
	return r
}

func (r *rig) workspace() {
	r.t.Helper()
	w, err := r.m.NewWorkspace(bert.WorkspaceOptions{Limits: r.m.Limits(), Layers: r.m.Config().Layers, Grads: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.w = w
}

// scatter gives every parameter a value that matters: wide weights, biases that are not
// zero and gammas that are not one.
func scatter(t testing.TB, m *bert.Model, seed uint64) {
	t.Helper()
	g := rng(seed)
	flat := make([]float64, m.Parameters().Len())
	for _, p := range m.Params() {
		for i := range p.Len() {
			v := 0.3 * g.NormFloat64()
			if p.Kind == bert.Gamma {
				v += 1
			}
			flat[p.Offset+i] = float64(float32(v))
		}
	}
	check(t, m.Stream().UploadF64(m.Parameters(), flat))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mean(v []float64, n int) float64 {
	if n == 0 {
		return 0
	}
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s / float64(n)
}

func counted(labels []int32) int {
	n := 0
	for _, l := range labels {
		if l != bert.NoLabel {
			n++
		}
	}
	return n
}

// loss runs b and returns the loss of a step; with scale other than 0 gradients are added.
func (r rig) loss(b *bert.Batch, mode bert.Mode, scale float64) float64 {
	r.t.Helper()
	check(r.t, r.w.Load(b))
	n := r.m.Config().Layers
	r.w.Embed(mode)
	r.w.Encode(0, n)
	check(r.t, r.w.Heads(n, r.m.Objective(), scale))
	if scale != 0 {
		check(r.t, r.w.Backward())
	}
	l, err := r.m.Losses()
	check(r.t, err)
	return mean(l.MLM.Loss, len(l.MLM.Loss)) + mean(l.NSP.Loss, counted(b.NSPLabels)) + mean(l.Class.Loss, counted(b.Labels))
}

func (r rig) grads() []float64 {
	r.t.Helper()
	g := make([]float64, r.m.Grads().Len())
	check(r.t, r.m.Stream().DownloadF64(g, r.m.Grads()))
	return g
}

func (r rig) zero() { r.m.ZeroGrads() }

// samples is how many elements of each parameter are moved by hand.
const samples = 20

// Central differences of the whole model in float64, elements of every parameter.
func TestGradientsByFiniteDifferences(t *testing.T) {
	untied, plain, classes, tanh := tiny(), tiny(), tiny(), tiny()
	untied.TiedDecoder, untied.PositionOffset, untied.Positions = false, 2, 11
	plain.TypeVocab, plain.HasNSP, plain.HasPooler = 0, false, false
	classes.HasMLM, classes.HasNSP, classes.TiedDecoder, classes.Classes = false, false, false, 3
	tanh.Activation, tanh.Heads, tanh.Hidden, tanh.Intermediate = backend.GeluTanh, 1, 4, 5
	everything := tiny()
	everything.Classes = 3
	dropped := bert.Mode{Dropout: 0.3, AttentionDropout: 0.2, Seed: 11, Update: 5}
	for _, c := range []struct {
		name string
		cfg  bert.Config
		mode bert.Mode
		obj  *bert.Objective
	}{
		{"mlm+nsp tied", tiny(), bert.Mode{}, nil},
		{"mlm+nsp tied dropout", tiny(), dropped, nil},
		{"mlm+nsp untied", untied, dropped, nil},
		{"mlm only, no types, no pooler", plain, dropped, nil},
		{"classification", classes, bert.Mode{}, nil},
		{"classification dropout", classes, dropped, nil},
		{"gelu tanh, one head", tanh, dropped, nil},
		{"all heads", everything, dropped, &bert.Objective{MLM: true, NSP: true, Classification: true}},
		{"all heads, no dropout", everything, bert.Mode{}, &bert.Objective{MLM: true, NSP: true, Classification: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := randomPadded(rng(3), c.cfg, 6, 1, 8, 4).pack(t, c.cfg)
			r := newRig(t, cpu.NewReference(backend.F64), c.cfg, b.Limits(), 1)
			if c.obj != nil {
				check(t, r.m.SetObjective(*c.obj))
				r.workspace()
			}
			r.loss(b, c.mode, 1)
			got := r.grads()
			flat := make([]float64, len(got))
			check(t, r.m.Stream().DownloadF64(flat, r.m.Parameters()))
			const h = 1e-5
			checked, nonzero := 0, 0
			for i, p := range r.m.Params() {
				for n := range min(p.Len(), samples) {
					j := n * p.Len() / min(p.Len(), samples)
					k := p.Offset + j
					at := func(v float64) float64 {
						check(t, r.m.Stream().UploadF64(r.m.Parameters().ColRange(k, 1), []float64{v}))
						return r.loss(b, c.mode, 0)
					}
					want := (at(flat[k]+h) - at(flat[k]-h)) / (2 * h)
					at(flat[k])
					if !r.m.Trainable(i) {
						want = 0
					}
					if math.Abs(got[k]-want) > 1e-7+1e-5*math.Abs(want) {
						t.Fatalf("%s[%d]: gradient %g, by differences %g", p.Role, j, got[k], want)
					}
					checked++
					if got[k] != 0 {
						nonzero++
					}
				}
			}
			if nonzero < checked/2 {
				t.Errorf("only %d of %d gradients are not zero", nonzero, checked)
			}
		})
	}
}
