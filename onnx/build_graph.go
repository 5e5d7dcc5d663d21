package onnx

import (
	"encoding/binary"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/backend"
	"sift/bert"
)

// graphBuilder collects the nodes, initializers and outputs of a graph. Nodes are named by
// the path of the module they belong to and their operation, values by the node that
// writes them, as torch's exporter does.
type graphBuilder struct {
	cfg     bert.Config
	opt     BuildOptions
	root    string            // path of the encoder: "/bert", or "" if it is the whole model
	names   map[string]string // of parameters, by role
	halved  map[string]bool   // roles stored as float16
	nodes   message
	outputs message
	shapes  message       // of values within the graph
	tensors []initializer // the parameters in the order of bert.Params, then constants
	known   map[string]bool
	changes *Changes
}

// initializer is a tensor to write: raw, or the float32 values of a parameter as dtype.
type initializer struct {
	name  string
	dtype DataType
	dims  []int64
	raw   []byte
	data  []float32
}

func newGraphBuilder(cfg bert.Config, w bert.Weights, opt BuildOptions) (*graphBuilder, error) {
	params, err := bert.Params(cfg)
	if err != nil {
		return nil, err
	}
	b := &graphBuilder{cfg: cfg, opt: opt, names: parameterNames(cfg), halved: map[string]bool{}, known: map[string]bool{}, changes: &Changes{}}
	if hasHead(cfg) {
		b.root = "/bert"
	}
	for _, p := range params {
		dims := []int64{int64(p.Rows), int64(p.Cols)}
		if p.Kind != bert.Matrix && p.Kind != bert.Embedding {
			dims = dims[1:]
		}
		d := stored(p, opt.Half)
		b.halved[p.Role] = d == Float16
		b.initializer(initializer{name: b.names[p.Role], dtype: d, dims: dims, data: w[p.Role]})
	}
	return b, nil
}

func (b *graphBuilder) initializer(t initializer) {
	b.tensors = append(b.tensors, t)
	b.changes.Added = append(b.changes.Added, t.name)
}

// constant returns name, and makes it an initializer the first time.
func (b *graphBuilder) constant(name string, d DataType, dims []int64, raw []byte) string {
	if !b.known[name] {
		b.known[name] = true
		b.initializer(initializer{name: name, dtype: d, dims: dims, raw: raw})
	}
	return name
}

// integers is a constant vector.
func (b *graphBuilder) integers(name string, values ...int) string {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return b.constant(name, Int64, []int64{int64(len(values))}, raw)
}

