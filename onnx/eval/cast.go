package eval

import (
	"math"

	"sift/onnx"
)

// opCast converts to the type in attribute to, opCastLike to that of the second
// input.
func opCast(c *call) []*Tensor {
	to := onnx.DataType(c.attrInt("to", 0))
	return one(c.cast(c.arg(0), to))
}

func opCastLike(c *call) []*Tensor { return one(c.cast(c.arg(0), c.arg(1).DType)) }

// cast converts as ONNX's Cast does. Activations are float64 whatever their declared
// type, so a cast between float types rounds only where the graph asks for a narrower
// type than the source declares (double to float, float to float16); a cast from an
// integer rounds to the target type. Floats become integers by truncation and bool by
// comparison with zero; integers wrap.
func (c *call) cast(x *Tensor, to onnx.DataType) *Tensor {
	if to == x.DType {
		return x
	}
	_, _, integer := integerRange(to)
	if !isFloat(to) && !integer {
		c.fail("cast to %v is not supported", to)
	}
	if isFloat(to) {
		y := c.newFloat(to, x.Dims)
		switch {
		case !x.IsFloat():
			for i, v := range x.I {
				y.F[i] = roundTo(to, float64(v))
			}
		case significandBits(to) < significandBits(x.DType):
			for i, v := range x.F {
				y.F[i] = roundTo(to, v)
			}
		case to == onnx.Float16: // from bfloat16: more digits, smaller range
			for i, v := range x.F {
				y.F[i] = roundTo(to, v)
			}
		default:
			copy(y.F, x.F)
		}
		return y
	}
	y := c.newInt(to, x.Dims)
	for i := range y.I {
		if x.IsFloat() {
			y.I[i] = truncate(to, x.F[i])
		} else {
			y.I[i] = wrap(to, x.I[i])
			if to == onnx.Uint64 && y.I[i] < 0 {
				c.fail("cast of %d to uint64", x.I[i])
			}
		}
	}
	return y
}

// truncate converts a float to an integer type, towards zero; bool is "not zero".
// What does not fit is undefined in ONNX and saturates here; NaN becomes 0.
func truncate(to onnx.DataType, v float64) int64 {
	if to == onnx.Bool {
		return truth(v != 0)
	}
	lo, hi, _ := integerRange(to)
	v = math.Trunc(v)
	switch {
	case math.IsNaN(v):
		return 0
	case v <= float64(lo):
		return lo
	case v >= float64(hi):
		return hi
	}
	return int64(v)
}
