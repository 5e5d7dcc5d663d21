package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

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
	data, err := readRegular(path, 1<<30)
	if err != nil {
		return nil, none, err
	}
	var f batchFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, none, fault.New(fault.Data, "%s: %s", path, jsonCause(err))
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

// jsonCause words an error of encoding/json for people who do not write Go.
func jsonCause(err error) string {
	var typed *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		return "the file is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the file ends in the middle of the JSON object"
	case errors.As(err, &typed):
		place := typed.Field
		if place == "" {
			place = "the whole"
		}
		return fmt.Sprintf("byte %d: %s: an array of whole numbers is expected, found %s", typed.Offset, place, typed.Value)
	case errors.As(err, &syntax):
		return fmt.Sprintf("byte %d: %v", syntax.Offset, err)
	}
	return err.Error()
}
