package bert

import (
	"strconv"

	"sift/fault"
)

// Kind says what a parameter is, for weight decay and for initialisation.
type Kind uint8

const (
	Matrix    Kind = iota // weight of a linear map, [out,in]
	Embedding             // a table, one row per token, position or type
	Bias
	Gamma // LayerNorm weight
	Beta  // LayerNorm bias
)

// Stages number the trunk from below: the embeddings, the layers, then all heads.
const StageEmbeddings = 0

// Param is one parameter of the flat buffer.
type Param struct {
	Role       string
	Rows, Cols int // vectors are [1,n]
	Offset     int // first element in the flat buffer
	Kind       Kind
	Stage      int // StageEmbeddings, 1+n for layer n, 1+Layers for the heads
	Head       Head
}

// Len returns the number of elements.
func (p Param) Len() int { return p.Rows * p.Cols }

// Head names the head a parameter belongs to; Trunk is none.
type Head uint8

const (
	Trunk Head = iota
	HeadPooler
	HeadMLM
	HeadNSP
	HeadClassifier
	HeadTokenClassifier
	HeadQA
)

// Weights are parameters on the host, by role, linear weights as [out,in].
type Weights map[string][]float32

// Roles outside the layers.
const (
	RoleWord            = "embeddings.word.weight"
	RolePosition        = "embeddings.position.weight"
	RoleTokenType       = "embeddings.token_type.weight"
	RoleEmbeddingsGamma = "embeddings.norm.weight"
	RoleEmbeddingsBeta  = "embeddings.norm.bias"
	RolePoolerWeight    = "pooler.weight"
	RolePoolerBias      = "pooler.bias"
	RoleTransformWeight = "mlm.transform.weight"
	RoleTransformBias   = "mlm.transform.bias"
	RoleMLMGamma        = "mlm.norm.weight"
	RoleMLMBeta         = "mlm.norm.bias"
	RoleDecoderWeight   = "mlm.decoder.weight"
	RoleDecoderBias     = "mlm.decoder.bias"
	RoleNSPWeight       = "nsp.weight"
	RoleNSPBias         = "nsp.bias"
	RoleClassWeight     = "classifier.weight"
	RoleClassBias       = "classifier.bias"
	RoleTokenWeight     = "token_classifier.weight"
	RoleTokenBias       = "token_classifier.bias"
	RoleQAWeight        = "qa.weight"
	RoleQABias          = "qa.bias"
)

// Parts of a layer, for RoleLayer.
const (
	PartQuery           = "attention.query"
	PartKey             = "attention.key"
	PartValue           = "attention.value"
	PartAttentionOutput = "attention.output"
	PartAttentionNorm   = "attention.norm"
	PartIntermediate    = "intermediate"
	PartOutput          = "output"
	PartOutputNorm      = "output.norm"
)

// RoleLayer returns "encoder.layer.N.PART.weight" or, with bias, "....bias".
func RoleLayer(n int, part string, bias bool) string {
	end := ".weight"
	if bias {
		end = ".bias"
	}
	return "encoder.layer." + strconv.Itoa(n) + "." + part + end
}

// alignment of parameters in the flat buffer, in elements: 64 bytes of float32.
const alignment = 16

// Params lists the parameters of a model in the order of the flat buffer. Every
// parameter starts on a multiple of 16 elements except key and value: query, key and
// value weights are adjacent (one [3H,H] matrix) and so are their biases. The gaps
// hold zeros and stay zero.
func Params(cfg Config) ([]Param, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return layout(cfg), nil
}

