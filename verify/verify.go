// Package verify proves a model in an ONNX file: it runs the graph node by node in
// float64 (package onnx/eval, which shares no kernel with the engine) and compares
// every output with what the engine computes from the trained weights, or with another
// ONNX file, on batches of many shapes with padding and holes in the mask. The result
// is a certificate.
package verify

import (
	"context"
	"slices"

	"sift/fault"
	"sift/onnx"
	"sift/onnx/eval"
	"sift/verify/cases"
)

// Engine computes outputs by the graph's output names, each flat and row-major in the
// shape that the padded graph gives; what stands at masked positions of a per-token
// output is not looked at. It may leave outputs out.
type Engine func(Inputs) (map[string][]float64, error)

// Options say what to compare. Exactly one of Other and Engine is set.
type Options struct {
	Model *onnx.File  // the model to prove
	Match *onnx.Match // what was recognised in it; nil: inputs are found by name

	Other      *onnx.File // the model to compare with
	OtherMatch *onnx.Match

	Engine     Engine // or the trained model
	EngineName string // how the certificate calls it

	Texts   []Sequence // encoded texts to try besides random tokens
	Seed    uint64     // of random tokens
	Batches []int      // sizes to try; nil: 1, 3, 8
	Lengths []int      // lengths to try; nil: 1, 17, 128 and the longest
	Longest int        // longest sequence where the graph is not recognised; 0: 128
	Budget  float64    // multiply-adds a graph may cost; 0: DefaultBudget
	// MaxElements bounds the masked-LM logits of a batch, and so memory; 0: no bound.
	MaxElements int
	// Tolerance is DefaultTolerance if it is zero.
	Tolerance Tolerance

	Tool, Date string                               // for the certificate; Date may be empty
	Progress   func(done, total int, batch *Inputs) // optional, before each batch
	// Observe, if given, gets every batch with the outputs of the graph in float64, as a
	// case for scripts/ort: rows that belong to padding are left out.
	Observe func(c cases.Case)
}

// DefaultTolerance is what float32 arithmetic in another order may differ by.
var DefaultTolerance = Tolerance{Absolute: 1e-4, Relative: 1e-4}

// DefaultBudget takes about a minute on two cores: every shape for a model of 22
// million parameters, sequences of up to 512 tokens for one of 110 million.
const DefaultBudget = 1e11

// Run compares and returns a certificate, whatever the answer. An error means that the
// comparison could not be made: a graph that cannot be run, inputs that are not
// understood, no output that both sides give.
func Run(ctx context.Context, opt Options) (*Certificate, error) {
	if opt.Model == nil || (opt.Other == nil) == (opt.Engine == nil) {
		return nil, fault.New(fault.Internal, "verify: one model, and one other or an engine")
	}
	if opt.Tolerance == (Tolerance{}) {
		opt.Tolerance = DefaultTolerance
	}
	v := &verification{opt: opt}
	if err := v.prepare(); err != nil {
		return nil, err
	}
	batches, skipped, err := v.batches()
	if err != nil {
		return nil, err
	}
	c := &Certificate{Tool: opt.Tool, Date: opt.Date, Tolerance: opt.Tolerance, Seed: opt.Seed,
		NotTried: skipped, Method: "the graph node by node in float64"}
	for i := range batches {
		if opt.Progress != nil {
			opt.Progress(i, len(batches), &batches[i])
		}
		if err := v.batch(ctx, &batches[i]); err != nil {
			return nil, err
		}
		c.Inputs = append(c.Inputs, Tried{batches[i].Source, Shape{batches[i].Batch, batches[i].Length}, batches[i].Tokens()})
	}
	if err := v.conclude(ctx, c); err != nil {
		return nil, err
	}
	return c, nil
}

// verification is the state of a Run.
type verification struct {
	opt     Options
	sig     *signature
	graph   *eval.Graph
	sig2    *signature  // of Other
	graph2  *eval.Graph // of Other
	outputs []*comparison
	byName  map[string]*comparison
}

