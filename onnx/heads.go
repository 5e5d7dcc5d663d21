package onnx

import (
	"strings"

	"sift/backend"
	"sift/bert"
)

// mlmHead is decoder(LayerNorm(gelu(transform(x)))).
type mlmHead struct {
	transform, decoder linear
	norm               *norm
	act                backend.Activation
}

// matchHeads says what every graph output is.
func (t *trunk) matchHeads() error {
	m := t.m
	for _, v := range m.f.Outputs {
		out := Output{Name: v.Name, Kind: "other"}
		s := m.strip(v.Name)
		if layer, ok := t.layerOf(s); ok {
			out.Kind, out.Layer = "hidden", layer
			t.outputs = append(t.outputs, out)
			continue
		}
		if pooler, err := t.poolerAt(s); err == nil {
			if err := t.setPooler(pooler, s); err != nil {
				return err
			}
			out.Kind = "pooled"
			t.outputs = append(t.outputs, out)
			continue
		}
		kind, err := t.headAt(v.Name)
		if err != nil {
			t.firstMisfit(err)
		} else {
			out.Kind = kind
		}
		t.outputs = append(t.outputs, out)
	}
	return t.checkHeads()
}

// checkHeads fails if no output at all was recognised.
func (t *trunk) checkHeads() error {
	for _, o := range t.outputs {
		if o.Kind != "other" {
			return t.nameHeads()
		}
	}
	return t.misfit
}

func (t *trunk) firstMisfit(err error) {
	if t.misfit == nil {
		t.misfit = err
	}
}

// layerOf returns the number of layers below a value of the trunk.
func (t *trunk) layerOf(value string) (int, bool) {
	for i, v := range t.states {
		if v == value {
			return i, true
		}
	}
	return 0, false
}

// poolerAt recognises tanh(linear(first token of the last layer)).
func (t *trunk) poolerAt(value string) (l linear, err error) {
	m := t.m
	n := m.writer(m.strip(value))
	switch {
	case is(n, "Tanh"):
		l, err = m.linearAt(in(n, 0), "pooler")
	case n != nil && n.Domain == microsoft && n.OpType == "FusedGemm" && string(n.Attrs["activation"].S) == "Tanh":
		l, err = m.linearOf(sum{terms: []string{first(n)}}, value, "pooler")
	default:
		err = m.misfit(value, "pooler: Tanh")
	}
	if err != nil {
		return l, err
	}
	x, ok := m.firstToken(l.x)
	if !ok || m.strip(x) != t.last() {
		return l, m.misfit(l.x, "pooler: the first token of the last layer")
	}
	return l, nil
}

func (t *trunk) setPooler(l linear, value string) error {
	if t.pooler != nil && (t.pooler.w.t != l.w.t || t.pooler.b.t != l.b.t) {
		return t.m.misfitNode(l.node, "one pooler", "a second")
	}
	if t.pooler == nil {
		t.pooler, t.pooled = &l, value
	}
	return nil
}

// firstToken recognises x[:,0]: Gather of index 0 on axis 1, or a Slice of one row whose
// axis is then dropped.
func (m *matcher) firstToken(value string) (x string, ok bool) {
	sliced := false
	for steps := 0; steps < 8; steps++ {
		value = m.skip(value)
		n := m.writer(value)
		switch {
		case is(n, "Gather") && n.Int("axis", 0) == 1:
			at, ok := m.integers(in(n, 1))
			return in(n, 0), ok && len(at) == 1 && at[0] == known(0)
		case is(n, "Slice"):
			axis, from, to, ok := m.sliceRange(n)
			if !ok || axis != 1 || from != known(0) || to != known(1) {
				return "", false
			}
			sliced = true
			value = in(n, 0)
		case is(n, "Squeeze"), is(n, "Reshape"):
			value = in(n, 0)
		default:
			return value, sliced
		}
		if sliced {
			return value, true
		}
	}
	return "", false
}

// headAt recognises an output as that of a head and notes the head.
func (t *trunk) headAt(value string) (kind string, err error) {
	m := t.m
	if of, ok := m.splitOf(value); ok {
		l, err := m.linearAt(of, "question answering")
		if err == nil && l.out == 2 && m.strip(l.x) == t.last() {
			return "qa", t.setHead(&t.qa, l)
		}
	}
	l, err := m.linearAt(value, "head")
	if err != nil {
		return "", err
	}
	x := m.strip(l.x)
	if x == t.last() {
		return "token", t.setHead(&t.token, l)
	}
	if pooler, err := t.poolerAt(x); err == nil {
		if err := t.setPooler(pooler, x); err != nil {
			return "", err
		}
		return "classifier", t.setClassifier(l)
	}
	if n := m.normOf[x]; n != nil {
		return "mlm", t.setMLM(n, l)
	}
	return "", m.misfit(x, "head: the last layer, the pooler or a masked-LM transform as its input")
}

func (t *trunk) setHead(head **linear, l linear) error {
	if *head != nil && (*head).w.t != l.w.t {
		return t.m.misfitNode(l.node, "one head of this kind", "a second")
	}
	if *head == nil {
		*head = &l
	}
	return nil
}

