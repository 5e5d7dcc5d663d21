package verify

import (
	"strings"

	"sift/fault"
	"sift/onnx"
)

// signature is what a graph takes and gives.
type signature struct {
	file    *onnx.File
	match   *onnx.Match // nil if the graph is not recognised
	inputs  []onnx.ValueInfo
	names   onnx.Inputs
	outputs []output
}

// output is a graph output. kind is as in onnx.Output, "" if the graph is not
// recognised.
type output struct {
	name, kind string
	layer      int
	info       onnx.ValueInfo
}

// describe finds the token ids, the mask and the token types among the inputs of f:
// as the matcher says, or else by their names.
func describe(f *onnx.File, match *onnx.Match) (*signature, error) {
	s := &signature{file: f, match: match, inputs: f.Inputs}
	if match != nil {
		s.names = match.Inputs
	} else if err := s.guess(); err != nil {
		return nil, fault.In(f.Path, err)
	}
	for _, v := range s.inputs {
		switch v.Name {
		case s.names.IDs, s.names.Mask, s.names.Types, s.names.Positions:
		default:
			return nil, fault.New(fault.Data, "%s: input %q: neither token ids nor attention mask, token types or positions", f.Path, v.Name)
		}
		switch v.DType {
		case onnx.Int64, onnx.Int32, onnx.Float, onnx.Bool:
		default:
			return nil, fault.New(fault.Data, "%s: input %q is of type %v", f.Path, v.Name, v.DType)
		}
		if v.HasShape && len(v.Dims) != 2 {
			return nil, fault.New(fault.Data, "%s: input %q has %d axes, not batch and length", f.Path, v.Name, len(v.Dims))
		}
	}
	for _, v := range f.Outputs {
		o := output{name: v.Name, info: v}
		if match != nil {
			for _, m := range match.Outputs {
				if m.Name == v.Name {
					o.kind, o.layer = m.Kind, m.Layer
				}
			}
		}
		s.outputs = append(s.outputs, o)
	}
	return s, nil
}

// guess goes by input names; a single input is the token ids.
func (s *signature) guess() error {
	if len(s.inputs) == 1 {
		s.names.IDs = s.inputs[0].Name
		return nil
	}
	list := []string{}
	for _, v := range s.inputs {
		name := strings.ToLower(v.Name)
		var role *string
		switch {
		case strings.Contains(name, "mask"):
			role = &s.names.Mask
		case strings.Contains(name, "type") || strings.Contains(name, "segment"):
			role = &s.names.Types
		case strings.Contains(name, "position"):
			role = &s.names.Positions
		case strings.Contains(name, "id"):
			role = &s.names.IDs
		}
		if role != nil && *role == "" {
			*role = v.Name
		}
		list = append(list, v.Name)
	}
	if s.names.IDs == "" {
		return fault.New(fault.Data, "inputs %s: none is named as token ids (input_ids), and the model is not recognised", strings.Join(list, ", "))
	}
	return nil
}

// fixed returns the sizes that the ids input prescribes, 0 where it is free.
func (s *signature) fixed() Shape {
	var at Shape
	for _, v := range s.inputs {
		if v.Name != s.names.IDs || len(v.Dims) != 2 {
			continue
		}
		for a, size := range []*int{&at.Batch, &at.Length} {
			if d := v.Dims[a]; d.Param == "" && d.Value > 0 {
				*size = int(d.Value)
			}
		}
	}
	return at
}

// tableRows returns the length of the table that the graph looks up with the named
// input, 0 if there is none to be seen: the vocabulary, or the number of token types.
func (s *signature) tableRows(input string) int {
	if input == "" {
		return 0
	}
	derived := map[string]bool{input: true} // the input itself, cast or renamed
	for i := range s.file.Nodes {
		n := &s.file.Nodes[i]
		switch {
		case (n.OpType == "Cast" || n.OpType == "Identity") && len(n.Inputs) == 1 && derived[n.Inputs[0]]:
			for _, out := range n.Outputs {
				derived[out] = true
			}
		case n.OpType == "Gather" && len(n.Inputs) == 2 && derived[n.Inputs[1]]:
			if t := s.file.Initializer(n.Inputs[0]); t != nil && len(t.Dims) == 2 {
				return int(t.Dims[0])
			}
		case n.OpType == "EmbedLayerNormalization" && len(n.Inputs) > 4:
			for k, table := range map[int]int{0: 2, 1: 4} {
				if t := s.file.Initializer(n.Inputs[table]); derived[n.Inputs[k]] && t != nil && len(t.Dims) == 2 {
					return int(t.Dims[0])
				}
			}
		}
	}
	return 0
}

// with narrows d to what both of two graphs take.
func (d domain) with(e domain) domain {
	d.vocab, d.types = min(d.vocab, e.vocab), min(d.types, e.types)
	d.masked = d.masked && e.masked
	if d.avoid < 0 {
		d.pad, d.avoid = e.pad, e.avoid
	}
	return d
}

// domain returns what values the inputs may take.
func (s *signature) domain() (domain, error) {
	d := domain{avoid: -1, masked: s.names.Mask != ""}
	if s.match != nil {
		c := s.match.Config
		d.vocab, d.types = c.Vocab, c.TypeVocab
		if c.PositionOffset > 0 {
			// RoBERTa counts positions over what is not the padding token.
			d.pad = int64(c.PositionOffset - 1)
			d.avoid = d.pad
		}
		if s.names.Types == "" {
			d.types = 0
		}
		return d, nil
	}
	d.vocab, d.types = s.tableRows(s.names.IDs), s.tableRows(s.names.Types)
	if d.vocab == 0 {
		return d, fault.New(fault.Data, "%s: no table is looked up with input %q: the size of the vocabulary is unknown", s.file.Path, s.names.IDs)
	}
	return d, nil
}

// perToken reports whether an output of shape dims has a row for each token.
func (s *signature) perToken(o output, in *Inputs, dims []int) bool {
	if len(dims) < 2 || dims[0] != in.Batch || dims[1] != in.Length {
		return false
	}
	switch o.kind {
	case "hidden", "mlm", "token", "qa":
		return true
	case "pooled", "nsp", "logits":
		return false
	}
	if len(dims) > 2 {
		return true
	}
	// [batch, something]: per token if the something is declared as the ids' length is.
	for _, v := range s.inputs {
		if v.Name == s.names.IDs && len(v.Dims) == 2 && len(o.info.Dims) == 2 {
			return v.Dims[1] == o.info.Dims[1] && (v.Dims[1].Param != "" || v.Dims[1].Value > 0)
		}
	}
	return false
}

// classes reports whether the largest element along the last axis is a prediction.
func (o output) classes() bool {
	switch o.kind {
	case "mlm", "nsp", "logits", "token":
		return true
	case "":
		return strings.Contains(strings.ToLower(o.name), "logits")
	}
	return false
}

// offset returns the position of a sequence's first token, for graphs that are given
// positions.
func (s *signature) offset() int64 {
	if s.match == nil {
		return 0
	}
	return int64(s.match.Config.PositionOffset)
}
