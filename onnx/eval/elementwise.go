package eval

import (
	"math"

	"sift/onnx"
)

// unary applies f to every element of a float tensor.
func unary(f func(float64) float64) operator {
	return func(c *call) []*Tensor {
		x := c.float(0)
		y := c.newFloat(x.DType, x.Dims)
		spread(len(x.F), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				y.F[i] = f(x.F[i])
			}
		})
		return one(y)
	}
}

// unaryBoth applies f to floats or g, wrapped to the type, to integers.
func unaryBoth(f func(float64) float64, g func(int64) int64) operator {
	floats := unary(f)
	return func(c *call) []*Tensor {
		x := c.arg(0)
		if x.IsFloat() {
			return floats(c)
		}
		y := c.newInt(x.DType, x.Dims)
		for i, v := range x.I {
			y.I[i] = wrap(x.DType, g(v))
		}
		return one(y)
	}
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x // 0, -0 and NaN
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func reciprocal(x float64) float64 { return 1 / x }

// relu keeps NaN.
func relu(x float64) float64 {
	if x < 0 {
		return 0
	}
	return x
}

// softplus(x) = log(1 + exp(x)), without overflow.
func softplus(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

// gelu(x) = x Phi(x), with the normal distribution function Phi by erf.
func gelu(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) }

// geluTanh is the tanh approximation of gelu (Hendrycks and Gimpel, 2016).
func geluTanh(x float64) float64 {
	return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

// opGelu is Gelu of opset 20, whose attribute approximate is none or tanh.
func opGelu(c *call) []*Tensor {
	switch how := c.attrString("approximate", "none"); how {
	case "none":
		return unary(gelu)(c)
	case "tanh":
		return unary(geluTanh)(c)
	default:
		c.fail("attribute approximate is %q, not none or tanh", how)
		return nil
	}
}

func opLeakyRelu(c *call) []*Tensor {
	alpha := c.attrFloat("alpha", 0.01)
	return unary(func(x float64) float64 {
		if x < 0 {
			return alpha * x
		}
		return x
	})(c)
}

func opElu(c *call) []*Tensor {
	alpha := c.attrFloat("alpha", 1)
	return unary(func(x float64) float64 {
		if x < 0 {
			return alpha * math.Expm1(x)
		}
		return x
	})(c)
}

// arithmetic is a binary operator with broadcasting on two tensors of one type.
// Integer results wrap to the type's width.
func arithmetic(f func(x, y float64) float64, g func(c *call, x, y int64) int64) operator {
	return func(c *call) []*Tensor {
		a, b := c.arg(0), c.arg(1)
		c.same(a, b)
		y := c.newLike(a, c.broadcastDims(a, b))
		if a.IsFloat() {
			map2(y.Dims, y.F, a.F, a.Dims, b.F, b.Dims, f)
		} else {
			map2(y.Dims, y.I, a.I, a.Dims, b.I, b.Dims, func(x, z int64) int64 {
				v := wrap(a.DType, g(c, x, z))
				if a.DType == onnx.Uint64 && v < 0 {
					c.fail("a uint64 result does not fit 63 bits")
				}
				return v
			})
		}
		return one(y)
	}
}

func addFloat(x, y float64) float64 { return x + y }
func subFloat(x, y float64) float64 { return x - y }
func mulFloat(x, y float64) float64 { return x * y }
func divFloat(x, y float64) float64 { return x / y }

func addInt(_ *call, x, y int64) int64 { return x + y }
func subInt(_ *call, x, y int64) int64 { return x - y }
func mulInt(_ *call, x, y int64) int64 { return x * y }

// divInt truncates towards zero.
func divInt(c *call, x, y int64) int64 {
	if y == 0 {
		c.fail("integer division by zero")
	}
	return x / y
}

// opMod is Python's modulo on integers (the sign follows the divisor), C's fmod (the
// sign follows the dividend) with fmod=1, which floats require.
func opMod(c *call) []*Tensor {
	fmod := c.attrInt("fmod", 0) != 0
	if c.arg(0).IsFloat() && !fmod {
		c.fail("Mod of floats needs fmod=1")
	}
	return arithmetic(math.Mod, func(c *call, x, y int64) int64 {
		if y == 0 {
			c.fail("integer modulo by zero")
		}
		r := x % y
		if !fmod && r != 0 && (r < 0) != (y < 0) {
			r += y
		}
		return r
	})(c)
}

// opPow gives the type of the base; the exponent may be of another type.
func opPow(c *call) []*Tensor {
	x, e := c.arg(0), c.arg(1)
	y := c.newLike(x, c.broadcastDims(x, e))
	if !x.IsFloat() && !e.IsFloat() {
		map2(y.Dims, y.I, x.I, x.Dims, e.I, e.Dims, func(b, n int64) int64 {
			return wrap(x.DType, powInt(c, b, n))
		})
		return one(y)
	}
	out := y.F
	if !x.IsFloat() {
		out = make([]float64, len(y.I))
	}
	map2(y.Dims, out, asFloats(x), x.Dims, asFloats(e), e.Dims, math.Pow)
	for i := range y.I {
		y.I[i] = truncate(x.DType, out[i])
	}
	return one(y)
}

// powInt is b^n by squaring, wrapping as multiplication does.
func powInt(c *call, b, n int64) int64 {
	if n < 0 {
		if b == 0 {
			c.fail("zero to a negative integer power")
		}
		if b == 1 || b == -1 {
			n = -n & 1
		} else {
			return 0
		}
	}
	r := int64(1)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			r *= b
		}
		b *= b
	}
	return r
}

