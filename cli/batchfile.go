package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"sift/bert"
	"sift/fault"
)

// batchFile is the JSON of --batch: padded arrays, [S][L] or [S].
type batchFile struct {
	InputIDs      [][]int32 `json:"input_ids"`
	AttentionMask [][]int32 `json:"attention_mask"`
	TokenTypeIDs  [][]int32 `json:"token_type_ids"`
	MLMLabels     [][]int32 `json:"mlm_labels"`
	NSPLabels     []int32   `json:"nsp_labels"`
	Labels        []int32   `json:"labels"`
}

// readBatch reads and packs a batch file for a model, and returns the losses it asks for.
func readBatch(path string, cfg bert.Config) (*bert.Batch, bert.Objective, error) {
	none := bert.Objective{}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, none, missing(path, err)
	}
	var f batchFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, none, fault.New(fault.Data, "%s: %v", path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, none, fault.New(fault.Data, "%s: more after the JSON object", path)
	}
	if len(f.InputIDs) == 0 {
		return nil, none, fault.New(fault.Data, "%s: input_ids: no sequence", path)
	}
	for s, row := range f.InputIDs {
		if len(row) != len(f.InputIDs[0]) {
			return nil, none, fault.New(fault.Data, "%s: input_ids: sequence %d has %d tokens, sequence 0 has %d; pad them", path, s, len(row), len(f.InputIDs[0]))
		}
	}
	b, err := bert.PackPadded(f.InputIDs, f.AttentionMask, f.TokenTypeIDs, f.MLMLabels, f.NSPLabels, f.Labels, nil)
	if err != nil {
		return nil, none, fault.In(path, err)
	}
	if err := b.Validate(cfg); err != nil {
		return nil, none, fault.In(path, err)
	}
	return b, bert.Objective{MLM: f.MLMLabels != nil, NSP: f.NSPLabels != nil, Classification: f.Labels != nil}, nil
}
