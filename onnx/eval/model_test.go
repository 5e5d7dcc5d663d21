package eval

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/onnx"
)

// node is a NodeProto to write: attrs holds int64, float64, string, []int64 or *Tensor.
type node struct {
	op, domain string
	in, out    []string
	attrs      map[string]any
}

// input is a graph input of free shape and rank.
type input struct {
	name  string
	dtype onnx.DataType
}

func message(b []byte, num protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), body)
}

func text(b []byte, num protowire.Number, s string) []byte { return message(b, num, []byte(s)) }

func number(b []byte, num protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
}

// model writes a ModelProto; initializers are TensorProtos.
func model(opset int64, nodes []node, inputs []input, outputs []string, initializers ...[]byte) []byte {
	var g []byte
	for _, n := range nodes {
		g = message(g, 1, n.proto())
	}
	g = text(g, 2, "test")
	for _, t := range initializers {
		g = message(g, 5, t)
	}
	for _, in := range inputs {
		tensorType := number(nil, 1, int64(in.dtype))
		g = message(g, 11, message(text(nil, 1, in.name), 2, message(nil, 1, tensorType)))
	}
	for _, out := range outputs {
		g = message(g, 12, text(nil, 1, out))
	}
	m := number(nil, 1, 8)
	m = message(m, 7, g)
	m = message(m, 8, number(text(nil, 1, ""), 2, opset))
	return message(m, 8, number(text(nil, 1, "com.microsoft"), 2, 1))
}

func (n node) proto() []byte {
	var b []byte
	for _, s := range n.in {
		b = text(b, 1, s)
	}
	for _, s := range n.out {
		b = text(b, 2, s)
	}
	b = text(b, 4, n.op)
	for name, v := range n.attrs {
		a := text(nil, 1, name)
		switch v := v.(type) {
		case float64:
			a = protowire.AppendFixed32(protowire.AppendTag(a, 2, protowire.Fixed32Type), math.Float32bits(float32(v)))
			a = number(a, 20, int64(onnx.AttrFloat))
		case int:
			a = number(number(a, 3, int64(v)), 20, int64(onnx.AttrInt))
		case string:
			a = number(text(a, 4, v), 20, int64(onnx.AttrString))
		case []int64:
			for _, x := range v {
				a = number(a, 8, x)
			}
			a = number(a, 20, int64(onnx.AttrInts))
		case *Tensor:
			a = number(message(a, 5, tensorProto("", v)), 20, int64(onnx.AttrTensor))
		default:
			panic("attribute of an unknown kind")
		}
		b = message(b, 5, a)
	}
	return text(b, 7, n.domain)
}

// tensorProto writes float tensors as float32 and integers as int64 or bool.
func tensorProto(name string, t *Tensor) []byte {
	var b, raw []byte
	for _, d := range t.Dims {
		b = number(b, 1, int64(d))
	}
	b = number(b, 2, int64(t.DType))
	for _, v := range t.F {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
	}
	for _, v := range t.I {
		if t.DType == onnx.Bool {
			raw = append(raw, byte(v))
		} else {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
		}
	}
	return message(text(b, 8, name), 9, raw)
}

// open writes a model to a file of the test and prepares it.
func open(t testing.TB, m []byte) *Graph {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, m, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	g, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