func (v *verification) prepare() (err error) {
	if v.sig, err = describe(v.opt.Model, v.opt.Match); err != nil {
		return err
	}
	if v.graph, err = eval.New(v.opt.Model); err != nil {
		return err
	}
	v.byName = map[string]*comparison{}
	for _, o := range v.sig.outputs {
		c := &comparison{Figures: Figures{Name: o.name, Kind: o.kind}, tolerance: v.opt.Tolerance, argmax: o.classes()}
		v.outputs = append(v.outputs, c)
		v.byName[o.name] = c
	}
	if v.opt.Other == nil {
		return nil
	}
	if v.sig2, err = describe(v.opt.Other, v.opt.OtherMatch); err != nil {
		return err
	}
	v.graph2, err = eval.New(v.opt.Other)
	return err
}

// batches draws the inputs within the budget.
func (v *verification) batches() ([]Inputs, []Shape, error) {
	d, err := v.sig.domain()
	if err != nil {
		return nil, nil, err
	}
	longest := v.opt.Longest
	if longest <= 0 {
		longest = 128
	}
	if m := v.opt.Match; m != nil {
		longest = m.Config.MaxTokens()
	}
	fixed := v.sig.fixed()
	if v.sig2 != nil {
		other := v.sig2.fixed()
		e, err := v.sig2.domain()
		if err != nil {
			return nil, nil, err
		}
		d = d.with(e)
		if fixed.Batch == 0 {
			fixed.Batch = other.Batch
		}
		if fixed.Length == 0 {
			fixed.Length = other.Length
		}
		if m := v.opt.OtherMatch; m != nil {
			longest = min(longest, m.Config.MaxTokens())
		}
	}
	budget := v.opt.Budget
	if budget <= 0 {
		budget = DefaultBudget
	}
	tried, skipped := v.sig.afford(shapes(fixed, longest, v.opt.Batches, v.opt.Lengths), budget, v.opt.MaxElements)
	list := []Inputs{}
	for _, s := range tried {
		list = append(list, d.random(v.opt.Seed, s))
	}
	// Texts come in batches of eight, or singly where there is no mask for the padding.
	// If the graph prescribes its shape, random batches have to do.
	if fixed == (Shape{}) {
		size := 8
		if !d.masked {
			size = 1
		}
		for part := range slices.Chunk(v.opt.Texts, size) {
			in, err := d.text(part, longest)
			if err != nil {
				return nil, nil, err
			}
			list = append(list, in)
		}
	}
	if len(list) == 0 {
		return nil, nil, fault.New(fault.Data, "%s: no input shape to try", v.opt.Model.Path)
	}
	return list, skipped, nil
}

// batch runs both sides on one batch and compares what both give.
func (v *verification) batch(ctx context.Context, in *Inputs) error {
	feed := in.feed(v.sig)
	got, err := v.graph.RunContext(ctx, feed)
	if err != nil {
		return err
	}
	if v.opt.Observe != nil {
		v.opt.Observe(v.observed(in, feed, got))
	}
	want, err := v.reference(ctx, in)
	if err != nil {
		return err
	}
	for _, o := range v.sig.outputs {
		mine, theirs := got[o.name], want[o.name]
		if theirs == nil || !mine.IsFloat() {
			continue
		}
		if len(theirs) != len(mine.F) {
			return fault.New(fault.Data, "%s: output %s on %s: %d elements, %d in what it is compared with",
				v.opt.Model.Path, o.name, in, len(mine.F), len(theirs))
		}
		c := v.byName[o.name]
		width := 1
		if n := len(mine.Dims); n > 0 {
			width = mine.Dims[n-1]
		}
		skip := func(int) bool { return false }
		if v.sig.perToken(o, in, mine.Dims) {
			c.PerToken = true
			if len(mine.Dims) == 2 {
				width = 1 // [batch, length]: one element a token
			}
			rows := len(mine.F) / max(1, width) / max(1, in.Batch*in.Length) // rows a token, 1 but for rank 4
			skip = func(row int) bool { return in.Mask[row/max(1, rows)] == 0 }
		}
		// The difference is relative to the graph's own value: it is the exact one.
		c.add(in, theirs, mine.F, width, skip)
	}
	return nil
}