// asFloats returns the elements as float64, copying integers.
func asFloats(t *Tensor) []float64 {
	if t.IsFloat() {
		return t.F
	}
	f := make([]float64, len(t.I))
	for i, v := range t.I {
		f[i] = float64(v)
	}
	return f
}

// variadic folds any number of broadcast inputs with f or g: Max, Min, Sum.
func variadic(f func(x, y float64) float64, g func(c *call, x, y int64) int64) operator {
	pair := arithmetic(f, g)
	return func(c *call) []*Tensor {
		acc := c.arg(0)
		for i := 1; i < len(c.in); i++ {
			acc = pair(&call{run: c.run, node: c.node, opset: c.opset, in: []*Tensor{acc, c.arg(i)}})[0]
		}
		return one(acc)
	}
}

func opMean(c *call) []*Tensor {
	sum := variadic(addFloat, addInt)(c)[0]
	if !sum.IsFloat() {
		c.fail("Mean of %v", sum.DType)
	}
	y := c.newFloat(sum.DType, sum.Dims)
	for i, v := range sum.F {
		y.F[i] = v / float64(len(c.in))
	}
	return one(y)
}

func maxInt(_ *call, x, y int64) int64 { return max(x, y) }
func minInt(_ *call, x, y int64) int64 { return min(x, y) }

// opClip limits to [min, max]; the bounds are attributes up to opset 10, optional
// scalar inputs from 11. The upper bound wins when they cross.
func opClip(c *call) []*Tensor {
	x := c.arg(0)
	y := c.newLike(x, x.Dims)
	lo, hi := c.opt(1), c.opt(2)
	for _, bound := range []*Tensor{lo, hi} {
		if bound != nil {
			c.same(x, bound)
			if bound.Len() != 1 {
				c.fail("a bound has shape %s, not one element", dimsText(bound.Dims))
			}
		}
	}
	if !x.IsFloat() {
		copy(y.I, x.I)
		for i := range y.I {
			if lo != nil {
				y.I[i] = max(y.I[i], lo.I[0])
			}
			if hi != nil {
				y.I[i] = min(y.I[i], hi.I[0])
			}
		}
		return one(y)
	}
	low, high := c.attrFloat("min", math.Inf(-1)), c.attrFloat("max", math.Inf(1))
	if lo != nil {
		low = lo.F[0]
	}
	if hi != nil {
		high = hi.F[0]
	}
	for i, v := range x.F {
		y.F[i] = math.Min(math.Max(v, low), high) // both keep NaN
	}
	return one(y)
}
