package onnx

import (
	"math"

	"sift/backend"
)

// activationAt recognises a value as GELU(x): it evaluates the scalar function that the graph
// computes at sample points and compares it with the two GELUs, so that any way of writing
// them fits. It returns x and, for fused operations, a bias to be added to it.
func (m *matcher) activationAt(value, what string) (act backend.Activation, x string, bias *constant, err error) {
	e := &pointwise{m: m, memo: map[string]float64{}}
	value = m.skip(value)
	e.find(value)
	if e.leaf == "" || e.failed {
		return 0, "", nil, m.misfit(value, what+": an activation of one value")
	}
	if e.leaf == value {
		return 0, "", nil, m.misfit(value, what+": GELU")
	}
	points := []float64{-6, -3.1, -2.2, -1.7, -0.9, -0.3, 0, 0.2, 0.7, 1.4, 2.1, 2.9, 5}
	functions := []struct {
		name string
		act  backend.Activation
		f    func(x float64) float64
	}{
		{"GELU", backend.GeluErf, func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }},
		{"GELU with tanh", backend.GeluTanh, geluTanh},
		{"ReLU", backend.Linear, func(x float64) float64 { return max(x, 0) }},
		{"SiLU", backend.Linear, func(x float64) float64 { return x / (1 + math.Exp(-x)) }},
		{"GELU with a sigmoid", backend.Linear, func(x float64) float64 { return x / (1 + math.Exp(-1.702*x)) }},
		{"tanh", backend.Linear, math.Tanh},
	}
	best, least := 0, math.Inf(1)
	for i, fn := range functions {
		worst := 0.0
		for _, p := range points {
			worst = max(worst, math.Abs(e.at(value, p)-fn.f(p)))
		}
		if worst < least {
			best, least = i, worst
		}
	}
	// The two GELUs differ by up to 4.7e-4; constants in float16 cost up to 1e-4.
	switch {
	case !(least < 2e-4):
		return 0, "", nil, m.misfit(value, what+": GELU")
	case functions[best].act == backend.Linear:
		return 0, "", nil, m.misfitNode(m.writer(value), what+": GELU", functions[best].name)
	}
	return functions[best].act, e.leaf, e.bias, nil
}

func geluTanh(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

// pointwise is a scalar function written as a graph of point-wise operations on one value.
type pointwise struct {
	m      *matcher
	leaf   string
	bias   *constant
	seen   map[string]bool
	failed bool
	memo   map[string]float64
	point  float64
}

// find walks back from value to the one value that is not computed point-wise.
func (e *pointwise) find(value string) {
	if e.seen == nil {
		e.seen = map[string]bool{}
	}
	value = e.m.skip(value)
	if e.seen[value] || e.failed {
		return
	}
	e.seen[value] = true
	if len(e.seen) > 64 {
		e.failed = true
		return
	}
	if _, ok := e.m.scalar(value); ok {
		return
	}
	n := e.m.writer(value)
	if n != nil && e.arity(n) > 0 && len(n.Inputs) >= e.arity(n) && !e.biased(n) {
		for i := 0; i < e.arity(n); i++ {
			e.find(n.Inputs[i])
		}
		return
	}
	if e.leaf != "" && e.leaf != value {
		e.failed = true
	}
	e.leaf = value
}

// biased reports whether n adds (or does something else with) a vector: that belongs to
// the linear map before the activation.
func (e *pointwise) biased(n *Node) bool {
	fused := n.Domain == microsoft && (n.OpType == "BiasGelu" || n.OpType == "FastGelu")
	for i := range n.Inputs {
		c, ok := e.m.constantOf(n, i)
		if !ok || c.t.Len == 1 {
			continue
		}
		if fused && i == 1 && e.bias == nil && c.isVector() {
			e.bias = &c
			continue
		}
		return true
	}
	return false
}

// arity returns how many inputs of n are evaluated point-wise, 0 if n is no such operation.
func (e *pointwise) arity(n *Node) int {
	switch n.Domain {
	case "":
		switch n.OpType {
		case "Add", "Sub", "Mul", "Div", "Pow":
			return 2
		case "Erf", "Tanh", "Sqrt", "Neg", "Relu", "Sigmoid", "Exp", "Gelu", "Reciprocal":
			return 1
		}
	case microsoft:
		switch n.OpType {
		case "Gelu", "FastGelu", "BiasGelu", "QuickGelu":
			return 1
		}
	}
	return 0
}

// at evaluates value where the leaf is x.
func (e *pointwise) at(value string, x float64) float64 {
	clear(e.memo)
	e.point = x
	return e.eval(value)
}

func (e *pointwise) eval(value string) float64 {
	value = e.m.skip(value)
	if value == e.leaf {
		return e.point
	}
	if v, ok := e.memo[value]; ok {
		return v
	}
	v, ok := e.m.scalar(value)
	if !ok {
		n := e.m.writer(value)
		var a, b float64
		if arity := e.arity(n); arity > 0 {
			a = e.eval(in(n, 0))
			if arity > 1 {
				b = e.eval(in(n, 1))
			}
		}
		v = pointwiseOp(n, a, b)
	}
	e.memo[value] = v
	return v
}

func pointwiseOp(n *Node, a, b float64) float64 {
	switch n.OpType {
	case "Add":
		return a + b
	case "Sub":
		return a - b
	case "Mul":
		return a * b
	case "Div":
		return a / b
	case "Pow":
		return math.Pow(a, b)
	case "Erf":
		return math.Erf(a)
	case "Tanh":
		return math.Tanh(a)
	case "Sqrt":
		return math.Sqrt(a)
	case "Neg":
		return -a
	case "Relu":
		return max(a, 0)
	case "Sigmoid":
		return 1 / (1 + math.Exp(-a))
	case "Exp":
		return math.Exp(a)
	case "Reciprocal":
		return 1 / a
	case "FastGelu":
		return geluTanh(a)
	case "QuickGelu":
		return a / (1 + math.Exp(-n.Float("alpha", 1.702)*a))
	case "Gelu", "BiasGelu":
		if s, ok := n.Attr("approximate"); ok && string(s.S) == "tanh" {
			return geluTanh(a)
		}
		return a / 2 * (1 + math.Erf(a/math.Sqrt2))
	}
	return math.NaN()
}
