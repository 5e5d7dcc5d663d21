package onnx

import (
	"strconv"

	"sift/bert"
)

// hasHead reports whether a model is more than an encoder with perhaps a pooler.
func hasHead(c bert.Config) bool {
	return c.HasMLM || c.HasNSP || c.Classes > 0 || c.TokenClasses > 0 || c.HasQA
}

// parameterNames gives the parameters of cfg their names in Hugging Face's BertModel or, if
// there are heads, BertForPreTraining and its like, whose encoder is called "bert".
func parameterNames(cfg bert.Config) map[string]string {
	trunk := ""
	if hasHead(cfg) {
		trunk = "bert."
	}
	names := map[string]string{
		bert.RoleWord:      trunk + "embeddings.word_embeddings.weight",
		bert.RolePosition:  trunk + "embeddings.position_embeddings.weight",
		bert.RoleTokenType: trunk + "embeddings.token_type_embeddings.weight",

		bert.RoleDecoderWeight: "cls.predictions.decoder.weight",
		bert.RoleDecoderBias:   "cls.predictions.bias",
	}
	module := func(weight, bias, name string) {
		names[weight], names[bias] = name+".weight", name+".bias"
	}
	module(bert.RoleEmbeddingsGamma, bert.RoleEmbeddingsBeta, trunk+"embeddings.LayerNorm")
	for n := range cfg.Layers {
		layer := trunk + "encoder.layer." + strconv.Itoa(n) + "."
		for part, name := range map[string]string{
			bert.PartQuery:           "attention.self.query",
			bert.PartKey:             "attention.self.key",
			bert.PartValue:           "attention.self.value",
			bert.PartAttentionOutput: "attention.output.dense",
			bert.PartAttentionNorm:   "attention.output.LayerNorm",
			bert.PartIntermediate:    "intermediate.dense",
			bert.PartOutput:          "output.dense",
			bert.PartOutputNorm:      "output.LayerNorm",
		} {
			module(bert.RoleLayer(n, part, false), bert.RoleLayer(n, part, true), layer+name)
		}
	}
	module(bert.RolePoolerWeight, bert.RolePoolerBias, trunk+"pooler.dense")
	module(bert.RoleTransformWeight, bert.RoleTransformBias, "cls.predictions.transform.dense")
	module(bert.RoleMLMGamma, bert.RoleMLMBeta, "cls.predictions.transform.LayerNorm")
	module(bert.RoleNSPWeight, bert.RoleNSPBias, "cls.seq_relationship")
	module(bert.RoleClassWeight, bert.RoleClassBias, "classifier")
	module(bert.RoleTokenWeight, bert.RoleTokenBias, tokenModule(cfg))
	module(bert.RoleQAWeight, bert.RoleQABias, "qa_outputs")
	return names
}

// tokenModule names the token classifier: "classifier" unless a sequence classifier is.
func tokenModule(cfg bert.Config) string {
	if cfg.Classes > 0 {
		return "token_classifier"
	}
	return "classifier"
}
