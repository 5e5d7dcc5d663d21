package onnx

import (
	"strconv"
	"strings"

	"sift/bert"
	"sift/fault"
)

// Match is what was recognised in a graph: the configuration, and where each parameter is.
type Match struct {
	File         *File
	Config       bert.Config
	Architecture string    // as Hugging Face names it: BertForPreTraining, BertModel, ...
	Roles        []Binding // in the order of bert.Params, then a copied decoder
	TiedDecoder  bool      // the masked-LM decoder is the word embedding, or an equal copy of it
	Inputs       Inputs
	Outputs      []Output // in the file's order
	Unrecognised []*Node  // nodes that no recognised output depends on
	// AllowNonFinite makes Load accept weights that are NaN or infinite.
	AllowNonFinite bool

	byRole map[string]int // indices into Roles
	hidden string         // the value after the last layer
	pooled string         // the value after the pooler, "" if there is none
	g      *topology
}

// Inputs names the graph's inputs; those that the graph does not have are empty.
type Inputs struct{ IDs, Mask, Types, Positions string }

// Output is a graph output. Kind is "hidden" (after layer Layer), "pooled", "mlm", "nsp",
// "logits" (sequence classification), "token", "qa", or "other" if not recognised.
type Output struct {
	Name, Kind string
	Layer      int
}

// Recognise finds a BERT-family encoder in a graph by its shape; names play no part. An
// error names the first node that did not fit, what was expected and what was found.
func Recognise(f *File) (*Match, error) {
	m, err := recognise(f)
	if err != nil {
		return nil, inFile(f.Path, err)
	}
	return m, nil
}

func recognise(f *File) (*Match, error) {
	if err := supported(f); err != nil {
		return nil, err
	}
	g, err := f.topology()
	if err != nil {
		return nil, err
	}
	m := newMatcher(f, g)
	m.findNorms()
	t := &trunk{m: m}
	if err := t.matchTrunk(); err != nil {
		return nil, err
	}
	if err := t.matchHeads(); err != nil {
		return nil, err
	}
	return t.result()
}

func newMatcher(f *File, g *topology) *matcher {
	m := &matcher{
		f: f, g: g, inputs: map[string]int{},
		ints: map[string][]dim{}, shapes: map[string][]dim{}, scalars: map[string]number{}, uniforms: map[string]number{},
		normOf: map[string]*norm{}, indexes: map[string]index{}, masks: map[string]*maskValue{},
	}
	for i, v := range f.Inputs {
		m.inputs[v.Name] = i
	}
	return m
}

// Operator sets of the default domain whose meaning of the operations here is known.
const firstOpset, lastOpset = 7, 24

// supported refuses graphs by what they contain, before their shape is looked at.
func supported(f *File) error {
	opset := f.Opset()
	if opset < firstOpset || opset > lastOpset {
		return fault.New(fault.Data, "operator set: version %d of the default domain is not supported, %d to %d are", opset, firstOpset, lastOpset)
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if quantised(n.OpType) {
			return fault.New(fault.Data, "%s: quantised graphs are not supported; import the float model", n)
		}
	}
	if f.Sparse > 0 {
		return fault.New(fault.Data, "graph %s: sparse initializers are not supported", quote(f.GraphName))
	}
	return nil
}

// quantised reports whether an operation belongs to quantised graphs.
func quantised(op string) bool {
	switch op {
	case "MatMulInteger", "ConvInteger", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
		"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4",
		"GatherBlockQuantized", "QAttention", "QGemm", "QEmbedLayerNormalization", "QOrderedMatMul":
		return true
	}
	return strings.HasPrefix(op, "QLinear") || strings.HasPrefix(op, "QOrdered") || strings.HasPrefix(op, "Quantize") ||
		strings.HasPrefix(op, "Dequantize")
}

