package onnx

import (
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
)

// layout is where things stand that an edited copy has to change.
type layout struct {
	graph span
}

// Bounds on counts, far above any encoder.
const (
	maxNodes = 1 << 20
	maxNames = 1 << 16 // inputs, outputs or attributes of one node
	maxRank  = 64
	maxDepth = 100 // of nested messages
)

// scan reads a ModelProto.
func (f *File) scan(r io.ReaderAt) error {
	if f.Size == 0 {
		return fault.New(fault.Data, "the file is empty")
	}
	s := newScanner(r, f.Size)
	f.Opsets = map[string]int64{}
	f.Metadata = map[string]string{}
	var producer, version string
	graphs := 0
	err := s.each(0, f.Size, func(m field) (err error) {
		switch m.num {
		case 1:
			f.IRVersion, err = m.number()
		case 2:
			producer, err = s.text(m, longestName)
		case 3:
			version, err = s.text(m, longestName)
		case 7:
			if graphs++; graphs > 1 {
				return bad(m.start, "a second graph")
			}
			if err := m.want(protowire.BytesType); err != nil {
				return err
			}
			f.layout.graph = m.span
			err = f.scanGraph(s, m.span)
		case 8:
			err = f.scanOpset(s, m)
		case 14:
			err = f.scanMetadata(s, m)
		case 25:
			err = f.scanFunction(s, m)
		}
		return err
	})
	if err != nil {
		return err
	}
	if graphs == 0 {
		return fault.New(fault.Data, "holds no graph: not an ONNX model")
	}
	f.Producer = producer
	if version != "" {
		f.Producer += " " + version
	}
	return nil
}

func (f *File) scanOpset(s *scanner, m field) error {
	if err := m.want(protowire.BytesType); err != nil {
		return err
	}
	var domain string
	var version int64
	err := s.each(m.body, m.end, func(g field) (err error) {
		switch g.num {
		case 1:
			domain, err = s.text(g, longestName)
		case 2:
			version, err = g.number()
		}
		return err
	})
	if err != nil {
		return fault.In("operator sets", err)
	}
	domain = canonicalDomain(domain)
	if old, twice := f.Opsets[domain]; twice && old != version {
		return bad(m.start, "operator set %s is imported as version %d and as %d", quote(domain), old, version)
	}
	f.Opsets[domain] = version
	return s.keep(m.start, 64)
}

