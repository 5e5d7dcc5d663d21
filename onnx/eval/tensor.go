package eval

import (
	"math"

	"sift/onnx"
)

// Tensor is a value of the graph, row-major. Exactly one of F and I holds the
// elements:
//
//   - F for float16, bfloat16, float and double, always as float64;
//   - I for all integer types and for bool (0 or 1), exactly, in the range of DType.
//     A uint64 above 2^63-1 is refused, never wrapped.
//
// Dims of length zero is a scalar with one element. Tensors are immutable once an
// operator has returned them: several may share one slice.
type Tensor struct {
	DType onnx.DataType
	Dims  []int
	F     []float64
	I     []int64
}

// Floats returns a float tensor over data (not copied).
func Floats(data []float64, dims ...int) *Tensor {
	return &Tensor{DType: onnx.Float, Dims: dims, F: data}
}

// Int64s returns an int64 tensor over data (not copied).
func Int64s(data []int64, dims ...int) *Tensor {
	return &Tensor{DType: onnx.Int64, Dims: dims, I: data}
}

// Len returns the number of elements held.
func (t *Tensor) Len() int {
	if t.IsFloat() {
		return len(t.F)
	}
	return len(t.I)
}

// IsFloat reports whether the elements are in F.
func (t *Tensor) IsFloat() bool { return isFloat(t.DType) }

// with returns a tensor of other dimensions over the same elements.
func (t *Tensor) with(dims []int) *Tensor {
	return &Tensor{DType: t.DType, Dims: dims, F: t.F, I: t.I}
}

func isFloat(d onnx.DataType) bool {
	return d == onnx.Float || d == onnx.Double || d == onnx.Float16 || d == onnx.BFloat16
}

// integerRange returns the smallest and largest value of an integer type (bool
// included), and whether it is one.
func integerRange(d onnx.DataType) (lo, hi int64, ok bool) {
	switch d {
	case onnx.Bool:
		return 0, 1, true
	case onnx.Int8:
		return math.MinInt8, math.MaxInt8, true
	case onnx.Uint8:
		return 0, math.MaxUint8, true
	case onnx.Int16:
		return math.MinInt16, math.MaxInt16, true
	case onnx.Uint16:
		return 0, math.MaxUint16, true
	case onnx.Int32:
		return math.MinInt32, math.MaxInt32, true
	case onnx.Uint32:
		return 0, math.MaxUint32, true
	case onnx.Int64:
		return math.MinInt64, math.MaxInt64, true
	case onnx.Uint64:
		return 0, math.MaxInt64, true
	}
	return 0, 0, false
}

// wrap reduces v to the width of an integer type, as two's complement hardware does.
func wrap(d onnx.DataType, v int64) int64 {
	switch d {
	case onnx.Bool:
		if v != 0 {
			return 1
		}
		return 0
	case onnx.Int8:
		return int64(int8(v))
	case onnx.Uint8:
		return int64(uint8(v))
	case onnx.Int16:
		return int64(int16(v))
	case onnx.Uint16:
		return int64(uint16(v))
	case onnx.Int32:
		return int64(int32(v))
	case onnx.Uint32:
		return int64(uint32(v))
	}
	return v
}

// significandBits orders the float types by precision; the hidden bit counts.
func significandBits(d onnx.DataType) int {
	switch d {
	case onnx.BFloat16:
		return 8
	case onnx.Float16:
		return 11
	case onnx.Float:
		return 24
	}
	return 53
}

// roundTo rounds x to the nearest value of float type d, ties to even; what is too
// large becomes infinite.
func roundTo(d onnx.DataType, x float64) float64 {
	switch d {
	case onnx.Float:
		return float64(float32(x))
	case onnx.Float16:
		return roundBinary(x, 11, -14, 15)
	case onnx.BFloat16:
		return roundBinary(x, 8, -126, 127)
	}
	return x
}

// roundBinary rounds x to a binary format of p significand bits and exponents from
// emin (below which numbers are subnormal) to emax.
func roundBinary(x float64, p, emin, emax int) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	_, e := math.Frexp(x) // |x| is in [2^(e-1), 2^e)
	ulp := max(e-1, emin) - (p - 1)
	y := math.Ldexp(math.RoundToEven(math.Ldexp(x, -ulp)), ulp)
	if math.Abs(y) >= math.Ldexp(1, emax+1) {
		return math.Inf(int(math.Copysign(1, x)))
	}
	return y
}
