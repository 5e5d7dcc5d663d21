package onnx

import (
	"sift/fault"
)

// check establishes what later stages rely on: names are written once and before they are
// read (so the graph has no cycle), outputs exist, external data is where it may be.
func (f *File) check() error {
	if len(f.Nodes) == 0 {
		return fault.New(fault.Data, "graph %s: no nodes", quote(f.GraphName))
	}
	if len(f.Outputs) == 0 {
		return fault.New(fault.Data, "graph %s: no outputs", quote(f.GraphName))
	}
	const input = -1
	writer := make(map[string]int, len(f.Nodes)+len(f.Initializers))
	for _, t := range f.Initializers {
		writer[t.Name] = input
	}
	inputs := f.Inputs[:0]
	seen := make(map[string]bool, len(f.Inputs))
	for _, v := range f.Inputs {
		if v.Name == "" || seen[v.Name] {
			return fault.New(fault.Data, "graph input %s: empty or repeated name", quote(v.Name))
		}
		seen[v.Name] = true
		if f.byName[v.Name] == nil { // files of IR version 3 list initializers as inputs too
			writer[v.Name] = input
			inputs = append(inputs, v)
		}
	}
	f.Inputs = inputs
	for i := range f.Nodes {
		n := &f.Nodes[i]
		for _, name := range n.Outputs {
			if name == "" {
				continue
			}
			if by, twice := writer[name]; twice {
				what := "an initializer or graph input"
				if by != input {
					what = f.Nodes[by].String()
				}
				return fault.New(fault.Data, "%s: output %s is also written by %s", n, quote(name), what)
			}
			writer[name] = i
		}
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		for _, name := range n.Inputs {
			if name == "" {
				continue
			}
			by, ok := writer[name]
			if !ok {
				return fault.New(fault.Data, "%s: input %s is written by nothing", n, quote(name))
			}
			if by >= i {
				return fault.New(fault.Data, "%s: input %s is written only later, by %s: the nodes are unsorted or form a cycle", n, quote(name), &f.Nodes[by])
			}
		}
	}
	clear(seen)
	for _, v := range f.Outputs {
		if v.Name == "" || seen[v.Name] {
			return fault.New(fault.Data, "graph output %s: empty or repeated name", quote(v.Name))
		}
		seen[v.Name] = true
		if _, ok := writer[v.Name]; !ok {
			return fault.New(fault.Data, "graph output %s: written by nothing", quote(v.Name))
		}
	}
	return f.checkExternal()
}