// observed makes a case of a batch.
func (v *verification) observed(in *Inputs, feed, got map[string]*eval.Tensor) cases.Case {
	c := cases.Case{Name: in.String(), Inputs: feed, Outputs: map[string]cases.Expected{}}
	for _, o := range v.sig.outputs {
		y := got[o.name]
		if !y.IsFloat() || y.Len() == 0 {
			continue
		}
		e := cases.Expected{Tensor: y}
		if len(y.Dims) > 2 && v.sig.perToken(o, in, y.Dims) {
			rows := y.Len() / y.Dims[len(y.Dims)-1]
			each := max(1, rows/(in.Batch*in.Length))
			e.Rows = []int{}
			for r := range rows {
				if in.Mask[r/each] != 0 {
					e.Rows = append(e.Rows, r)
				}
			}
		}
		c.Outputs[o.name] = e
	}
	return c
}

// reference gives the other side's outputs under the names of the model's.
func (v *verification) reference(ctx context.Context, in *Inputs) (map[string][]float64, error) {
	if v.opt.Engine != nil {
		return v.opt.Engine(*in)
	}
	got, err := v.graph2.RunContext(ctx, in.feed(v.sig2))
	if err != nil {
		return nil, err
	}
	want := map[string][]float64{}
	for _, o := range v.sig.outputs {
		if p, ok := v.counterpart(o); ok && got[p.name].IsFloat() {
			want[o.name] = got[p.name].F
		}
	}
	return want, nil
}

// counterpart finds the other file's output for o: of the same name, or else the only
// one of the same recognised kind.
func (v *verification) counterpart(o output) (output, bool) {
	var found []output
	for _, p := range v.sig2.outputs {
		if p.name == o.name {
			return p, true
		}
		if o.kind != "" && o.kind != "other" && p.kind == o.kind && p.layer == o.layer {
			found = append(found, p)
		}
	}
	if len(found) == 1 {
		return found[0], true
	}
	return output{}, false
}

// conclude hashes the files, sums up, and gives the verdict.
func (v *verification) conclude(ctx context.Context, c *Certificate) (err error) {
	if c.Model, err = artifact(ctx, "onnx", v.opt.Model.Path, -1); err != nil {
		return err
	}
	if c.External, err = externalData(ctx, v.opt.Model); err != nil {
		return err
	}
	if v.opt.Other != nil {
		if c.Reference, err = artifact(ctx, "onnx", v.opt.Other.Path, -1); err != nil {
			return err
		}
		more, err := externalData(ctx, v.opt.Other)
		if err != nil {
			return err
		}
		c.External = append(c.External, more...)
	} else {
		c.Reference = Artifact{Kind: "engine", Name: v.opt.EngineName}
	}
	c.Verdict = agree
	for _, o := range v.outputs {
		if o.Elements == 0 {
			c.Unchecked = append(c.Unchecked, o.Name)
			continue
		}
		c.Outputs = append(c.Outputs, o.Figures)
		if o.Outside > 0 {
			c.Verdict = differ
		}
	}
	if len(c.Outputs) == 0 {
		return fault.New(fault.Data, "%s: none of its outputs can be compared with %s", v.opt.Model.Path, c.Reference.Name)
	}
	if v.sig2 != nil {
		for _, p := range v.sig2.outputs {
			if !slices.ContainsFunc(v.sig.outputs, func(o output) bool { q, ok := v.counterpart(o); return ok && q.name == p.name }) {
				c.Unchecked = append(c.Unchecked, p.name)
			}
		}
	}
	if v.opt.Match == nil {
		c.Notes = append(c.Notes, "the graph was not recognised: inputs were found by their names")
	}
	if v.sig.names.Mask == "" {
		c.Notes = append(c.Notes, "the graph has no attention mask: sequences of equal length only")
	}
	return nil
}
