package onnx

import "sift/bert"

// heads appends what cfg has on the last layer x, and the graph's outputs.
func (b *graphBuilder) heads(x string) {
	c := b.cfg
	if !hasHead(c) {
		b.output(x, batchDim, sequenceDim, fixedDim(c.Hidden))
	}
	pooled := ""
	if c.HasPooler {
		pooled = b.pooler(x)
	}
	if c.HasMLM {
		b.maskedLM(x)
	}
	if c.HasNSP {
		b.output(b.pooledLinear("/cls/seq_relationship", pooled, bert.RoleNSPWeight, bert.RoleNSPBias, "seq_relationship_logits"),
			batchDim, fixedDim(2))
	}
	if c.Classes > 0 {
		b.output(b.pooledLinear("/classifier", pooled, bert.RoleClassWeight, bert.RoleClassBias, "logits"), batchDim, fixedDim(c.Classes))
	}
	if c.TokenClasses > 0 {
		name := "logits"
		if c.Classes > 0 {
			name = "token_logits"
		}
		b.output(b.linear("/"+tokenModule(c), x, bert.RoleTokenWeight, bert.RoleTokenBias, name),
			batchDim, sequenceDim, fixedDim(c.TokenClasses))
	}
	if c.HasQA {
		b.questionAnswering(x)
	}
}

// pooler gives tanh(dense(x[:,0])), a graph output if no head reads it.
func (b *graphBuilder) pooler(x string) string {
	p := b.root + "/pooler"
	first := b.node("Gather", p+"/Gather", []string{x, b.integer("index.0", 0)}, intAttr("axis", 1))
	y := b.pooledLinear(p+"/dense", first, bert.RolePoolerWeight, bert.RolePoolerBias, "")
	name := p + "/activation/Tanh"
	if b.cfg.HasNSP || b.cfg.Classes > 0 {
		return b.node("Tanh", name, []string{y})
	}
	b.output(b.nodeTo("pooler_output", "Tanh", name, []string{y}), batchDim, fixedDim(b.cfg.Hidden))
	return "pooler_output"
}

// maskedLM gives decoder(LayerNorm(GELU(transform(x)))).
func (b *graphBuilder) maskedLM(x string) {
	p := "/cls/predictions"
	y := b.linear(p+"/transform/dense", x, bert.RoleTransformWeight, bert.RoleTransformBias, "")
	y = b.gelu(p+"/transform/transform_act_fn", y)
	y = b.norm(p+"/transform/LayerNorm", y, bert.RoleMLMGamma, bert.RoleMLMBeta, "")
	decoder := bert.RoleDecoderWeight
	if b.cfg.TiedDecoder {
		decoder = bert.RoleWord
	}
	y = b.linear(p+"/decoder", y, decoder, bert.RoleDecoderBias, "prediction_logits")
	b.output(y, batchDim, sequenceDim, fixedDim(b.cfg.Vocab))
}

// questionAnswering gives the two columns of a linear map to two.
func (b *graphBuilder) questionAnswering(x string) {
	y := b.linear("/qa_outputs", x, bert.RoleQAWeight, bert.RoleQABias, "")
	columns := []string{"/Split_output_0", "/Split_output_1"}
	b.nodes = b.nodes.bytes(1, nodeProto("Split", "/Split", []string{y}, columns, intAttr("axis", -1)))
	b.changes.Nodes = append(b.changes.Nodes, columns...)
	for i, name := range []string{"start_logits", "end_logits"} {
		y := b.nodeTo(name, "Squeeze", []string{"/Squeeze", "/Squeeze_1"}[i], []string{columns[i], b.integers("axes.last", -1)})
		b.output(y, batchDim, sequenceDim)
	}
}
