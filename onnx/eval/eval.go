// Package eval runs ONNX graphs node by node in float64. It is slow, plain and shares
// no kernel with the engine, so that a comparison with it proves something.
//
// Every tensor of a float type is held in float64, and arithmetic is never rounded to
// the declared type: what ONNX Runtime computes in float32 differs from it by
// float32's rounding errors, and no more. Only an explicit Cast to a narrower float
// type rounds. Constants such as the most negative float32 keep their value, so a sum
// of two of them stays finite here and overflows there; graphs use them where
// attention is masked, and the softmax gives zero either way.
//
// The operators are those found in exports of BERT, RoBERTa, DistilBERT and ELECTRA by
// torch (TorchScript and dynamo) and in files optimised by ONNX Runtime, in opsets 7 to
// 24, as https://onnx.ai/onnx/operators describes them. Not supported: subgraphs (If, Loop,
// Scan), model-local functions, sequences, strings, quantised types.
package eval

import (
	"context"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync"

	"sift/fault"
	"sift/onnx"
)

// Limits bound what a graph may use, whatever its file says.
type Limits struct {
	Elements int64 // of one tensor
	Live     int64 // of all tensors alive at once, weights not counted
	Work     int64 // multiply-adds and elements written in one Run
	Cached   int64 // weights kept between runs as float64; others are read again
}

// DefaultLimits allows BERT-large on 8 sequences of 512 tokens and refuses what does
// not fit an ordinary machine: 1 GiB a tensor, 4 GiB in all.
func DefaultLimits() Limits {
	return Limits{Elements: 1 << 27, Live: 1 << 29, Work: 1 << 43, Cached: 1 << 28}
}

// Graph is a model ready to run. It may be used by one goroutine at a time.
type Graph struct {
	Limits Limits

	file    *onnx.File
	ops     []operator
	opsets  []int64
	weights map[string]*Tensor
	cached  int64
	mu      sync.Mutex
}

// New prepares the graph of f, which must stay open. A node that cannot be run is an
// error of kind fault.Data that names it.
func New(f *onnx.File) (*Graph, error) {
	g := &Graph{Limits: DefaultLimits(), file: f, weights: map[string]*Tensor{}}
	table := operators()
	if f.Sparse > 0 {
		return nil, fault.New(fault.Data, "%s: sparse initializers are not supported", f.Path)
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		domain := n.Domain
		if domain == "ai.onnx" {
			domain = ""
		}
		opset, imported := f.Opsets[n.Domain]
		if !imported {
			opset = f.Opsets[domain]
		}
		if domain == "" && (opset < oldestOpset || opset > newestOpset) {
			return nil, fault.New(fault.Data, "%s: opset %d is not supported, only %d to %d", f.Path, opset, oldestOpset, newestOpset)
		}
		op := table[opName{domain, n.OpType}]
		if op == nil {
			return nil, fault.New(fault.Data, "%s: %s: the operation is not supported", f.Path, n)
		}
		g.ops = append(g.ops, op)
		g.opsets = append(g.opsets, opset)
	}
	return g, nil
}

// Inputs returns the values that Run needs.
func (g *Graph) Inputs() []onnx.ValueInfo { return g.file.Inputs }

// Outputs returns the values that Run can give by default.
func (g *Graph) Outputs() []onnx.ValueInfo { return g.file.Outputs }

// Run evaluates the named values (any in the graph; by default the graph's outputs)
// from the inputs. Only the nodes they depend on are run, and a tensor is dropped
// after its last use. Bad data, on which a node cannot run, is an error of kind
// fault.Data that names the node.
func (g *Graph) Run(inputs map[string]*Tensor, outputs ...string) (map[string]*Tensor, error) {
	return g.RunContext(context.Background(), inputs, outputs...)
}

// RunContext is Run, given up with ctx's error when ctx is done.
func (g *Graph) RunContext(ctx context.Context, inputs map[string]*Tensor, outputs ...string) (map[string]*Tensor, error) {
	r := &run{g: g, ctx: ctx, limits: g.Limits, values: map[string]*Tensor{}}
	got, err := r.all(inputs, outputs)
	if err != nil && ctx.Err() == nil {
		return nil, fault.In(g.file.Path, err)
	}
	return got, err
}

