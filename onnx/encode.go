package onnx

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// message builds protobuf messages field by field.
type message []byte

func (m message) text(field protowire.Number, s string) message {
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), s)
}

func (m message) bytes(field protowire.Number, b []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), b)
}

func (m message) number(field protowire.Number, v int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), uint64(v))
}

// tensorProto encodes a TensorProto with raw_data.
func tensorProto(name string, d DataType, dims []int64, raw []byte) message {
	return tensorHeader(name, d, dims).bytes(9, raw)
}

func tensorHeader(name string, d DataType, dims []int64) message {
	var m message
	for _, n := range dims {
		m = m.number(1, n)
	}
	return m.number(2, int64(d)).text(8, name)
}

// externalProto encodes a TensorProto whose elements are at offset of the file location.
func externalProto(name string, d DataType, dims []int64, location string, offset, length int64) message {
	m := tensorHeader(name, d, dims)
	for _, e := range [][2]string{{"location", location}, {"offset", itoa(offset)}, {"length", itoa(length)}} {
		m = m.bytes(13, message(nil).text(1, e[0]).text(2, e[1]))
	}
	return m.number(14, 1)
}

// nodeProto encodes a NodeProto of the default domain.
func nodeProto(op, name string, inputs, outputs []string, attrs ...message) message {
	var m message
	for _, v := range inputs {
		m = m.text(1, v)
	}
	for _, v := range outputs {
		m = m.text(2, v)
	}
	m = m.text(3, name).text(4, op)
	for _, a := range attrs {
		m = m.bytes(5, a)
	}
	return m
}

// intAttr encodes an AttributeProto that holds an integer.
func intAttr(name string, v int64) message {
	return message(nil).text(1, name).number(3, v).number(20, int64(AttrInt))
}

// valueProto encodes a ValueInfoProto of a tensor.
func valueProto(name string, d DataType, dims []Dim) message {
	var shape message
	for _, x := range dims {
		var m message
		switch {
		case x.Param != "":
			m = m.text(2, x.Param)
		case x.Value >= 0:
			m = m.number(1, x.Value)
		}
		shape = shape.bytes(1, m)
	}
	tensor := message(nil).number(1, int64(d)).bytes(2, shape)
	return message(nil).text(1, name).bytes(2, message(nil).bytes(1, tensor))
}

// encodeFloat32 turns values into little-endian elements of type d.
func encodeFloat32(data []float32, d DataType) []byte {
	size := d.Size()
	out := make([]byte, len(data)*size)
	for i, v := range data {
		putFloat32(out[i*size:], v, d)
	}
	return out
}