// canonicalDomain maps the long name of the default domain to "".
func canonicalDomain(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

func (f *File) scanMetadata(s *scanner, m field) error {
	if err := m.want(protowire.BytesType); err != nil {
		return err
	}
	var key, value string
	err := s.each(m.body, m.end, func(g field) (err error) {
		switch g.num {
		case 1:
			key, err = s.text(g, longestName)
		case 2:
			value, err = s.text(g, longestValue)
		}
		return err
	})
	f.Metadata[key] = value
	if err == nil {
		err = s.keep(m.start, 64)
	}
	return err
}

func (f *File) scanFunction(s *scanner, m field) error {
	if err := m.want(protowire.BytesType); err != nil {
		return err
	}
	var fn Function
	err := s.each(m.body, m.end, func(g field) (err error) {
		switch g.num {
		case 1:
			fn.Name, err = s.text(g, longestName)
		case 10:
			fn.Domain, err = s.text(g, longestName)
			fn.Domain = canonicalDomain(fn.Domain)
		}
		return err
	})
	f.Functions = append(f.Functions, fn)
	if err == nil {
		err = s.keep(m.start, 64)
	}
	return err
}

func (f *File) scanGraph(s *scanner, graph span) error {
	f.byName = map[string]*TensorRef{}
	return s.each(graph.body, graph.end, func(m field) (err error) {
		switch m.num {
		case 1:
			if err := m.want(protowire.BytesType); err != nil {
				return err
			}
			if len(f.Nodes) == maxNodes {
				return bad(m.start, "more than %d nodes", maxNodes)
			}
			n := Node{Index: len(f.Nodes), at: []span{graph, m.span}}
			if err := n.scan(s, m.span); err != nil {
				return fault.In(n.String(), err)
			}
			f.Nodes = append(f.Nodes, n)
			return s.keep(m.start, 224)
		case 2:
			f.GraphName, err = s.text(m, longestName)
		case 5:
			if err := m.want(protowire.BytesType); err != nil {
				return err
			}
			t := &TensorRef{at: []span{graph, m.span}}
			if err := t.scan(s, m.span); err != nil {
				return fault.In("initializer "+quote(t.Name), err)
			}
			if t.Name == "" {
				return bad(m.start, "initializer %d has no name", len(f.Initializers))
			}
			if f.byName[t.Name] != nil {
				return bad(m.start, "a second initializer %s", quote(t.Name))
			}
			f.byName[t.Name] = t
			f.Initializers = append(f.Initializers, t)
			return s.keep(m.start, 400)
		case 11, 12:
			v := ValueInfo{at: m.span}
			if err := v.scan(s, m); err != nil {
				return fault.In([]string{"graph input", "graph output"}[m.num-11]+" "+quote(v.Name), err)
			}
			if m.num == 11 {
				f.Inputs = append(f.Inputs, v)
			} else {
				f.Outputs = append(f.Outputs, v)
			}
			return s.keep(m.start, 128)
		case 15:
			f.Sparse++
		}
		return err
	})
}

func (n *Node) scan(s *scanner, node span) error {
	err := s.each(node.body, node.end, func(m field) (err error) {
		var text string
		switch m.num {
		case 1:
			text, err = s.text(m, longestName)
			n.Inputs = append(n.Inputs, text)
			n.inputAt = append(n.inputAt, m.span)
		case 2:
			text, err = s.text(m, longestName)
			n.Outputs = append(n.Outputs, text)
		case 3:
			n.Name, err = s.text(m, longestName)
		case 4:
			n.OpType, err = s.text(m, longestName)
		case 5:
			return n.scanAttr(s, m)
		case 7:
			n.Domain, err = s.text(m, longestName)
			n.Domain = canonicalDomain(n.Domain)
		default:
			return nil
		}
		if err == nil {
			err = s.keep(m.start, 48)
		}
		if err == nil && max(len(n.Inputs), len(n.Outputs)) > maxNames {
			err = bad(m.start, "more than %d inputs or outputs", maxNames)
		}
		return err
	})
	if err == nil && n.OpType == "" {
		err = bad(node.start, "no operation type")
	}
	return err
}

func (n *Node) scanAttr(s *scanner, m field) error {
	if err := m.want(protowire.BytesType); err != nil {
		return err
	}
	var a Attr
	err := s.each(m.body, m.end, func(g field) (err error) {
		var v int64
		var text string
		switch g.num {
		case 1:
			a.Name, err = s.text(g, longestName)
		case 2:
			if err = g.want(protowire.Fixed32Type); err == nil {
				a.F = floatBits(g.value)
			}
		case 3:
			a.I, err = g.number()
		case 4:
			text, err = s.text(g, longestValue)
			a.S = []byte(text)
		case 5, 10:
			if err := g.want(protowire.BytesType); err != nil {
				return err
			}
			t := &TensorRef{at: append(append([]span{}, n.at...), m.span, g.span)}
			if err := t.scan(s, g.span); err != nil {
				return err
			}
			if g.num == 5 {
				if a.T != nil {
					return bad(g.start, "a second tensor")
				}
				a.T = t
			} else {
				a.Tensors = append(a.Tensors, t)
			}
			err = s.keep(g.start, 400)
		case 6, 11:
			if err := g.want(protowire.BytesType); err != nil {
				return err
			}
			err = skipGraph(s, g.span, 4)
			a.Kind = AttrGraph
		case 7:
			err = s.numbers(g, protowire.Fixed32Type, func(bits uint64) error {
				a.Floats = append(a.Floats, floatBits(bits))
				return s.keep(g.start, 4)
			})
		case 8:
			err = s.numbers(g, protowire.VarintType, func(bits uint64) error {
				a.Ints = append(a.Ints, int64(bits))
				return s.keep(g.start, 8)
			})
		case 9:
			text, err = s.text(g, longestValue)
			a.Strings = append(a.Strings, text)
			if err == nil {
				err = s.keep(g.start, 16)
			}
		case 20:
			if v, err = g.number(); err == nil {
				a.Kind = AttrKind(v)
			}
		}
		return err
	})
	if err != nil {
		return fault.In("attribute "+quote(a.Name), err)
	}
	if a.Kind == AttrUndefined { // files of IR version 1 do not say
		a.Kind = a.guess()
	}
	if a.Kind == AttrTensor && a.T == nil {
		return bad(m.start, "attribute %s has no tensor", quote(a.Name))
	}
	if _, twice := n.Attrs[a.Name]; twice {
		return bad(m.start, "a second attribute %s", quote(a.Name))
	}
	if n.Attrs == nil {
		n.Attrs = map[string]Attr{}
	}
	n.Attrs[a.Name] = a
	return s.keep(m.start, 320)
}

func (a *Attr) guess() AttrKind {
	switch {
	case a.T != nil:
		return AttrTensor
	case a.S != nil:
		return AttrString
	case a.Ints != nil:
		return AttrInts
	case a.Floats != nil:
		return AttrFloats
	case a.Strings != nil:
		return AttrStrings
	case a.I != 0:
		return AttrInt
	case a.F != 0:
		return AttrFloat
	}
	return AttrUndefined
}

// skipGraph checks that a subgraph is well formed down to maxDepth; nothing of it is kept.
// A subgraph nests graph, node, attribute, graph: three messages a level.
func skipGraph(s *scanner, graph span, depth int) error {
	if depth > maxDepth {
		return bad(graph.start, "messages nested deeper than %d", maxDepth)
	}
	return s.each(graph.body, graph.end, func(n field) error {
		if n.num != 1 || n.typ != protowire.BytesType {
			return nil
		}
		return s.each(n.body, n.end, func(a field) error {
			if a.num != 5 || a.typ != protowire.BytesType {
				return nil
			}
			return s.each(a.body, a.end, func(g field) error {
				if g.num != 6 && g.num != 11 || g.typ != protowire.BytesType {
					return nil
				}
				return skipGraph(s, g.span, depth+3)
			})
		})
	})
}

// scan reads a ValueInfoProto; only tensor types are looked into.
func (v *ValueInfo) scan(s *scanner, m field) error {
	if err := m.want(protowire.BytesType); err != nil {
		return err
	}
	// path holds the field numbers of the nested messages on the way: type (2),
	// tensor_type (1), then elem_type (1) or shape (2), dim (1).
	return s.each(m.body, m.end, func(g field) (err error) {
		switch g.num {
		case 1:
			v.Name, err = s.text(g, longestName)
		case 2:
			err = s.inside(g, func(typ field) error {
				if typ.num != 1 {
					return nil
				}
				return s.inside(typ, func(t field) error {
					switch t.num {
					case 1:
						n, err := t.number()
						v.DType = DataType(n)
						return err
					case 2:
						v.HasShape = true
						return s.inside(t, func(d field) error {
							if d.num != 1 {
								return nil
							}
							return v.scanDim(s, d)
						})
					}
					return nil
				})
			})
		}
		return err
	})
}

func (v *ValueInfo) scanDim(s *scanner, m field) error {
	d := Dim{Value: -1}
	err := s.inside(m, func(g field) (err error) {
		switch g.num {
		case 1:
			d.Value, err = g.number()
			if err == nil && d.Value < 0 {
				d.Value = -1
			}
			d.Param = ""
		case 2:
			d.Param, err = s.text(g, longestName)
			d.Value = -1
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(v.Dims) == maxRank {
		return bad(m.start, "more than %d dimensions", maxRank)
	}
	v.Dims = append(v.Dims, d)
	return s.keep(m.start, 24)
}

// inside visits the fields of the message that f holds.
func (s *scanner) inside(f field, visit func(field) error) error {
	if err := f.want(protowire.BytesType); err != nil {
		return err
	}
	return s.each(f.body, f.end, visit)
}
