// Package onnx reads BERT-family encoders from ONNX files and writes trained weights back
// into them. It works in four stages: the file layer (bytes: Open), the topology (through
// onnx-go), the matcher (which initializer is which parameter: Match), and Load and Store.
//
// The file layer looks at every message once and remembers where things are; payloads are
// read where they stand, and all other bytes are never touched. See
// docs/decisions/0003-onnx-file-layer.md.
package onnx

import (
	"os"
	"strconv"

	"sift/fault"
)

// File is an ONNX model on disk: its tables in memory, its weights where they are.
type File struct {
	Path      string
	Size      int64
	IRVersion int64
	Producer  string           // name and version
	Opsets    map[string]int64 // by domain; "" is ai.onnx
	Metadata  map[string]string
	GraphName string

	Nodes        []Node       // in the file's order, which is topological
	Inputs       []ValueInfo  // graph inputs that have no initializer
	Outputs      []ValueInfo  // graph outputs
	Initializers []*TensorRef // in the file's order
	Functions    []Function   // model-local functions: listed, not expanded
	Sparse       int          // how many sparse initializers there are; they are not read

	file    *os.File
	layout  layout
	byName  map[string]*TensorRef
	modTime int64
}

// Node is one operation. An empty input name is an absent optional input.
type Node struct {
	Index           int
	Name            string
	Domain          string // "" is ai.onnx
	OpType          string
	Inputs, Outputs []string
	Attrs           map[string]Attr

	inputAt []span // where each input name stands, for rewiring
	at      []span
}

// Attr returns the attribute of that name; ok is false if the node has none.
func (n *Node) Attr(name string) (a Attr, ok bool) {
	a, ok = n.Attrs[name]
	return a, ok
}

// Int returns an integer attribute, or otherwise if the node has none of that name.
func (n *Node) Int(name string, otherwise int64) int64 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrInt {
		return a.I
	}
	return otherwise
}

// Float returns a float attribute, or otherwise if the node has none of that name.
func (n *Node) Float(name string, otherwise float64) float64 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrFloat {
		return float64(a.F)
	}
	return otherwise
}

// String describes the node in messages: its index, operation and name.
func (n *Node) String() string {
	op := n.OpType
	if n.Domain != "" {
		op = n.Domain + ":" + op
	}
	s := "node " + strconv.Itoa(n.Index)
	if op != "" {
		s += " (" + printable(op) + ")"
	}
	if n.Name != "" {
		s += " " + quote(n.Name)
	}
	return s
}

// AttrKind is the kind of value an attribute holds, numbered as AttributeProto.AttributeType.
type AttrKind int32

const (
	AttrUndefined AttrKind = 0
	AttrFloat     AttrKind = 1
	AttrInt       AttrKind = 2
	AttrString    AttrKind = 3
	AttrTensor    AttrKind = 4
	AttrGraph     AttrKind = 5 // a subgraph: checked for depth, not kept
	AttrFloats    AttrKind = 6
	AttrInts      AttrKind = 7
	AttrStrings   AttrKind = 8
	AttrTensors   AttrKind = 9
	AttrGraphs    AttrKind = 10
)

// Attr is an attribute of a node. Kinds not listed above keep only their number.
type Attr struct {
	Name    string
	Kind    AttrKind
	I       int64
	F       float32
	S       []byte
	Ints    []int64
	Floats  []float32
	Strings []string
	T       *TensorRef
	Tensors []*TensorRef
}

// ValueInfo is a graph input or output.
type ValueInfo struct {
	Name     string
	DType    DataType // Undefined if the file gives no tensor type
	Dims     []Dim    // nil if the file gives no shape
	HasShape bool

	at span
}

// Dim is a dimension: a number, a symbol, or unknown (Value -1 and no Param).
type Dim struct {
	Value int64
	Param string
}

func (d Dim) String() string {
	switch {
	case d.Param != "":
		return d.Param
	case d.Value < 0:
		return "?"
	}
	return strconv.FormatInt(d.Value, 10)
}

// Function names a model-local function.
type Function struct{ Domain, Name string }

// Opset returns the version of the default operator set, 0 if the file imports none.
func (f *File) Opset() int64 { return f.Opsets[""] }

// Initializer returns the initializer of that name, or nil.
func (f *File) Initializer(name string) *TensorRef { return f.byName[name] }

// Close releases the file. Payloads cannot be read afterwards.
func (f *File) Close() error {
	if f == nil || f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return fault.As(fault.IO, err)
}

// Open scans the model at path: every table is read and checked, no payload is. Errors
// have kind fault.Missing if the file cannot be read, and fault.Data, reading
// "FILE: WHERE: CAUSE", if something in it is wrong. Memory stays within a small multiple
// of the bytes that are not payload.
func Open(path string) (*File, error) {
	file, info, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	f := &File{Path: path, Size: info.Size(), file: file, modTime: info.ModTime().UnixNano()}
	err = f.scan(file)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		file.Close()
		return nil, inFile(path, err)
	}
	return f, nil
}
