package onnx

import "sort"

// HeadsFound lists the heads in alphabetical order: classifier, mlm, nsp, pooler, qa,
// token_classifier.
func (m *Match) HeadsFound() []string {
	c := m.Config
	heads := []string{}
	for _, h := range []struct {
		name string
		has  bool
	}{
		{"classifier", c.Classes > 0}, {"mlm", c.HasMLM}, {"nsp", c.HasNSP}, {"pooler", c.HasPooler},
		{"qa", c.HasQA}, {"token_classifier", c.TokenClasses > 0},
	} {
		if h.has {
			heads = append(heads, h.name)
		}
	}
	sort.Strings(heads)
	return heads
}