// integer is a constant scalar.
func (b *graphBuilder) integer(name string, v int) string {
	return b.constant(name, Int64, nil, binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

// float is a constant scalar.
func (b *graphBuilder) float(name string, v float64) string {
	return b.constant(name, Float, nil, encodeFloat32([]float32{float32(v)}, Float))
}

// node appends a node and returns its output.
func (b *graphBuilder) node(op, name string, inputs []string, attrs ...message) string {
	return b.nodeTo(name+"_output_0", op, name, inputs, attrs...)
}

// nodeTo appends a node whose output has a name of its own.
func (b *graphBuilder) nodeTo(output, op, name string, inputs []string, attrs ...message) string {
	b.nodes = b.nodes.bytes(1, nodeProto(op, name, inputs, []string{output}, attrs...))
	b.changes.Nodes = append(b.changes.Nodes, output)
	return output
}

// output makes a value a graph output.
func (b *graphBuilder) output(value string, dims ...Dim) {
	b.outputs = b.outputs.bytes(12, valueProto(value, Float, dims))
	b.changes.Outputs = append(b.changes.Outputs, value)
}

var batchDim, sequenceDim = Dim{Value: -1, Param: "batch"}, Dim{Value: -1, Param: "sequence"}

func fixedDim(n int) Dim { return Dim{Value: int64(n)} }

// floatAttr encodes an AttributeProto that holds a float.
func floatAttr(name string, v float64) message {
	m := message(nil).text(1, name)
	m = protowire.AppendFixed32(protowire.AppendTag(m, 2, protowire.Fixed32Type), math.Float32bits(float32(v)))
	return m.number(20, int64(AttrFloat))
}

// intsAttr encodes an AttributeProto that holds integers.
func intsAttr(name string, values ...int64) message {
	m := message(nil).text(1, name)
	for _, v := range values {
		m = m.number(8, v)
	}
	return m.number(20, int64(AttrInts))
}

// graph builds all of it.
func (b *graphBuilder) graph() {
	c := b.cfg
	mask := b.mask()
	last := ""
	if !hasHead(c) {
		last = "last_hidden_state"
	}
	x := b.embeddings()
	for n := range c.Layers {
		out := ""
		if n == c.Layers-1 {
			out = last
		}
		x = b.layer(n, x, mask, out)
	}
	b.heads(x)
}

// mask gives (1 - attention_mask) * lowest, [batch, 1, 1, sequence].
func (b *graphBuilder) mask() string {
	p := b.root
	v := b.node("Unsqueeze", p+"/Unsqueeze", []string{"attention_mask", b.integers("axes.1", 1)})
	v = b.node("Unsqueeze", p+"/Unsqueeze_1", []string{v, b.integers("axes.2", 2)})
	v = b.node("Cast", p+"/Cast", []string{v}, intAttr("to", int64(Float)))
	v = b.node("Sub", p+"/Sub", []string{b.float("one", 1), v})
	return b.node("Mul", p+"/Mul", []string{v, b.float("attention.masked", float64(lowestMask(b.cfg)))})
}

// embeddings gives LayerNorm(word[ids] + type[types] + position[offset, offset+1, ...]).
func (b *graphBuilder) embeddings() string {
	p := b.root + "/embeddings"
	sum := b.lookup(p+"/word_embeddings", bert.RoleWord, "input_ids")
	if b.cfg.TypeVocab > 0 {
		types := b.lookup(p+"/token_type_embeddings", bert.RoleTokenType, "token_type_ids")
		sum = b.node("Add", p+"/Add", []string{sum, types})
	}
	shape := b.node("Shape", p+"/Shape", []string{"input_ids"})
	end := b.node("Gather", p+"/Gather", []string{shape, b.integer("index.1", 1)}, intAttr("axis", 0))
	start := b.integer("index.0", 0)
	if offset := b.cfg.PositionOffset; offset > 0 {
		start = b.integer("embeddings.position_offset", offset)
		end = b.node("Add", p+"/Add_1", []string{end, start})
	}
	positions := b.node("Range", p+"/Range", []string{start, end, b.integer("index.1", 1)})
	sum = b.node("Add", p+"/Add_2", []string{sum, b.lookup(p+"/position_embeddings", bert.RolePosition, positions)})
	// Nobody can infer that as many positions were looked up as there are tokens. With this
	// shape known, ONNX Runtime knows all others and fuses residual sums into LayerNorms.
	b.shapes = b.shapes.bytes(13, valueProto(sum, Float, []Dim{batchDim, sequenceDim, fixedDim(b.cfg.Hidden)}))
	return b.norm(p+"/LayerNorm", sum, bert.RoleEmbeddingsGamma, bert.RoleEmbeddingsBeta, "")
}

// lookup gives rows of a table. Those of float16 are widened behind it, so that the table
// itself stays as it is.
func (b *graphBuilder) lookup(path, role, indices string) string {
	v := b.node("Gather", path+"/Gather", []string{b.names[role], indices}, intAttr("axis", 0))
	if b.halved[role] {
		v = b.node("Cast", path+"/Cast", []string{v}, intAttr("to", int64(Float)))
	}
	return v
}

// norm gives LayerNormalization over the last axis, into a value named out if it is not "".
func (b *graphBuilder) norm(path, x, gamma, beta, out string) string {
	name := path + "/LayerNormalization"
	if out == "" {
		out = name + "_output_0"
	}
	return b.nodeTo(out, "LayerNormalization", name, []string{x, b.names[gamma], b.names[beta]},
		intAttr("axis", -1), floatAttr("epsilon", b.cfg.Eps))
}

// matrix gives a weight [out,in] in float32.
func (b *graphBuilder) matrix(path, role string) string {
	w := b.names[role]
	if b.halved[role] {
		w = b.node("Cast", path+"/Cast", []string{w}, intAttr("to", int64(Float)))
	}
	return w
}

// linear gives x W^T + b on every row of [batch, sequence, in], W stored as [out,in]: runtimes
// transpose constants once, as they load. out names the result if it is not "".
func (b *graphBuilder) linear(path, x, weight, bias, out string) string {
	w := b.node("Transpose", path+"/Transpose", []string{b.matrix(path, weight)}, intsAttr("perm", 1, 0))
	y := b.node("MatMul", path+"/MatMul", []string{x, w})
	if out == "" {
		out = path + "/Add_output_0"
	}
	return b.nodeTo(out, "Add", path+"/Add", []string{y, b.names[bias]})
}

// pooledLinear gives x W^T + b for x [batch, in].
func (b *graphBuilder) pooledLinear(path, x, weight, bias, out string) string {
	if out == "" {
		out = path + "/Gemm_output_0"
	}
	return b.nodeTo(out, "Gemm", path+"/Gemm", []string{x, b.matrix(path, weight), b.names[bias]}, intAttr("transB", 1))
}

// layer gives, with LN for LayerNorm and GELU of the configured kind,
//
//	y = LN(x + attention(x)), LN(y + output(GELU(intermediate(y))))
func (b *graphBuilder) layer(n int, x, mask, out string) string {
	p := b.root + "/encoder/layer." + strconv.Itoa(n)
	role := func(part string) (weight, bias string) {
		return bert.RoleLayer(n, part, false), bert.RoleLayer(n, part, true)
	}
	linear := func(path, x, part string) string {
		w, bias := role(part)
		return b.linear(p+path, x, w, bias, "")
	}
	context := b.attention(p+"/attention/self", x, mask, linear)
	y := linear("/attention/output/dense", context, bert.PartAttentionOutput)
	y = b.node("Add", p+"/attention/output/Add", []string{y, x})
	gamma, beta := role(bert.PartAttentionNorm)
	y = b.norm(p+"/attention/output/LayerNorm", y, gamma, beta, "")
	z := linear("/intermediate/dense", y, bert.PartIntermediate)
	z = b.gelu(p+"/intermediate/intermediate_act_fn", z)
	z = linear("/output/dense", z, bert.PartOutput)
	z = b.node("Add", p+"/output/Add", []string{z, y})
	gamma, beta = role(bert.PartOutputNorm)
	return b.norm(p+"/output/LayerNorm", z, gamma, beta, out)
}

// attention gives softmax(q k^T / sqrt(d) + mask) v for each head of d elements, the heads
// side by side, [batch, sequence, H].
func (b *graphBuilder) attention(path, x, mask string, linear func(path, x, part string) string) string {
	h, d := b.cfg.Heads, b.cfg.Hidden/b.cfg.Heads
	split := b.integers("attention.heads", 0, 0, h, d)
	heads := func(name, part, n string, perm ...int64) string {
		v := linear("/attention/self/"+name, x, part)
		v = b.node("Reshape", path+"/Reshape"+n, []string{v, split})
		return b.node("Transpose", path+"/Transpose"+n, []string{v}, intsAttr("perm", perm...))
	}
	q := heads("query", bert.PartQuery, "", 0, 2, 1, 3)
	k := heads("key", bert.PartKey, "_1", 0, 2, 3, 1)
	v := heads("value", bert.PartValue, "_2", 0, 2, 1, 3)
	s := b.node("MatMul", path+"/MatMul", []string{q, k})
	s = b.node("Div", path+"/Div", []string{s, b.float("attention.root", math.Sqrt(float64(d)))})
	s = b.node("Add", path+"/Add", []string{s, mask})
	s = b.node("Softmax", path+"/Softmax", []string{s}, intAttr("axis", -1))
	c := b.node("MatMul", path+"/MatMul_1", []string{s, v})
	c = b.node("Transpose", path+"/Transpose_3", []string{c}, intsAttr("perm", 0, 2, 1, 3))
	return b.node("Reshape", path+"/Reshape_3", []string{c, b.integers("attention.merged", 0, 0, b.cfg.Hidden)})
}

// gelu gives x (1 + erf(x / sqrt 2)) / 2, or its tanh form
// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in the steps that runtimes fuse.
func (b *graphBuilder) gelu(path, x string) string {
	one, half := b.float("one", 1), b.float("half", 0.5)
	if b.cfg.Activation == backend.GeluErf {
		v := b.node("Div", path+"/Div", []string{x, b.float("gelu.root2", math.Sqrt2)})
		v = b.node("Erf", path+"/Erf", []string{v})
		v = b.node("Add", path+"/Add", []string{v, one})
		v = b.node("Mul", path+"/Mul", []string{x, v})
		return b.node("Mul", path+"/Mul_1", []string{v, half})
	}
	v := b.node("Pow", path+"/Pow", []string{x, b.float("gelu.three", 3)})
	v = b.node("Mul", path+"/Mul", []string{v, b.float("gelu.cubic", 0.044715)})
	v = b.node("Add", path+"/Add", []string{x, v})
	v = b.node("Mul", path+"/Mul_1", []string{v, b.float("gelu.slope", math.Sqrt(2/math.Pi))})
	v = b.node("Tanh", path+"/Tanh", []string{v})
	v = b.node("Add", path+"/Add_1", []string{v, one})
	halved := b.node("Mul", path+"/Mul_2", []string{x, half})
	return b.node("Mul", path+"/Mul_3", []string{halved, v})
}
