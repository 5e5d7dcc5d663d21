package backendtest

import (
	"fmt"
	"math"

	"sift/backend"
	"sift/backend/cpu"
)

// sequence is one sequence of an attention problem. Its contents follow from these fields
// and not from its place in the batch.
type sequence struct {
	n    int
	id   uint64
	mask string // which rows may be attended to: all, holes, prefix, last, none
}

func (q sequence) valid() []float64 {
	v := make([]float64, q.n)
	for i := range v {
		switch {
		case q.mask == "all",
			q.mask == "holes" && i%3 != 1,
			q.mask == "prefix" && i < (q.n+1)/2,
			q.mask == "last" && i == q.n-1:
			v[i] = 1
		}
	}
	return v
}

// attentionCase is one call of Attention with made-up operands, and of its backward pass.
type attentionCase struct {
	name     string
	seqs     []sequence
	heads, d int
	drop     float64
	gain     float64 // deviation of QKV
}

func (c attentionCase) rows() (rows, longest int) {
	for _, q := range c.seqs {
		rows, longest = rows+q.n, max(longest, q.n)
	}
	return rows, longest
}

// values returns each sequence's own random values, n per row.
func (c attentionCase) values(what string, n int, deviation float64) []float64 {
	var x []float64
	for _, q := range c.seqs {
		x = append(x, normal(source(fmt.Sprintf("%s %d %d %s", what, q.id, q.n, q.mask)), q.n*n, deviation)...)
	}
	return x
}

// layout adds the operands of a Layout to p and returns the function that makes it and
// the Drop from the operands on a device.
func (c attentionCase) layout(p *problem, d backend.Drop) func(x tensors) (backend.Layout, backend.Drop) {
	rows, longest := c.rows()
	offsets := []float64{0}
	var valid []float64
	var lens []int
	var ids []uint64
	for _, q := range c.seqs {
		offsets = append(offsets, offsets[len(offsets)-1]+float64(q.n))
		valid = append(valid, q.valid()...)
		lens, ids = append(lens, q.n), append(ids, q.id)
	}
	p.add(in, "Offsets", 1, len(offsets), offsets).ints()
	p.add(in, "KeyValid", 1, rows, valid).ints()
	drop := p.drops(d, rows, rowKeys(lens, ids))
	return func(x tensors) (backend.Layout, backend.Drop) {
		return backend.Layout{Seqs: len(lens), Rows: rows, MaxLen: longest, Offsets: x["Offsets"], KeyValid: x["KeyValid"], RowKey: x["RowKey"]}, drop(x)
	}
}

func (c attentionCase) forward() problem {
	rows, _ := c.rows()
	h := c.heads * c.d
	p := problem{op: "attention", name: c.name}
	layout := c.layout(&p, someDrop(c.drop))
	p.add(in, "QKV", rows, 3*h, c.values("qkv", 3*h, c.gain))
	p.add(out, "Out", rows, h, nil)
	p.add(out, "LSE", rows, c.heads, nil)
	p.run = func(s *backend.Stream, x tensors) {
		l, d := layout(x)
		s.Attention(backend.AttentionArgs{Out: x["Out"], LSE: x["LSE"], QKV: x["QKV"], Layout: l,
			Heads: c.heads, Scale: 1 / math.Sqrt(float64(c.d)), Drop: d})
	}
	return p
}

// backward takes Out and LSE from the reference's forward pass.
func (c attentionCase) backward() problem {
	f := c.forward()
	res, err := execute(cpu.NewReference(backend.F64), &f, plain)
	if err != nil {
		panic(err)
	}
	rows, _ := c.rows()
	h := c.heads * c.d
	p := problem{op: "attention backward", name: c.name}
	layout := c.layout(&p, someDrop(c.drop))
	p.add(in, "QKV", rows, 3*h, c.values("qkv", 3*h, c.gain))
	p.add(in, "Out", rows, h, roundedAll(res["Out"]))
	p.add(in, "LSE", rows, c.heads, roundedAll(res["LSE"]))
	p.add(in, "DOut", rows, h, c.values("dout", h, 1))
	p.add(scratch, "Delta", rows, c.heads, nil)
	p.add(out, "DQKV", rows, 3*h, nil)
	p.run = func(s *backend.Stream, x tensors) {
		l, d := layout(x)
		s.AttentionBackward(backend.AttentionBackwardArgs{DQKV: x["DQKV"], Delta: x["Delta"], DOut: x["DOut"], Out: x["Out"],
			LSE: x["LSE"], QKV: x["QKV"], Layout: l, Heads: c.heads, Scale: 1 / math.Sqrt(float64(c.d)), Drop: d})
	}
	return p
}