// result turns what was recognised into a Match.
func (t *trunk) result() (*Match, error) {
	r := &Match{File: t.m.f, g: t.m.g, Outputs: t.outputs, byRole: map[string]int{}, hidden: t.last(), pooled: t.pooled}
	lowest := &t.layers[0]
	cfg := bert.Config{
		Layers: len(t.layers), Hidden: int(t.embed.norm.width), Heads: int(lowest.attention.heads),
		Intermediate: int(lowest.intermediate.out), Vocab: int(t.vocab()), Positions: rows(t.embed.position) / int(max(t.embed.repeat, 1)),
		PositionOffset: int(t.embed.offset), Activation: lowest.act, Eps: shortest(t.embed.norm.eps),
		HasPooler: t.pooler != nil, HasMLM: t.mlm != nil, HasNSP: t.nsp != nil, HasQA: t.qa != nil,
		MaskValue: lowest.attention.maskValue,
	}
	if t.embed.types != nil {
		cfg.TypeVocab = rows(*t.embed.types) / int(max(t.embed.typeRepeat, 1))
	}
	if t.classifier != nil {
		cfg.Classes = int(t.classifier.out)
	}
	if t.token != nil {
		cfg.TokenClasses = int(t.token.out)
	}
	r.Inputs = Inputs{IDs: t.embed.ids, Mask: lowest.attention.mask, Types: t.embed.typeIDs, Positions: t.embed.positionIDs}
	if x := r.Inputs; x.Mask != "" && (x.Mask == x.IDs || x.Mask == x.Types || x.Mask == x.Positions) {
		return nil, t.m.misfitNode(lowest.attention.node, "an attention mask of its own input", "one computed from "+quote(x.Mask))
	}
	if err := t.mlmConsistent(&cfg); err != nil {
		return nil, err
	}
	r.Config = cfg
	if err := t.bindAll(r); err != nil {
		return nil, err
	}
	if err := r.decideTied(); err != nil {
		return nil, err
	}
	if _, err := bert.Params(r.Config); err != nil {
		return nil, err
	}
	r.Architecture = t.architecture(r.Config)
	r.Unrecognised = t.unrecognised()
	return r, t.furtherInputs(r)
}

// furtherInputs refuses inputs that nobody would feed but that a recognised output needs.
func (t *trunk) furtherInputs(r *Match) error {
	spare := map[int]bool{}
	for _, n := range r.Unrecognised {
		spare[n.Index] = true
	}
	x := r.Inputs
	for _, v := range t.m.f.Inputs {
		if v.Name == x.IDs || v.Name == x.Mask || v.Name == x.Types || v.Name == x.Positions {
			continue
		}
		for _, u := range t.m.g.readers[v.Name] {
			if !spare[u.node] {
				return t.m.misfitNode(&t.m.f.Nodes[u.node], "tokens, mask, token types or positions as inputs", "a further input "+quote(v.Name))
			}
		}
	}
	return nil
}

// shortest returns the decimal number that a float32 of the file was written from: 1e-12
// rather than 9.999999960041972e-13.
func shortest(v float64) float64 {
	if float64(float32(v)) != v {
		return v
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', -1, 32), 64)
	if err != nil {
		return v
	}
	return short
}

// rows of a table, which may have leading dimensions of 1.
func rows(c constant) int {
	n := int64(1)
	for _, d := range c.dims[:len(c.dims)-1] {
		n *= d
	}
	return int(n)
}

func (t *trunk) mlmConsistent(cfg *bert.Config) error {
	if t.mlm == nil {
		return nil
	}
	m := t.mlm
	switch {
	case m.act != cfg.Activation:
		return t.m.misfitNode(m.transform.node, "the GELU of the layers in the masked-LM transform", "the other kind")
	case m.norm.width != int64(cfg.Hidden) || m.transform.out != int64(cfg.Hidden) || m.decoder.in != int64(cfg.Hidden):
		return t.m.misfitNode(m.transform.node, "a masked-LM transform of "+itoa(int64(cfg.Hidden))+" elements", itoa(m.transform.out))
	}
	return t.sameEps(m.norm)
}

// unrecognised lists the nodes that no recognised output needs.
func (t *trunk) unrecognised() []*Node {
	m := t.m
	need := make([]bool, len(m.f.Nodes))
	for _, o := range t.outputs {
		if i, ok := m.g.writer[o.Name]; ok && o.Kind != "other" {
			need[i] = true
		}
	}
	for i := len(m.f.Nodes) - 1; i >= 0; i-- { // writers come before readers
		if !need[i] {
			continue
		}
		for _, v := range m.f.Nodes[i].Inputs {
			if w, ok := m.g.writer[v]; ok {
				need[w] = true
			}
		}
	}
	var out []*Node
	for i := range need {
		if !need[i] {
			out = append(out, &m.f.Nodes[i])
		}
	}
	return out
}
