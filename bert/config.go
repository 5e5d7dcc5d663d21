// Package bert is the post-LayerNorm encoder of Devlin et al., "BERT: Pre-training of
// Deep Bidirectional Transformers" (NAACL 2019), with its masked-LM, next-sentence and
// classification heads, forward and backward, on packed rows.
//
// Forward and backward of a layer stand side by side in one file; there is no tape.
// All memory is sized from Limits before the first step, and no step allocates.
package bert

import (
	"math"

	"sift/backend"
	"sift/fault"
)

// Config describes a trunk and the heads on it.
type Config struct {
	Layers, Hidden, Heads, Intermediate int
	Vocab, Positions                    int
	TypeVocab                           int // 0: no token types
	PositionOffset                      int // added to a token's position to index the position table
	Activation                          backend.Activation
	Eps                                 float64 // of every LayerNorm
	HasPooler, HasMLM, HasNSP           bool
	TiedDecoder                         bool // the masked-LM decoder's weight is the word embedding
	Classes, TokenClasses               int  // 0: no such head
	HasQA                               bool
	MaskValue                           float64 // as found in the imported graph; informational
}

// Bounds that keep every size far from overflow.
const (
	maxLayers     = 4096 // dropout sites have 16 bits
	maxDim        = 1 << 27
	maxParameters = 1 << 40
)

// Validate returns an error of kind fault.Data naming the first value that cannot
// describe a model.
func (c Config) Validate() error {
	for _, d := range []struct {
		name      string
		v, lo, hi int
	}{
		{"layers", c.Layers, 1, maxLayers},
		{"hidden", c.Hidden, 1, maxDim},
		{"heads", c.Heads, 1, maxDim},
		{"intermediate", c.Intermediate, 1, maxDim},
		{"vocab", c.Vocab, 1, maxDim},
		{"positions", c.Positions, 1, maxDim},
		{"type_vocab", c.TypeVocab, 0, maxDim},
		{"position offset", c.PositionOffset, 0, c.Positions - 1},
		{"classes", c.Classes, 0, maxDim},
		{"token classes", c.TokenClasses, 0, maxDim},
	} {
		if d.v < d.lo || d.v > d.hi {
			return fault.New(fault.Data, "model: %s: %d is not between %d and %d", d.name, d.v, d.lo, d.hi)
		}
	}
	if c.Hidden%c.Heads != 0 {
		return fault.New(fault.Data, "model: heads: %d heads do not divide a hidden size of %d", c.Heads, c.Hidden)
	}
	if c.Activation != backend.GeluErf && c.Activation != backend.GeluTanh {
		return fault.New(fault.Data, "model: activation: %d is not a kind of GELU", c.Activation)
	}
	if !(c.Eps > 0) || math.IsInf(c.Eps, 0) {
		return fault.New(fault.Data, "model: LayerNorm epsilon: %g is not positive", c.Eps)
	}
	if !c.HasPooler && (c.HasNSP || c.Classes > 0) {
		return fault.New(fault.Data, "model: pooler: the next-sentence and classification heads need one")
	}
	total := 0
	for _, p := range layout(c) {
		total += p.Len()
		if total > maxParameters {
			return fault.New(fault.Data, "model: more than %d parameters", maxParameters)
		}
	}
	return nil
}

// MaxTokens returns the longest sequence that the position table allows.
func (c Config) MaxTokens() int { return c.Positions - c.PositionOffset }