// mixed returns sequences of the given lengths with all kinds of masks by turns.
func mixed(lens ...int) []sequence {
	masks := []string{"all", "holes", "prefix", "all", "none", "last"}
	var seqs []sequence
	for s, n := range lens {
		seqs = append(seqs, sequence{n, sampleOf(s), masks[s%len(masks)]})
	}
	return seqs
}

func attentionCases() []attentionCase {
	return []attentionCase{
		{name: "no sequences", heads: 2, d: 4, gain: 1},
		{name: "one row", seqs: []sequence{{1, 5, "all"}}, heads: 1, d: 1, gain: 1},
		{name: "one row that may not be attended to", seqs: []sequence{{1, 5, "none"}}, heads: 2, d: 3, gain: 1},
		{name: "an empty sequence between others", seqs: mixed(3, 0, 17), heads: 3, d: 5, gain: 1},
		{name: "all masks", seqs: mixed(17, 16, 33, 1, 8, 65, 3), heads: 3, d: 17, gain: 1},
		{name: "all masks, dropout", seqs: mixed(17, 16, 33, 1, 8, 65, 3), heads: 3, d: 17, gain: 1, drop: 0.1},
		{name: "heads of 32", seqs: mixed(64, 31, 5, 128), heads: 12, d: 32, gain: 1, drop: 0.1},
		{name: "heads of 64", seqs: mixed(65, 12, 127, 2), heads: 2, d: 64, gain: 1},
		{name: "heads of 64, dropout", seqs: mixed(65, 12, 127, 2), heads: 2, d: 64, gain: 1, drop: 0.5},
		{name: "long", seqs: []sequence{{337, 9, "holes"}, {303, 3, "all"}}, heads: 1, d: 32, gain: 1, drop: 0.1},
		{name: "large scores", seqs: mixed(33, 20, 7), heads: 2, d: 16, gain: 60},
		{name: "large scores, dropout", seqs: mixed(33, 20, 7), heads: 2, d: 16, gain: 60, drop: 0.2},
		{name: "equal scores", seqs: mixed(5, 40), heads: 2, d: 8, gain: 0},
	}
}

// attentionProblems are Attention and AttentionBackward.
func attentionProblems() []problem {
	var forward, backward []problem
	for _, c := range attentionCases() {
		forward = append(forward, c.forward())
		backward = append(backward, c.backward())
	}
	return concat(forward, backward)
}

// attentionLSE: the largest |LSE|, which stands for the largest score, and 1.
func attentionLSE(_ *problem, ref results, _ string) []float64 {
	return filled(len(ref["LSE"]), 1+largest(ref["LSE"]))
}

// attentionOut: max|v| / (1-p), times 1 + the largest score for the error of the weights.
func attentionOut(p *problem, ref results, _ string) []float64 {
	return filled(len(ref["Out"]), (1+largest(ref["LSE"]))*largest(p.find("QKV").data)*max(p.kept, 1))
}

// attentionGradient: Scale max|q,k| max||dOut_i|| max||v_j|| / (1-p) for dq and dk and the
// largest gradient for dv, times 1 + the largest score.
func attentionGradient(p *problem, ref results, _ string) []float64 {
	qkv, dout := p.find("QKV"), p.find("DOut")
	heads := p.find("LSE").cols
	d := max(dout.cols/heads, 1)
	norms := func(o *operand, first int) float64 {
		var m float64
		for i := range o.rows {
			row := o.data[i*o.cols+first : (i+1)*o.cols]
			for h := 0; h < len(row); h += d {
				var sum float64
				for _, v := range row[h : h+d] {
					sum += v * v
				}
				m = max(m, math.Sqrt(sum))
			}
		}
		return m
	}
	size := largest(qkv.data)*norms(dout, 0)*norms(qkv, 2*dout.cols)*max(p.kept, 1)/math.Sqrt(float64(d)) + largest(ref["DQKV"])
	return filled(len(ref["DQKV"]), size*(1+largest(p.find("LSE").data)))
}