// setClassifier notes a linear map of the pooled output; nameHeads says later whether it
// is the next-sentence head.
func (t *trunk) setClassifier(l linear) error {
	for _, other := range t.onPooled {
		if other.w.t == l.w.t {
			return nil
		}
	}
	if len(t.onPooled) == 2 {
		return t.m.misfitNode(l.node, "at most two heads on the pooled output", "a third")
	}
	t.onPooled = append(t.onPooled, l)
	return nil
}

func (t *trunk) setMLM(n *norm, decoder linear) error {
	m := t.m
	if t.mlm != nil {
		if t.mlm.decoder.w.t == decoder.w.t {
			return nil
		}
		return m.misfitNode(decoder.node, "one masked-LM head", "a second")
	}
	if n.z == "" || n.sum.bias != nil || len(n.sum.terms) != 1 {
		return m.misfitNode(n.node, "masked-LM head: LayerNorm of one activation", describe(n.node))
	}
	h := &mlmHead{decoder: decoder, norm: n}
	var err error
	if h.act, h.transform, err = m.activated(n.z, "masked-LM transform"); err != nil {
		return err
	}
	if m.strip(h.transform.x) != t.last() {
		return m.misfitNode(h.transform.node, "masked-LM transform of the last layer", "of "+quote(h.transform.x))
	}
	if decoder.out != t.vocab() {
		return m.misfitNode(decoder.node, "masked-LM decoder to a vocabulary of "+itoa(t.vocab()), itoa(decoder.out))
	}
	t.mlm = h
	return nil
}

// activated recognises value as act(linear(x)).
func (m *matcher) activated(value, what string) (act backend.Activation, l linear, err error) {
	act, x, bias, err := m.activationAt(m.strip(value), what)
	if err != nil {
		return act, l, err
	}
	if bias == nil {
		l, err = m.linearAt(x, what)
		return act, l, err
	}
	s := m.addends(m.strip(x))
	if s.bias == nil {
		s.bias = bias
	} else {
		s.terms = append(s.terms, "") // two biases do not fit
	}
	l, err = m.linearOf(s, x, what)
	return act, l, err
}

// splitOf recognises one column of a value with two: an output of Split or an index into
// the last axis, squeezed.
func (m *matcher) splitOf(value string) (of string, ok bool) {
	for steps := 0; steps < 6; steps++ {
		value = m.skip(value)
		n := m.writer(value)
		switch {
		case is(n, "Split"):
			return in(n, 0), len(n.Outputs) == 2 && m.lastAxis(n.Int("axis", 0), in(n, 0))
		case is(n, "Gather"):
			at, ok := m.integers(in(n, 1))
			return in(n, 0), ok && len(at) == 1 && m.lastAxis(n.Int("axis", 0), in(n, 0))
		case is(n, "Slice"):
			axis, from, to, ok := m.sliceRange(n)
			return in(n, 0), ok && m.lastAxis(axis, in(n, 0)) && from.known && to.known && to.v == from.v+1
		case is(n, "Squeeze"):
			value = in(n, 0)
		default:
			return "", false
		}
	}
	return "", false
}

// nameHeads decides what the heads on the pooled output are. A next-sentence head and a
// classifier of two classes have the same shape, so here alone the name of the weight may
// say which it is; where it says nothing, it is the next-sentence head if there is a
// masked-LM head too, and a classifier otherwise.
func (t *trunk) nameHeads() error {
	for i := range t.onPooled {
		l := &t.onPooled[i]
		named := strings.Contains(l.w.name, "seq_relationship") || strings.Contains(l.b.name, "seq_relationship")
		classifier := strings.Contains(l.w.name, "classifier") || strings.Contains(l.b.name, "classifier")
		if l.out == 2 && (t.mlm != nil && !classifier || named) && t.nsp == nil {
			t.nsp = l
		} else if t.classifier == nil {
			t.classifier = l
		} else {
			return t.m.misfitNode(l.node, "one classifier", "a second")
		}
	}
	for i := range t.outputs {
		o := &t.outputs[i]
		if o.Kind != "classifier" {
			continue
		}
		o.Kind = "logits"
		if l, err := t.m.linearAt(o.Name, "head"); err == nil && t.nsp != nil && l.w.t == t.nsp.w.t {
			o.Kind = "nsp"
		}
	}
	return nil
}

// architecture names what was found as Hugging Face does.
func (t *trunk) architecture(cfg bert.Config) string {
	family := "Bert"
	switch {
	case cfg.PositionOffset > 0:
		family = "Roberta"
	case cfg.TypeVocab == 0:
		family = "DistilBert"
	}
	switch {
	case t.mlm != nil && t.nsp != nil:
		return family + "ForPreTraining"
	case t.mlm != nil:
		return family + "ForMaskedLM"
	case t.classifier != nil:
		return family + "ForSequenceClassification"
	case t.nsp != nil:
		return family + "ForNextSentencePrediction"
	case t.token != nil:
		return family + "ForTokenClassification"
	case t.qa != nil:
		return family + "ForQuestionAnswering"
	}
	return family + "Model"
}
