package eval

import (
	"fmt"
	"strings"

	"sift/onnx"
)

// call is the evaluation of one node: its inputs, its attributes and the means to
// allocate outputs within the limits.
type call struct {
	run   *run
	node  *onnx.Node
	opset int64     // version of the node's domain that the file imports
	in    []*Tensor // nil where an optional input is omitted
}

// operator computes a node's outputs. It reports bad data with call.fail, which does
// not return.
type operator func(c *call) []*Tensor

// stop is how an operator leaves with an error about its data; the graph's Run turns
// it into an error that names the node.
type stop struct{ text string }

func (c *call) fail(format string, args ...any) {
	panic(stop{fmt.Sprintf(format, args...)})
}

// opt returns input i, or nil when it is omitted.
func (c *call) opt(i int) *Tensor {
	if i >= len(c.in) {
		return nil
	}
	return c.in[i]
}

// arg returns input i, which must be there.
func (c *call) arg(i int) *Tensor {
	t := c.opt(i)
	if t == nil {
		c.fail("input %d is missing", i)
	}
	return t
}

// float returns input i, which must be of a float type.
func (c *call) float(i int) *Tensor {
	t := c.arg(i)
	if !t.IsFloat() {
		c.fail("input %d is %v, not a float type", i, t.DType)
	}
	return t
}

// optFloat returns input i, which if present must be of a float type.
func (c *call) optFloat(i int) *Tensor {
	if c.opt(i) == nil {
		return nil
	}
	return c.float(i)
}

// integer returns input i, which must be of an integer type or bool.
func (c *call) integer(i int) *Tensor {
	t := c.arg(i)
	if t.IsFloat() {
		c.fail("input %d is %v, not an integer type", i, t.DType)
	}
	return t
}

// boolean returns input i, which must be bool.
func (c *call) boolean(i int) *Tensor {
	t := c.arg(i)
	if t.DType != onnx.Bool {
		c.fail("input %d is %v, not BOOL", i, t.DType)
	}
	return t
}

// list returns the elements of integer input i, a vector.
func (c *call) list(i int) []int64 {
	t := c.integer(i)
	if len(t.Dims) > 1 {
		c.fail("input %d has shape %s, not a vector", i, dimsText(t.Dims))
	}
	return t.I
}

// scalar returns the only element of integer input i.
func (c *call) scalar(i int) int64 {
	t := c.integer(i)
	if len(t.I) != 1 {
		c.fail("input %d has shape %s, not one element", i, dimsText(t.Dims))
	}
	return t.I[0]
}

// same requires the given inputs to have one element type.
func (c *call) same(ts ...*Tensor) {
	for _, t := range ts[1:] {
		if t.DType != ts[0].DType {
			c.fail("inputs of types %v and %v", ts[0].DType, t.DType)
		}
	}
}

// attrInt returns an integer attribute, or its default.
func (c *call) attrInt(name string, def int64) int64 {
	a, ok := c.node.Attrs[name]
	if !ok {
		return def
	}
	if a.Kind != onnx.AttrInt {
		c.fail("attribute %s is not an integer", name)
	}
	return a.I
}

// attrFloat returns a float attribute as float64, or its default.
func (c *call) attrFloat(name string, def float64) float64 {
	a, ok := c.node.Attrs[name]
	if !ok {
		return def
	}
	if a.Kind != onnx.AttrFloat {
		c.fail("attribute %s is not a float", name)
	}
	return float64(a.F)
}

// attrString returns a string attribute, or its default.
func (c *call) attrString(name, def string) string {
	a, ok := c.node.Attrs[name]
	if !ok {
		return def
	}
	if a.Kind != onnx.AttrString {
		c.fail("attribute %s is not a string", name)
	}
	return string(a.S)
}

// attrInts returns a list attribute and whether it is present.
func (c *call) attrInts(name string) ([]int64, bool) {
	a, ok := c.node.Attrs[name]
	if !ok {
		return nil, false
	}
	if a.Kind != onnx.AttrInts {
		c.fail("attribute %s is not a list of integers", name)
	}
	return a.Ints, true
}

// intsFrom returns a list that newer opsets pass as input i and older ones as an
// attribute, and whether either is there.
func (c *call) intsFrom(i int, attr string) ([]int64, bool) {
	if c.opt(i) != nil {
		return c.list(i), true
	}
	return c.attrInts(attr)
}

// axis returns a in [0, rank), counting from the end if it is negative.
func (c *call) axis(a int64, rank int) int {
	if a < -int64(rank) || a >= int64(rank) {
		c.fail("axis %d of a tensor of rank %d", a, rank)
	}
	if a < 0 {
		a += int64(rank)
	}
	return int(a)
}

// axes marks the listed axes of a tensor of the given rank.
func (c *call) axes(list []int64, rank int) []bool {
	marked := make([]bool, rank)
	for _, a := range list {
		at := c.axis(a, rank)
		if marked[at] {
			c.fail("axis %d is listed twice", a)
		}
		marked[at] = true
	}
	return marked
}

// count returns the number of elements of a tensor of shape dims, once it is known to
// be within the limits. Nothing is allocated before.
func (c *call) count(dims []int) int {
	n, err := c.run.count(dims)
	if err != nil {
		c.fail("%v", err)
	}
	return n
}

// newFloat allocates a float tensor of zeros.
func (c *call) newFloat(dtype onnx.DataType, dims []int) *Tensor {
	return &Tensor{DType: dtype, Dims: dims, F: make([]float64, c.count(dims))}
}

// newInt allocates an integer or bool tensor of zeros.
func (c *call) newInt(dtype onnx.DataType, dims []int) *Tensor {
	return &Tensor{DType: dtype, Dims: dims, I: make([]int64, c.count(dims))}
}

// newLike allocates a tensor of t's type.
func (c *call) newLike(t *Tensor, dims []int) *Tensor {
	if t.IsFloat() {
		return c.newFloat(t.DType, dims)
	}
	return c.newInt(t.DType, dims)
}

// spend charges work, in multiply-adds or elements touched, to the run's budget.
func (c *call) spend(factors ...int) {
	if err := c.run.spend(factors...); err != nil {
		c.fail("%v", err)
	}
}

// one wraps a single output.
func one(t *Tensor) []*Tensor { return []*Tensor{t} }

func dimsText(dims []int) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, d := range dims {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, d)
	}
	b.WriteByte(']')
	return b.String()
}

func shapesText(ts []*Tensor) string {
	texts := make([]string, len(ts))
	for i, t := range ts {
		if texts[i] = "none"; t != nil {
			texts[i] = dimsText(t.Dims)
		}
	}
	return strings.Join(texts, " and ")
}
