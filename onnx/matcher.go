package onnx

import (
	"fmt"

	"sift/fault"
)

// matcher walks a topology. Its methods answer one question each about a value, and cache
// what is asked again; none of them looks at a name but to find a writer or reader.
type matcher struct {
	f        *File
	g        *topology
	inputs   map[string]int // graph inputs, by name
	depth    int
	ints     map[string][]dim
	shapes   map[string][]dim
	scalars  map[string]number
	uniforms map[string]number
	norms    []*norm          // in the graph's order
	normOf   map[string]*norm // by output
	residual map[string]*norm // by a term of its sum
	indexes  map[string]index
	masks    map[string]*maskValue
}

// maxWalk bounds recursion through a graph; the deepest idiom needs some twenty steps.
const maxWalk = 400

// deeper counts a step of recursion; call the result when it ends.
func (m *matcher) deeper() (done func(), ok bool) {
	m.depth++
	return func() { m.depth-- }, m.depth < maxWalk
}

// misfit is a node that is not what a BERT graph has at its place.
type misfit struct {
	at              string // the node or value
	expected, found string
}

func (e *misfit) Error() string {
	return fmt.Sprintf("%s: expected %s, found %s", e.at, e.expected, e.found)
}

// misfit says that the writer of value is not what was expected.
func (m *matcher) misfit(value, expected string) error {
	if n := m.writer(value); n != nil {
		return m.misfitNode(n, expected, describe(n))
	}
	found := "a value that nothing writes"
	if m.f.byName[value] != nil {
		found = "an initializer"
	} else if value == "" {
		found = "nothing"
	} else if m.input(value) != nil {
		found = "a graph input"
	}
	return fault.As(fault.Data, &misfit{"value " + quote(value), expected, found})
}

func (m *matcher) misfitNode(n *Node, expected, found string) error {
	return fault.As(fault.Data, &misfit{n.String(), expected, found})
}

func describe(n *Node) string {
	op := n.OpType
	if n.Domain != "" {
		op = n.Domain + ":" + op
	}
	return printable(op)
}

// writer returns the node that writes value, or nil for inputs and initializers.
func (m *matcher) writer(value string) *Node {
	if i, ok := m.g.writer[value]; ok && value != "" {
		return &m.f.Nodes[i]
	}
	return nil
}

// input returns the graph input called value, or nil.
func (m *matcher) input(value string) *ValueInfo {
	if i, ok := m.inputs[value]; ok {
		return &m.f.Inputs[i]
	}
	return nil
}

// is reports whether n is an operation of the default domain called op.
func is(n *Node, op string) bool { return n != nil && n.Domain == "" && n.OpType == op }

// in returns the i-th input of n, "" if absent.
func in(n *Node, i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}

// first returns the first output of n, "" if it has none.
func first(n *Node) string {
	if len(n.Outputs) == 0 {
		return ""
	}
	return n.Outputs[0]
}

// skip goes back over what changes nothing in inference: Identity, Dropout, and casts
// between floating-point types (those change the precision only).
func (m *matcher) skip(value string) string {
	for {
		n := m.writer(value)
		if n == nil || len(n.Inputs) == 0 || !m.changesNothing(n, value) {
			return value
		}
		value = in(n, 0)
	}
}

func (m *matcher) changesNothing(n *Node, value string) bool {
	if n.Domain != "" || first(n) != value {
		return false
	}
	switch n.OpType {
	case "Identity":
		return true
	case "Cast":
		return DataType(n.Int("to", 0)).IsFloat()
	case "Dropout":
		if in(n, 2) == "" { // no training_mode: inference
			return true
		}
		v, ok := m.scalar(in(n, 2))
		return ok && v == 0
	}
	return false
}

// strip is skip that also goes back over reshapes which keep rows whole: those that
// flatten [B,S,H] to [B*S,H] and back.
func (m *matcher) strip(value string) string {
	for {
		value = m.skip(value)
		n := m.writer(value)
		if !is(n, "Reshape") || !m.keepsRows(n) {
			return value
		}
		value = in(n, 0)
	}
}

// keepsRows reports whether a Reshape leaves the last dimension alone, as far as its
// target tells: a target of rank 2 or 3 whose last dimension is unknown, -1 or 0, or
// equal to the last dimension of what comes in.
func (m *matcher) keepsRows(n *Node) bool {
	target, ok := m.integers(in(n, 1))
	if !ok || len(target) < 2 || len(target) > 3 {
		return false
	}
	last := target[len(target)-1]
	from := m.shape(in(n, 0))
	if len(from) < 2 {
		return true
	}
	if len(from) > 3 {
		return false
	}
	was := from[len(from)-1]
	return !last.known || last.v <= 0 || !was.known || last.v == was.v
}

// same reports whether a and b are the same rows.
func (m *matcher) same(a, b string) bool { return a == b || m.strip(a) == m.strip(b) }

// readersOf lists the nodes that read value, past what changes nothing.
func (m *matcher) readersOf(value string) []*Node {
	var out []*Node
	todo := []string{value}
	for steps := 0; len(todo) > 0 && steps < 1000; steps++ {
		v := todo[0]
		todo = todo[1:]
		for _, u := range m.g.readers[v] {
			n := &m.f.Nodes[u.node]
			if u.input == 0 && len(n.Outputs) > 0 && m.changesNothing(n, first(n)) {
				todo = append(todo, first(n))
				continue
			}
			out = append(out, n)
		}
	}
	return out
}
