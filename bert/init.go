package bert

import (
	"hash/fnv"
	"math"

	"sift/backend/philox"
	"sift/fault"
)

// InitStd is the standard deviation of fresh weights and embeddings (BERT's
// initializer_range).
const InitStd = 0.02

// InitMissing adds to w a fresh value for every parameter of cfg that it lacks and
// returns their roles: weights and embeddings from normal(0, InitStd), biases and
// LayerNorm betas 0, gammas 1. A value depends on the seed, the role and the element
// only, so the same head is drawn whatever other heads a model has.
func InitMissing(cfg Config, w Weights, seed uint64) ([]string, error) {
	params, err := Params(cfg)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return nil, fault.New(fault.Internal, "bert: no weights to add to")
	}
	var fresh []string
	for _, p := range params {
		if _, ok := w[p.Role]; !ok {
			w[p.Role] = freshValues(p, seed)
			fresh = append(fresh, p.Role)
		}
	}
	return fresh, nil
}

func freshValues(p Param, seed uint64) []float32 {
	v := make([]float32, p.Len())
	switch p.Kind {
	case Gamma:
		for i := range v {
			v[i] = 1
		}
	case Matrix, Embedding:
		h := fnv.New32a()
		h.Write([]byte(p.Role))
		normals(v, seed, h.Sum32())
	}
	return v
}

// normals fills v with normal(0, InitStd) by the Box-Muller transform of the Philox
// words at (block, SiteInit, stream, 0): four words make four values.
func normals(v []float32, seed uint64, stream uint32) {
	key := philox.Key(seed)
	for i := 0; i < len(v); i += 4 {
		r := philox.Block(key, [4]uint32{uint32(i / 4), SiteInit, stream, 0})
		for j := 0; j < 4; j += 2 {
			// The +0.5 keeps both uniforms inside (0,1), so the logarithm is finite.
			radius := InitStd * math.Sqrt(-2*math.Log((float64(r[j])+0.5)/(1<<32)))
			sin, cos := math.Sincos(2 * math.Pi * (float64(r[j+1]) + 0.5) / (1 << 32))
			if i+j < len(v) {
				v[i+j] = float32(radius * cos)
			}
			if i+j+1 < len(v) {
				v[i+j+1] = float32(radius * sin)
			}
		}
	}
}