// FlatLen returns the length of the flat buffer that holds params, a multiple of 16.
func FlatLen(params []Param) int {
	last := params[len(params)-1]
	return roundUp(last.Offset+last.Len(), alignment)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// layout is Params for a configuration whose dimensions are in range.
func layout(c Config) []Param {
	l := &lister{}
	h := c.Hidden
	l.add(RoleWord, c.Vocab, h, Embedding)
	l.add(RolePosition, c.Positions, h, Embedding)
	if c.TypeVocab > 0 {
		l.add(RoleTokenType, c.TypeVocab, h, Embedding)
	}
	l.add(RoleEmbeddingsGamma, 1, h, Gamma)
	l.add(RoleEmbeddingsBeta, 1, h, Beta)
	for n := range c.Layers {
		l.stage = 1 + n
		l.add(RoleLayer(n, PartQuery, false), h, h, Matrix)
		l.adjacent(RoleLayer(n, PartKey, false), h, h, Matrix)
		l.adjacent(RoleLayer(n, PartValue, false), h, h, Matrix)
		l.add(RoleLayer(n, PartQuery, true), 1, h, Bias)
		l.adjacent(RoleLayer(n, PartKey, true), 1, h, Bias)
		l.adjacent(RoleLayer(n, PartValue, true), 1, h, Bias)
		l.linear(RoleLayer(n, PartAttentionOutput, false), RoleLayer(n, PartAttentionOutput, true), h, h)
		l.norm(RoleLayer(n, PartAttentionNorm, false), RoleLayer(n, PartAttentionNorm, true), h)
		l.linear(RoleLayer(n, PartIntermediate, false), RoleLayer(n, PartIntermediate, true), c.Intermediate, h)
		l.linear(RoleLayer(n, PartOutput, false), RoleLayer(n, PartOutput, true), h, c.Intermediate)
		l.norm(RoleLayer(n, PartOutputNorm, false), RoleLayer(n, PartOutputNorm, true), h)
	}
	l.stage = 1 + c.Layers
	if c.HasPooler {
		l.head = HeadPooler
		l.linear(RolePoolerWeight, RolePoolerBias, h, h)
	}
	if c.HasMLM {
		l.head = HeadMLM
		l.linear(RoleTransformWeight, RoleTransformBias, h, h)
		l.norm(RoleMLMGamma, RoleMLMBeta, h)
		if !c.TiedDecoder {
			l.add(RoleDecoderWeight, c.Vocab, h, Matrix)
		}
		l.add(RoleDecoderBias, 1, c.Vocab, Bias)
	}
	if c.HasNSP {
		l.head = HeadNSP
		l.linear(RoleNSPWeight, RoleNSPBias, 2, h)
	}
	if c.Classes > 0 {
		l.head = HeadClassifier
		l.linear(RoleClassWeight, RoleClassBias, c.Classes, h)
	}
	if c.TokenClasses > 0 {
		l.head = HeadTokenClassifier
		l.linear(RoleTokenWeight, RoleTokenBias, c.TokenClasses, h)
	}
	if c.HasQA {
		l.head = HeadQA
		l.linear(RoleQAWeight, RoleQABias, 2, h)
	}
	return l.params
}

type lister struct {
	params []Param
	end    int
	stage  int
	head   Head
}

func (l *lister) add(role string, rows, cols int, kind Kind) {
	l.end = roundUp(l.end, alignment)
	l.adjacent(role, rows, cols, kind)
}

func (l *lister) adjacent(role string, rows, cols int, kind Kind) {
	l.params = append(l.params, Param{Role: role, Rows: rows, Cols: cols, Offset: l.end, Kind: kind, Stage: l.stage, Head: l.head})
	l.end += rows * cols
}

func (l *lister) linear(weight, bias string, out, in int) {
	l.add(weight, out, in, Matrix)
	l.add(bias, 1, out, Bias)
}

func (l *lister) norm(gamma, beta string, n int) {
	l.add(gamma, 1, n, Gamma)
	l.add(beta, 1, n, Beta)
}

// Check returns an error of kind fault.Data unless w holds exactly the parameters of
// cfg, each with its number of elements.
func (w Weights) Check(cfg Config) error {
	params, err := Params(cfg)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(params))
	for _, p := range params {
		known[p.Role] = true
		v, ok := w[p.Role]
		if !ok {
			return fault.New(fault.Data, "weights: %s: missing", p.Role)
		}
		if len(v) != p.Len() {
			return fault.New(fault.Data, "weights: %s: %d elements, want %dx%d", p.Role, len(v), p.Rows, p.Cols)
		}
	}
	for role := range w {
		if !known[role] {
			return fault.New(fault.Data, "weights: %s: this model has no such parameter", role)
		}
	}
	return nil
}
