package onnx

import (
	"math"

	"sift/bert"
	"sift/fault"
)

// BuildOptions say how Build writes a model.
type BuildOptions struct {
	// Half stores matrices and tables as float16, rounded to nearest even, with Cast nodes
	// behind them; vectors stay float32, and all arithmetic is in float32.
	Half bool
	// Version of the program, recorded as the producer's.
	Version string
}

// Build writes a whole model, one that was not imported, to path: a graph of operator set
// 17 with the weights w of cfg. Inputs are input_ids, attention_mask and, with
// cfg.TypeVocab > 0, token_type_ids, int64 [batch, sequence]. Outputs, in float32:
//
//	last_hidden_state        [batch, sequence, H]  if there is no head but a pooler
//	pooler_output            [batch, H]            if there is a pooler that no head reads
//	prediction_logits        [batch, sequence, V]  masked LM
//	seq_relationship_logits  [batch, 2]            next sentence
//	logits                   [batch, C]            classifier
//	logits                   [batch, sequence, C]  token classifier (token_logits beside a classifier)
//	start_logits, end_logits [batch, sequence]     question answering
//
// Initializers have Hugging Face's parameter names and hold linear weights as [out,in]; a
// tied decoder reads the word embeddings' initializer. Recognise and Load give cfg and w
// back, float32 weights bit for bit, with two reservations: a decoder that is not tied but
// equal to the word embeddings is taken for tied, and cfg.MaskValue, if it is no finite
// number of at most -1000, becomes the lowest float32.
//
// The same arguments give the same bytes. A model too large for one protobuf message (2 GiB)
// has its weights in a file beside it, named like path with ".data" added. Files appear
// whole or not at all. Changes lists everything in the file as new. Errors of kind
// fault.Data: weights that cfg does not describe, that are not finite, or that float16
// cannot hold.
func Build(cfg bert.Config, w bert.Weights, path string, opt BuildOptions) (*Changes, error) {
	return build(cfg, w, path, opt, math.MaxInt32)
}

func build(cfg bert.Config, w bert.Weights, path string, opt BuildOptions, largest int64) (*Changes, error) {
	if err := buildable(cfg, w, opt.Half); err != nil {
		return nil, inFile(path, err)
	}
	b, err := newGraphBuilder(cfg, w, opt)
	if err != nil {
		return nil, inFile(path, err)
	}
	b.graph()
	if err := b.write(path, largest); err != nil {
		return nil, err
	}
	return b.changes, nil
}

// buildable refuses what could not be read back.
func buildable(cfg bert.Config, w bert.Weights, half bool) error {
	if err := w.Check(cfg); err != nil {
		return err
	}
	if eps := float32(cfg.Eps); eps == 0 || math.IsInf(float64(eps), 0) {
		return fault.New(fault.Data, "model: LayerNorm epsilon: float32 cannot hold %g", cfg.Eps)
	}
	if cfg.Hidden < 2 || cfg.Intermediate < 2 {
		return fault.New(fault.Data, "model: hidden %d, intermediate %d: in a graph, vectors of one element could not be told from numbers", cfg.Hidden, cfg.Intermediate)
	}
	if cfg.TypeVocab > cfg.Vocab {
		return fault.New(fault.Data, "model: %d token types are more than the %d tokens: in a graph their tables could not be told apart", cfg.TypeVocab, cfg.Vocab)
	}
	params, err := bert.Params(cfg)
	if err != nil {
		return err
	}
	const beyondHalf = 65520 // rounds to infinity
	for _, p := range params {
		halved := half && stored(p, half) == Float16
		for i, v := range w[p.Role] {
			if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
				return fault.New(fault.Data, "weights: %s: element %d is %v", p.Role, i, v)
			}
			if halved && (v >= beyondHalf || v <= -beyondHalf) {
				return fault.New(fault.Data, "weights: %s: element %d is %g, too large for float16", p.Role, i, v)
			}
		}
	}
	return nil
}

// stored returns the type in which a parameter is written.
func stored(p bert.Param, half bool) DataType {
	if half && (p.Kind == bert.Matrix || p.Kind == bert.Embedding) {
		return Float16
	}
	return Float
}

// lowestMask returns what the graph adds to the scores of masked keys.
func lowestMask(cfg bert.Config) float32 {
	if v := cfg.MaskValue; v <= -1000 && v >= -math.MaxFloat32 {
		return float32(v)
	}
	return -math.MaxFloat32
}
