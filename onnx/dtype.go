package onnx

import (
	"fmt"
	"math"
)

// DataType is an element type, numbered as ONNX's TensorProto.DataType.
type DataType int32

const (
	Undefined  DataType = 0
	Float      DataType = 1
	Uint8      DataType = 2
	Int8       DataType = 3
	Uint16     DataType = 4
	Int16      DataType = 5
	Int32      DataType = 6
	Int64      DataType = 7
	String     DataType = 8
	Bool       DataType = 9
	Float16    DataType = 10
	Double     DataType = 11
	Uint32     DataType = 12
	Uint64     DataType = 13
	Complex64  DataType = 14
	Complex128 DataType = 15
	BFloat16   DataType = 16
)

func (d DataType) String() string {
	switch d {
	case Undefined:
		return "undefined"
	case Float:
		return "float32"
	case Uint8:
		return "uint8"
	case Int8:
		return "int8"
	case Uint16:
		return "uint16"
	case Int16:
		return "int16"
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case String:
		return "string"
	case Bool:
		return "bool"
	case Float16:
		return "float16"
	case Double:
		return "float64"
	case Uint32:
		return "uint32"
	case Uint64:
		return "uint64"
	case Complex64:
		return "complex64"
	case Complex128:
		return "complex128"
	case BFloat16:
		return "bfloat16"
	}
	return fmt.Sprintf("type %d", int32(d))
}

// Size returns the bytes of one element, 0 for strings and for types unknown here (among
// them those of less than a byte).
func (d DataType) Size() int {
	switch d {
	case Uint8, Int8, Bool:
		return 1
	case Uint16, Int16, Float16, BFloat16:
		return 2
	case Float, Int32, Uint32:
		return 4
	case Int64, Uint64, Double, Complex64:
		return 8
	case Complex128:
		return 16
	}
	return 0
}

// IsFloat reports whether d is a real floating-point type that can be read and written here.
func (d DataType) IsFloat() bool {
	return d == Float || d == Double || d == Float16 || d == BFloat16
}

// IsInteger reports whether d is an integer type or bool.
func (d DataType) IsInteger() bool {
	switch d {
	case Uint8, Int8, Uint16, Int16, Int32, Int64, Bool, Uint32, Uint64:
		return true
	}
	return false
}

// float16To32 converts an IEEE 754 binary16 exactly.
func float16To32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31: // infinity or NaN, payload kept
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// float16From32 rounds to the nearest binary16, ties to even; what is too large becomes infinite.
func float16From32(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN: keep the upper payload, and stay a NaN
		return sign | 0x7c00 | uint16(b>>13)&0x3ff | 0x200
	case b >= 0x477ff000: // 65520 and above rounds to infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
		r := math.Float32bits(math.Float32frombits(b) + 0.5)
		return sign | uint16(r-math.Float32bits(0.5))
	}
	b += 0xfff + b>>13&1 // half an ulp less one, plus one if the kept part is odd
	return sign | uint16(b>>13-112<<10)
}

// bfloat16To32 converts exactly.
func bfloat16To32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// bfloat16From32 rounds to the nearest bfloat16, ties to even.
func bfloat16From32(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