// run is the state of one evaluation.
type run struct {
	g      *Graph
	ctx    context.Context
	limits Limits
	values map[string]*Tensor // computed and still needed
	live   int64              // elements in values
	node   int64              // elements allocated by the running node
	work   int64
}

func (r *run) all(inputs map[string]*Tensor, outputs []string) (map[string]*Tensor, error) {
	if len(outputs) == 0 {
		for _, v := range r.g.file.Outputs {
			outputs = append(outputs, v.Name)
		}
	}
	if err := r.bind(inputs); err != nil {
		return nil, err
	}
	needed, lastUse := r.plan(outputs)
	for i := range r.g.file.Nodes {
		if !needed[i] {
			continue
		}
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		n := &r.g.file.Nodes[i]
		if err := r.step(n, i, lastUse); err != nil {
			return nil, fault.In(n.String(), err)
		}
		for _, name := range n.Inputs {
			if t := r.values[name]; t != nil && lastUse[name] == i {
				r.live -= int64(t.Len())
				delete(r.values, name)
			}
		}
	}
	if err := r.ctx.Err(); err != nil {
		return nil, err // a product may have been cut short
	}
	got := make(map[string]*Tensor, len(outputs))
	for _, name := range outputs {
		t, err := r.value(name)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return nil, fault.New(fault.Data, "no value is named %q", name)
		}
		got[name] = t
	}
	return got, nil
}

// bind checks the given inputs against the graph's declarations.
func (r *run) bind(inputs map[string]*Tensor) error {
	for _, v := range r.g.file.Inputs {
		t := inputs[v.Name]
		if t == nil {
			return fault.New(fault.Data, "input %q is not given", v.Name)
		}
		if v.DType != onnx.Undefined && v.DType != t.DType {
			return fault.New(fault.Data, "input %q is %v, not %v", v.Name, v.DType, t.DType)
		}
		if v.HasShape && len(v.Dims) != len(t.Dims) {
			return fault.New(fault.Data, "input %q has %d axes, not shape %s", v.Name, len(v.Dims), dimsText(t.Dims))
		}
		for a, d := range v.Dims {
			if d.Param == "" && d.Value >= 0 && d.Value != int64(t.Dims[a]) {
				return fault.New(fault.Data, "input %q has size %d at axis %d, not shape %s", v.Name, d.Value, a, dimsText(t.Dims))
			}
		}
		n, err := r.count(t.Dims)
		if err != nil {
			return fault.In("input "+v.Name, err)
		}
		if n != t.Len() {
			return fault.New(fault.Internal, "input %q has shape %s and %d elements", v.Name, dimsText(t.Dims), t.Len())
		}
		r.values[v.Name] = t
		r.live += int64(n)
	}
	r.node = 0
	for name := range inputs {
		if r.values[name] == nil {
			return fault.New(fault.Data, "the graph has no input %q", name)
		}
	}
	return nil
}

// plan finds the nodes on which the outputs depend and the last of them to read each
// value. The file layer guarantees that nodes are in topological order.
func (r *run) plan(outputs []string) (needed []bool, lastUse map[string]int) {
	nodes := r.g.file.Nodes
	needed = make([]bool, len(nodes))
	lastUse = map[string]int{}
	for _, name := range outputs {
		lastUse[name] = len(nodes)
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		for _, name := range nodes[i].Outputs {
			if _, read := lastUse[name]; read && name != "" {
				needed[i] = true
			}
		}
		if !needed[i] {
			continue
		}
		for _, name := range nodes[i].Inputs {
			if _, read := lastUse[name]; !read {
				lastUse[name] = i
			}
		}
	}
	return needed, lastUse
}

// step runs one node and keeps those of its outputs that are read.
func (r *run) step(n *onnx.Node, i int, lastUse map[string]int) (err error) {
	c := &call{run: r, node: n, opset: r.g.opsets[i], in: make([]*Tensor, len(n.Inputs))}
	for k, name := range n.Inputs {
		if name == "" {
			continue
		}
		if c.in[k], err = r.value(name); err != nil {
			return err
		}
		if c.in[k] == nil {
			return fault.New(fault.Data, "input %q has no value", name)
		}
	}
	r.node = 0
	out, err := protect(r.g.ops[i], c)
	if err != nil {
		return err
	}
	for k, name := range n.Outputs {
		if _, read := lastUse[name]; !read || name == "" {
			continue
		}
		if k >= len(out) || out[k] == nil {
			return fault.New(fault.Data, "output %d is not supported", k)
		}
		r.values[name] = out[k]
		r.live += int64(out[k].Len())
	}
	r.node = 0
	return nil
}

