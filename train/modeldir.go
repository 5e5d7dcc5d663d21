package train

import (
	"encoding/json"
	"strconv"

	"sift/backend"
	"sift/bert"
	"sift/fault"
)

// huggingFaceConfig is config.json as transformers reads it: for a
// BertForSequenceClassification where there are labels, else for a BertForPreTraining or
// BertForMaskedLM.
func huggingFaceConfig(c bert.Config, labels []string) ([]byte, error) {
	act := "gelu"
	if c.Activation == backend.GeluTanh {
		act = "gelu_new"
	}
	id2label, label2id := map[string]string{}, map[string]int{}
	for i, name := range labels {
		id2label[strconv.Itoa(i)] = name
		label2id[name] = i
	}
	fields := map[string]any{
		"model_type":              "bert",
		"num_hidden_layers":       c.Layers,
		"hidden_size":             c.Hidden,
		"num_attention_heads":     c.Heads,
		"intermediate_size":       c.Intermediate,
		"vocab_size":              c.Vocab,
		"max_position_embeddings": c.Positions,
		"type_vocab_size":         c.TypeVocab,
		"hidden_act":              act,
		"layer_norm_eps":          c.Eps,
	}
	switch {
	case len(labels) > 0:
		fields["architectures"] = []string{"BertForSequenceClassification"}
		fields["id2label"], fields["label2id"] = id2label, label2id
		fields["problem_type"] = "single_label_classification"
	case c.HasNSP:
		fields["architectures"] = []string{"BertForPreTraining"}
	default:
		fields["architectures"] = []string{"BertForMaskedLM"}
	}
	if c.HasMLM {
		fields["tie_word_embeddings"] = c.TiedDecoder
	}
	data, err := json.MarshalIndent(fields, "", "  ")
	if err != nil {
		return nil, fault.New(fault.Internal, "%s: %w", configJSON, err)
	}
	return append(data, '\n'), nil
}
