package onnx

import (
	"sift/bert"
	"sift/fault"
)

// graft appends a classifier, and a pooler where the graph has none, to the graph:
//
//	pooled = tanh(Gather(hidden, 0, axis 1) pooler.weight^T + pooler.bias)
//	logits = pooled classifier.weight^T + classifier.bias
//
// All operations mean the same in the operator sets 7 to 24. The new output has the
// batch dimension of the graph's own input.
func (s *storing) graft() error {
	d := s.headType()
	pooled := s.m.pooled
	if !s.m.Config.HasPooler {
		first := s.fresh("sift/pooler/first_token")
		zero := s.fresh("sift/pooler/index")
		s.end = message(s.end).bytes(5, tensorProto(zero, Int64, nil, make([]byte, 8)))
		s.changes.Added = append(s.changes.Added, zero)
		s.node("Gather", []string{s.m.hidden, zero}, first, intAttr("axis", 1))
		dense := s.linear("sift/pooler/dense", first, bert.RolePoolerWeight, bert.RolePoolerBias, s.cfg.Hidden, d)
		pooled = s.fresh("sift/pooler/output")
		s.node("Tanh", []string{dense}, pooled)
	}
	name := "logits"
	for _, other := range []string{"classification_logits", "sift_logits"} {
		if s.taken[name] {
			name = other
		}
	}
	logits := s.linear(name, pooled, bert.RoleClassWeight, bert.RoleClassBias, s.cfg.Classes, d)
	s.end = message(s.end).bytes(12, valueProto(logits, d, []Dim{s.batch(), {Value: int64(s.cfg.Classes)}}))
	s.changes.Outputs = append(s.changes.Outputs, logits)
	if pooled == "" {
		return fault.New(fault.Internal, "the pooler's output is not known")
	}
	return nil
}

// headType is the type in which the graph computes: that of the last LayerNorm's gamma as
// it is read.
func (s *storing) headType() DataType {
	b, ok := s.m.Binding(bert.RoleLayer(s.m.Config.Layers-1, bert.PartOutputNorm, false))
	if !ok {
		return Float
	}
	return b.asType
}

// batch returns the batch dimension of the token input.
func (s *storing) batch() Dim {
	for _, v := range s.f.Inputs {
		if v.Name == s.m.Inputs.IDs && len(v.Dims) > 0 {
			return v.Dims[0]
		}
	}
	return Dim{Value: -1}
}

// node appends a node.
func (s *storing) node(op string, inputs []string, output string, attrs ...message) {
	s.end = message(s.end).bytes(1, nodeProto(op, s.fresh("node/"+output), inputs, []string{output}, attrs...))
	s.changes.Nodes = append(s.changes.Nodes, output)
}

// linear appends y = x W^T + b with its initializers and returns y, named like name.
func (s *storing) linear(name, x, weight, bias string, out int, d DataType) (y string) {
	y = s.fresh(name)
	h := int64(s.cfg.Hidden)
	names := []string{x}
	for _, p := range []struct {
		role string
		dims []int64
	}{{weight, []int64{int64(out), h}}, {bias, []int64{int64(out)}}} {
		n := s.fresh(p.role)
		s.end = message(s.end).bytes(5, tensorProto(n, d, p.dims, encodeFloat32(s.w[p.role], d)))
		s.changes.Added = append(s.changes.Added, n)
		names = append(names, n)
	}
	s.node("Gemm", names, y, intAttr("transB", 1))
	return y
}

// resizeOutput gives the classifier's graph output its new number of classes.
func (s *storing) resizeOutput() {
	g := s.f.layout.graph
	for i, o := range s.m.Outputs {
		if o.Kind != "logits" {
			continue
		}
		v := s.f.Outputs[i]
		if !v.HasShape || len(v.Dims) == 0 {
			continue
		}
		dims := append(append([]Dim{}, v.Dims[:len(v.Dims)-1]...), Dim{Value: int64(s.cfg.Classes)})
		s.edits = append(s.edits, replace(v.at.start, v.at.end, []span{g}, message(nil).bytes(12, valueProto(v.Name, v.DType, dims))))
	}
}
