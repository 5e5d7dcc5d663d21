package onnx

import (
	"fmt"
	"sort"
	"strconv"

	onnxgo "github.com/owulveryck/onnx-go"
	// onnx-go builds its tensors with gorgonia.org/tensor, whose assertion about the garbage
	// collector panics at start-up under a newer Go. This version of the assertion knows it;
	// the import keeps the version in go.mod.
	_ "go4.org/unsafe/assume-no-moving-gc"
	"gonum.org/v1/gonum/graph"
	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
)

// topology is the graph as onnx-go decoded it: who writes a value and who reads it.
type topology struct {
	writer  map[string]int   // value -> node
	readers map[string][]use // value -> inputs of nodes, in node order
}

// use is one input of one node.
type use struct{ node, input int }

// skeleton writes the graph as a model that onnx-go can decode: nodes and the names of
// values only. Weights, attributes and types stay behind, because onnx-go rejects several
// kinds of them and would copy the rest. Values and nodes carry their numbers for names.
func (f *File) skeleton() (model []byte, values []string) {
	number := map[string]int{}
	name := func(value string) string {
		n, known := number[value]
		if !known || value == "" { // every absent input is a value of its own
			n = len(values)
			values = append(values, value)
			number[value] = n
		}
		return strconv.Itoa(n)
	}
	text := func(b []byte, field protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	message := func(b []byte, field protowire.Number, m []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
	}
	var g, node []byte
	for i := range f.Nodes {
		n := &f.Nodes[i]
		node = node[:0]
		for _, v := range n.Inputs {
			node = text(node, 1, name(v))
		}
		for _, v := range n.Outputs {
			node = text(node, 2, name(v))
		}
		node = text(node, 3, "node"+strconv.Itoa(i))
		node = text(node, 4, strconv.Itoa(i))
		g = message(g, 1, node)
	}
	input := map[string]bool{}
	for _, v := range f.Inputs {
		input[v.Name] = true
		g = message(g, 11, text(nil, 1, name(v.Name)))
	}
	for _, v := range f.Outputs {
		if !input[v.Name] { // onnx-go makes two nodes of a value that is both
			g = message(g, 12, text(nil, 1, name(v.Name)))
		}
	}
	return message(nil, 7, g), values
}

// topology decodes the skeleton and holds the result against our own table.
func (f *File) topology() (t *topology, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fault.New(fault.Data, "graph %s: onnx-go cannot decode it: %v", quote(f.GraphName), r)
		}
	}()
	// onnx-go draws an edge from every output to every input of a node.
	const mostEdges = 1 << 24
	edges := 0
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if edges += len(n.Inputs) * len(n.Outputs); edges > mostEdges {
			return nil, fault.New(fault.Data, "%s: %d inputs and %d outputs make more than %d edges in all", n, len(n.Inputs), len(n.Outputs), mostEdges)
		}
	}
	model, values := f.skeleton()
	b := &builder{values: values}
	if err := onnxgo.NewModel(b).UnmarshalBinary(model); err != nil {
		return nil, fault.New(fault.Data, "graph %s: onnx-go cannot decode it: %w", quote(f.GraphName), err)
	}
	t = &topology{writer: make(map[string]int, len(f.Nodes)), readers: make(map[string][]use, len(f.Nodes))}
	next := 0
	for _, op := range b.operations {
		for next < op.node && len(f.Nodes[next].Outputs) == 0 {
			next++ // a node without outputs writes nothing that could be walked to
		}
		if op.node != next {
			return nil, b.differs(f, next)
		}
		n := &f.Nodes[op.node]
		next++
		if !equal(op.outputs, n.Outputs) || !equal(op.inputs, n.Inputs) {
			return nil, b.differs(f, op.node)
		}
		for _, v := range op.outputs {
			if v != "" {
				t.writer[v] = op.node
			}
		}
		for i, v := range op.inputs {
			if v != "" {
				t.readers[v] = append(t.readers[v], use{op.node, i})
			}
		}
	}
	for ; next < len(f.Nodes); next++ {
		if len(f.Nodes[next].Outputs) > 0 {
			return nil, b.differs(f, next)
		}
	}
	return t, nil
}

// builder is the backend that onnx-go builds into.
type builder struct {
	graph.Directed // part of onnx-go's interface; onnx-go never asks, it only builds
	values         []string
	nodes          int64
	pending        []*edge
	operations     []operation
}

type operation struct {
	node            int
	inputs, outputs []string
}

// value is a node of onnx-go's graph, whose nodes are values and whose edges lead from an
// output to the inputs it is computed from.
type value struct {
	id   int64
	name string
}

func (v *value) ID() int64           { return v.id }
func (v *value) SetName(name string) { v.name = name }
func (v *value) GetName() string     { return v.name }

type edge struct {
	from, to graph.Node
	weight   float64
}

func (e *edge) From() graph.Node         { return e.from }
func (e *edge) To() graph.Node           { return e.to }
func (e *edge) ReversedEdge() graph.Edge { return &edge{e.to, e.from, e.weight} }
func (e *edge) Weight() float64          { return e.weight }

func (b *builder) NewNode() graph.Node {
	b.nodes++
	return &value{id: b.nodes}
}

func (b *builder) AddNode(graph.Node) {}

func (b *builder) NewWeightedEdge(from, to graph.Node, weight float64) graph.WeightedEdge {
	return &edge{from, to, weight}
}

func (b *builder) SetWeightedEdge(e graph.WeightedEdge) { b.pending = append(b.pending, e.(*edge)) }

// Weight and WeightedEdge complete graph.Weighted.
func (b *builder) Weight(_, _ int64) (float64, bool)          { return 0, false }
func (b *builder) WeightedEdge(_, _ int64) graph.WeightedEdge { return nil }

// ApplyOperation closes a node: the edges since the last one are its inputs, once for
// every output.
func (b *builder) ApplyOperation(op onnxgo.Operation, outputs ...graph.Node) error {
	edges := b.pending
	b.pending = nil
	index, err := strconv.Atoi(op.Name)
	if err != nil {
		return fmt.Errorf("operation %q is not a node's number", op.Name)
	}
	o := operation{node: index}
	for _, v := range outputs {
		o.outputs = append(o.outputs, b.name(v))
	}
	if len(outputs) == 0 {
		return nil
	}
	mine := edges[:0:0]
	for _, e := range edges {
		if e.from == outputs[0] {
			mine = append(mine, e)
		}
	}
	sort.SliceStable(mine, func(i, j int) bool { return mine[i].weight < mine[j].weight })
	for i, e := range mine {
		if e.weight != float64(i) {
			return fmt.Errorf("the inputs of node %d are not numbered in order", index)
		}
		name := e.to.(*value).name
		if len(mine) == 1 && name == "node"+op.Name+"/input" {
			break // onnx-go invents an input for nodes that have none
		}
		o.inputs = append(o.inputs, b.name(e.to))
	}
	b.operations = append(b.operations, o)
	return nil
}

// name returns the file's name of a value.
func (b *builder) name(v graph.Node) string {
	i, err := strconv.Atoi(v.(*value).name)
	if err != nil || i < 0 || i >= len(b.values) {
		panic("a value that the skeleton does not have")
	}
	return b.values[i]
}

func (b *builder) differs(f *File, node int) error {
	return fault.New(fault.Data, "%s: the graph that onnx-go decoded differs from the file here", &f.Nodes[node])
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
