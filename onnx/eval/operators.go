package eval

import "math"

// Versions of the default operator set whose semantics the operators follow.
const (
	oldestOpset = 7 // numpy broadcasting
	newestOpset = 24
)

// opName is an operation type in its domain; "" is the default one.
type opName struct{ domain, op string }

func tanh(x float64) float64          { return math.Tanh(x) }
func same1(x float64) float64         { return x }
func and(x, y int64) int64            { return x & y }
func or(x, y int64) int64             { return x | y }
func xor(x, y int64) int64            { return x ^ y }
func negInt(x int64) int64            { return -x }
func signInt(x int64) int64           { return int64(sign(float64(x))) }
func absInt(x int64) int64            { return max(x, -x) }
func reluInt(x int64) int64           { return max(x, 0) }
func softsign(x float64) float64      { return x / (1 + math.Abs(x)) }
func roundHalfEven(x float64) float64 { return math.RoundToEven(x) }

// operators is the table of what can be run.
func operators() map[opName]operator {
	table := map[opName]operator{}
	for name, op := range defaultOperators() {
		table[opName{"", name}] = op
	}
	for name, op := range microsoftOperators() {
		table[opName{"com.microsoft", name}] = op
	}
	return table
}

func defaultOperators() map[string]operator {
	return map[string]operator{
		// One input, element by element.
		"Abs":        unaryBoth(math.Abs, absInt),
		"Acos":       unary(math.Acos),
		"Asin":       unary(math.Asin),
		"Atan":       unary(math.Atan),
		"Ceil":       unary(math.Ceil),
		"Clip":       opClip,
		"Cos":        unary(math.Cos),
		"Cosh":       unary(math.Cosh),
		"Elu":        opElu,
		"Erf":        unary(math.Erf),
		"Exp":        unary(math.Exp),
		"Floor":      unary(math.Floor),
		"Gelu":       opGelu,
		"IsInf":      opIsInf,
		"IsNaN":      opIsNaN,
		"LeakyRelu":  opLeakyRelu,
		"Log":        unary(math.Log),
		"Neg":        unaryBoth(func(x float64) float64 { return -x }, negInt),
		"Not":        opNot,
		"Reciprocal": unary(reciprocal),
		"Relu":       unaryBoth(relu, reluInt),
		"Round":      unary(roundHalfEven),
		"Sigmoid":    unary(sigmoid),
		"Sign":       unaryBoth(sign, signInt),
		"Sin":        unary(math.Sin),
		"Sinh":       unary(math.Sinh),
		"Softplus":   unary(softplus),
		"Softsign":   unary(softsign),
		"Sqrt":       unary(math.Sqrt),
		"Tan":        unary(math.Tan),
		"Tanh":       unary(tanh),

		// Several inputs, broadcast.
		"Add":            arithmetic(addFloat, addInt),
		"And":            connective(and),
		"Div":            arithmetic(divFloat, divInt),
		"Equal":          compare(equal[float64], equal[int64]),
		"Greater":        compare(greater[float64], greater[int64]),
		"GreaterOrEqual": compare(greaterEqual[float64], greaterEqual[int64]),
		"Less":           compare(less[float64], less[int64]),
		"LessOrEqual":    compare(lessEqual[float64], lessEqual[int64]),
		"Max":            variadic(math.Max, maxInt),
		"Mean":           opMean,
		"Min":            variadic(math.Min, minInt),
		"Mod":            opMod,
		"Mul":            arithmetic(mulFloat, mulInt),
		"Or":             connective(or),
		"Pow":            opPow,
		"Sub":            arithmetic(subFloat, subInt),
		"Sum":            variadic(addFloat, addInt),
		"Where":          opWhere,
		"Xor":            connective(xor),

		// Products.
		"Einsum": opEinsum,
		"Gemm":   opGemm,
		"MatMul": opMatMul,

		// Reductions and normalisation.
		"ArgMax":             extreme(func(x, y float64) bool { return x > y }),
		"ArgMin":             extreme(func(x, y float64) bool { return x < y }),
		"CumSum":             opCumSum,
		"Hardmax":            opHardmax,
		"LayerNormalization": opLayerNormalization,
		"LogSoftmax":         opLogSoftmax,
		"ReduceL1":           reduce(reduceL1()),
		"ReduceL2":           reduce(reduceL2()),
		"ReduceLogSum":       reduce(reduceLogSum()),
		"ReduceLogSumExp":    opReduceLogSumExp,
		"ReduceMax":          reduce(reduceMax()),
		"ReduceMean":         reduce(reduceMean()),
		"ReduceMin":          reduce(reduceMin()),
		"ReduceProd":         reduce(reduceProd()),
		"ReduceSum":          reduce(reduceSum()),
		"ReduceSumSquare":    reduce(reduceSumSquare()),
		"Softmax":            opSoftmax,
		"TopK":               opTopK,

		// Shapes and positions.
		"Cast":            opCast,
		"CastLike":        opCastLike,
		"Concat":          opConcat,
		"Constant":        opConstant,
		"ConstantOfShape": opConstantOfShape,
		"Dropout":         opDropout,
		"Expand":          opExpand,
		"EyeLike":         opEyeLike,
		"Flatten":         opFlatten,
		"Gather":          opGather,
		"GatherElements":  opGatherElements,
		"GatherND":        opGatherND,
		"Identity":        opIdentity,
		"NonZero":         opNonZero,
		"OneHot":          opOneHot,
		"Range":           opRange,
		"Reshape":         opReshape,
		"ScatterElements": opScatterElements,
		"ScatterND":       opScatterND,
		"Shape":           opShape,
		"Size":            opSize,
		"Slice":           opSlice,
		"Split":           opSplit,
		"Squeeze":         opSqueeze,
		"Tile":            opTile,
		"Transpose":       opTranspose,
		"Trilu":           opTrilu,
		"Unsqueeze":       opUnsqueeze,
	}
}

func microsoftOperators() map[string]operator {
	return map[string]operator{
		"Attention":               opAttention,
		"BiasGelu":                opBiasGelu,
		"EmbedLayerNormalization": opEmbedLayerNormalization,
		"FastGelu":                opFastGelu,
		"FusedGemm":               opFusedGemm,
		"FusedMatMul":             opFusedMatMul,
		"Gelu":                    unary(gelu),
		"LayerNormalization":      opLayerNormalization,
		"MultiHeadAttention":      opMultiHeadAttention,
		"QuickGelu":               opQuickGelu,
		"SkipLayerNormalization":  opSkipLayerNormalization,
	}
}