// protect calls an operator and turns what it refuses into an error. A run-time error
// in an operator is a defect of ours, reported as such instead of crashing.
func protect(op operator, c *call) (out []*Tensor, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stop:
			out, err = nil, fault.New(fault.Data, "%s", p.text)
		case runtime.Error:
			out, err = nil, fault.New(fault.Internal, "%v", p)
		default:
			panic(p)
		}
	}()
	return op(c), nil
}

// value returns a computed value, an input, or a weight; nil if there is none.
func (r *run) value(name string) (*Tensor, error) {
	if t := r.values[name]; t != nil {
		return t, nil
	}
	return r.g.weight(name)
}

// weight reads an initializer, and keeps it for the next run if there is room.
func (g *Graph) weight(name string) (*Tensor, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.weights[name]; t != nil {
		return t, nil
	}
	ref := g.file.Initializer(name)
	if ref == nil {
		return nil, nil
	}
	t, err := g.read(ref)
	if err != nil {
		return nil, err
	}
	if g.cached+int64(t.Len()) <= g.Limits.Cached {
		g.cached += int64(t.Len())
		g.weights[name] = t
	}
	return t, nil
}

// read converts a tensor of the file.
func (g *Graph) read(ref *onnx.TensorRef) (t *Tensor, err error) {
	dims := make([]int, len(ref.Dims))
	for i, d := range ref.Dims {
		if d < 0 || int64(int(d)) != d {
			return nil, fault.New(fault.Data, "tensor %q has size %d", ref.Name, d)
		}
		dims[i] = int(d)
	}
	n, err := elements(dims, 1<<40) // the file layer has found the bytes, so this is no bomb
	if err != nil {
		return nil, fault.In(fmt.Sprintf("tensor %q", ref.Name), err)
	}
	t = &Tensor{DType: ref.DType, Dims: dims}
	if t.IsFloat() {
		t.F, err = g.file.ReadFloat64(ref)
	} else if _, _, ok := integerRange(ref.DType); ok {
		t.I, err = g.file.ReadInt64(ref)
	} else {
		return nil, fault.New(fault.Data, "tensor %q: type %v is not supported", ref.Name, ref.DType)
	}
	if err == nil && t.Len() != n {
		err = fault.New(fault.Data, "tensor %q of shape %s has %d elements", ref.Name, dimsText(dims), t.Len())
	}
	if ref.DType == onnx.Bool {
		for i, v := range t.I {
			t.I[i] = truth(v != 0)
		}
	}
	if err == nil && ref.DType == onnx.Uint64 && slices.ContainsFunc(t.I, func(v int64) bool { return v < 0 }) {
		err = fault.New(fault.Data, "tensor %q: a uint64 does not fit 63 bits", ref.Name)
	}
	return t, err
}

// elements multiplies sizes, refusing more than limit. An empty tensor's other sizes
// are bounded too, so that no later product of sizes can overflow.
func elements(dims []int, limit int64) (int, error) {
	n, empty := uint64(1), false
	for _, d := range dims {
		if d == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if d < 0 || hi != 0 || lo > uint64(limit) {
			return 0, fault.New(fault.Data, "a tensor of shape %s is beyond the limit of %d elements", dimsText(dims), limit)
		}
		n = lo
	}
	if empty {
		return 0, nil
	}
	return int(n), nil
}

// count is elements within what is left of the run's memory, and charges it.
func (r *run) count(dims []int) (int, error) {
	n, err := elements(dims, r.limits.Elements)
	if err != nil {
		return 0, err
	}
	if r.live+r.node+int64(n) > r.limits.Live {
		return 0, fault.New(fault.Data, "more than %d elements would be alive at once", r.limits.Live)
	}
	r.node += int64(n)
	return n, r.spend(n)
}

// spend charges a product of factors to the budget of work.
func (r *run) spend(factors ...int) error {
	n, err := elements(factors, r.limits.Work)
	if err != nil || r.work+int64(n) > r.limits.Work {
		return fault.New(fault.Data, "more than %d operations would be needed", r.limits.Work)
	}
	r.work += int64(n)
	return nil
}
