package bert

import (
	"sift/backend"
	"sift/fault"
)

// Objective says which losses are trained. Their sum is the loss of a step.
type Objective struct{ MLM, NSP, Classification bool }

// SetObjective chooses the losses. Parameters of heads that no chosen loss reads are
// not trainable. Workspaces for gradients are made after it.
func (m *Model) SetObjective(o Objective) error {
	switch c := m.cfg; {
	case o.MLM && !c.HasMLM:
		return fault.New(fault.Config, "model: it has no masked-LM head to train")
	case o.NSP && !c.HasNSP:
		return fault.New(fault.Config, "model: it has no next-sentence head to train")
	case o.Classification && c.Classes < 2:
		return fault.New(fault.Config, "model: a classifier of %d classes cannot be trained", c.Classes)
	}
	m.objective = o
	m.bind()
	return nil
}

// Objective returns the chosen losses.
func (m *Model) Objective() Objective { return m.objective }

// FreezeLayers freezes the lowest part of the trunk: -1 nothing, 0 the embeddings, n the
// embeddings and n layers. Backward stops above it. A decoder tied to frozen word
// embeddings is frozen with them.
func (m *Model) FreezeLayers(n int) error {
	if n < -1 || n > m.cfg.Layers {
		return fault.New(fault.Config, "train.freeze: %d layers, the model has %d", n, m.cfg.Layers)
	}
	return m.SetTrainable(func(p Param) bool { return p.Stage > n })
}

// SetTrainable freezes each parameter for which f is false, in place of what was frozen
// before. Query, key and value of a layer are one matrix and go together.
func (m *Model) SetTrainable(f func(Param) bool) error {
	unfrozen := make([]bool, len(m.params))
	for i, p := range m.params {
		unfrozen[i] = f(p)
	}
	for n := range m.cfg.Layers {
		for _, bias := range []bool{false, true} {
			q := m.index[RoleLayer(n, PartQuery, bias)] // key and value follow
			if unfrozen[q] != unfrozen[q+1] || unfrozen[q] != unfrozen[q+2] {
				return fault.New(fault.Config, "%s: query, key and value are frozen together or not at all", m.params[q].Role)
			}
		}
	}
	m.unfrozen = unfrozen
	m.bind()
	return nil
}

// Trainable reports whether parameter i of Params receives a gradient.
func (m *Model) Trainable(i int) bool { return m.trainable[i] }

// reads reports whether a loss of the objective depends on a head.
func (o Objective) reads(h Head) bool {
	switch h {
	case Trunk:
		return true
	case HeadPooler:
		return o.NSP || o.Classification
	case HeadMLM:
		return o.MLM
	case HeadNSP:
		return o.NSP
	case HeadClassifier:
		return o.Classification
	}
	return false
}

// bind points the layers at their parameters and, where trainable, at their gradients.
func (m *Model) bind() {
	c := m.cfg
	m.lowest = c.Layers + 1
	for i, p := range m.params {
		m.trainable[i] = m.unfrozen[i] && m.objective.reads(p.Head)
		if m.trainable[i] {
			m.lowest = min(m.lowest, p.Stage)
		}
	}
	e := &m.embeddings
	e.word, e.dWord = m.bound(RoleWord)
	e.position, e.dPosition = m.bound(RolePosition)
	if c.TypeVocab > 0 {
		e.kind, e.dKind = m.bound(RoleTokenType)
	}
	e.norm = m.norm(RoleEmbeddingsGamma, RoleEmbeddingsBeta)
	for n := range m.blocks {
		part := func(name string) linear { return m.linear(RoleLayer(n, name, false), RoleLayer(n, name, true)) }
		qkv := part(PartQuery)
		for _, t := range []*backend.Tensor{&qkv.W, &qkv.DW} { // key and value follow query
			t.Rows *= 3
		}
		for _, t := range []*backend.Tensor{&qkv.B, &qkv.DB} {
			t.Cols *= 3
			t.Stride = t.Cols
		}
		m.blocks[n] = block{
			attention: attention{qkv: qkv, out: part(PartAttentionOutput), heads: c.Heads, site: Site(n, 0),
				norm: m.norm(RoleLayer(n, PartAttentionNorm, false), RoleLayer(n, PartAttentionNorm, true))},
			ff: feedForward{up: part(PartIntermediate), down: part(PartOutput), act: c.Activation, site: Site(n, 0),
				norm: m.norm(RoleLayer(n, PartOutputNorm, false), RoleLayer(n, PartOutputNorm, true))},
		}
	}
	m.bindHeads()
}

func (m *Model) bindHeads() {
	c, h := m.cfg, &m.heads
	if c.HasPooler {
		h.pooler = m.linear(RolePoolerWeight, RolePoolerBias)
	}
	if c.HasNSP {
		h.nsp = m.linear(RoleNSPWeight, RoleNSPBias)
	}
	if c.Classes > 0 {
		h.classifier = m.linear(RoleClassWeight, RoleClassBias)
	}
	if c.HasMLM {
		decoder := RoleDecoderWeight
		if c.TiedDecoder {
			decoder = RoleWord
		}
		h.mlm = mlmHead{transform: m.linear(RoleTransformWeight, RoleTransformBias), act: c.Activation,
			norm: m.norm(RoleMLMGamma, RoleMLMBeta), decoder: m.linear(decoder, RoleDecoderBias)}
	}
}

// bound returns a parameter and its gradient, absent if not trainable.
func (m *Model) bound(role string) (value, grad backend.Tensor) {
	i := m.index[role]
	if m.trainable[i] {
		grad = m.params[i].part(m.grads)
	}
	return m.params[i].part(m.flat), grad
}

func (m *Model) linear(weight, bias string) linear {
	var l linear
	l.W, l.DW = m.bound(weight)
	if !m.half.Absent() {
		l.W = m.params[m.index[weight]].part(m.half)
	}
	l.B, l.DB = m.bound(bias)
	return l
}

func (m *Model) norm(gamma, beta string) norm {
	l := norm{Eps: m.cfg.Eps}
	l.Gamma, l.DGamma = m.bound(gamma)
	l.Beta, l.DBeta = m.bound(beta)
	return l
}
