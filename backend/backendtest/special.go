package backendtest

import (
	"math"
	"testing"

	"sift/backend"
	"sift/backend/philox"
)

// testNotANumber puts NaN into one row of an input and requires it to come out of that
// row, and of no other: a run that diverges must be noticed, and a row must not reach
// its neighbours.
func testNotANumber(t *testing.T, dev backend.Device) {
	const bad = 3
	poison := func(p problem, name string) problem {
		o := p.find(name)
		o.data = append([]float64(nil), o.data...)
		o.data[bad*o.cols+o.cols/2] = math.NaN()
		return p
	}
	attention := attentionCase{seqs: []sequence{{7, 1, "all"}}, heads: 1, d: 16, gain: 1}
	for _, c := range []struct {
		p    problem
		outs []string
	}{
		{poison(gemmCase{m: 7, n: 33, k: 19, transB: true, alpha: 1, bias: true}.problem(), "A"), []string{"C"}},
		{poison(gemmCase{m: 7, n: 33, k: 19, transB: true, alpha: 1, pre: true, act: backend.GeluErf}.problem(), "A"), []string{"C", "Pre"}},
		{poison(gemmCase{m: 7, n: 33, k: 19, alpha: 1, act: backend.GeluTanh}.problem(), "A"), []string{"C"}},
		{poison(normCase{t: 7, h: 33, z: true, residual: true, data: "normal"}.forward(), "X"), []string{"Y", "Mean", "Rstd"}},
		{poison(normCase{t: 7, h: 33, data: "normal"}.backward("DX", "DGamma", "DBeta"), "DY"), []string{"DZ"}},
		{poison(entropyCase{n: 7, v: 33, gain: 1, data: "normal"}.forward(), "Logits"), []string{"Entropy", "LSE"}},
		{poison(entropyCase{n: 7, v: 33, gain: 1, data: "normal"}.forward(), "Logits"), []string{"Loss"}},
		{poisonQuery(attention.forward(), bad), []string{"Out", "LSE"}},
	} {
		res := must(t, dev, &c.p, plain)
		for _, name := range c.outs {
			o := c.p.find(name)
			if name == "Loss" && c.p.find("Labels").data[bad] == -100 {
				c.p.find("Labels").data[bad] = 1
				res = must(t, dev, &c.p, plain)
			}
			for row := range o.rows {
				some := false
				for _, v := range res[name][row*o.cols : (row+1)*o.cols] {
					some = some || math.IsNaN(v)
				}
				if some != (row == bad) {
					t.Errorf("%s: NaN in row %d of %s: %t", c.p.String(), row, name, some)
				}
			}
		}
	}
}

// poisonQuery puts NaN into the query of one row.
func poisonQuery(p problem, row int) problem {
	o := p.find("QKV")
	o.data[row*o.cols] = math.NaN()
	return p
}

// testMaskedKeys changes the keys and values of every row that may not be attended to, and
// requires the bits of both passes to stay.
func testMaskedKeys(t *testing.T, dev backend.Device) {
	for _, c := range attentionCases() {
		f, b := c.forward(), c.backward()
		before, beforeBack := must(t, dev, &f, plain), must(t, dev, &b, plain)
		changed := 0
		for row, valid := range f.find("KeyValid").data {
			for _, o := range []*operand{f.find("QKV"), b.find("QKV")} {
				h := o.cols / 3
				for j := h; j < o.cols && valid == 0; j++ {
					o.data[row*o.cols+j] = rounded(1e10) * float64(j%3-1)
					changed++
				}
			}
		}
		equal(t, &f, "with other masked keys", must(t, dev, &f, plain), before)
		equal(t, &b, "with other masked keys", must(t, dev, &b, plain), beforeBack)
		if c.name == "all masks" && changed == 0 {
			t.Fatal("no key is masked")
		}
	}
}

// testMask makes dropout masks visible and compares them element by element with Philox:
// of Dropout; of LayerNorm forward (Z is 0 where X is dropped) and backward (DX against
// DZ); of Attention forward (equal scores and unit vectors for v: Out_ij is 0 where j is
// dropped for i) and backward (unit vectors for dOut: dv_ji is 0 there).
func testMask(t *testing.T, dev backend.Device) {
	const h = 37
	lens := []int{5, 1, 12, 30}
	for k, d := range []backend.Drop{
		{P: 0.3, Seed: 1},
		{P: 0.5, Seed: 1 << 63, Site: 1, Update: 1 << 31},
		{P: 0.1, Seed: 0xdeadbeefcafe, Site: 0xffff, Update: 7},
	} {
		var ids []uint64
		var seqs []sequence
		rows := 0
		for s, n := range lens {
			ids = append(ids, sampleOf(s+4*k))
			seqs = append(seqs, sequence{n, ids[s], "all"})
			rows += n
		}
		dropped := func(s, element int) bool {
			return philox.Dropout(d.Seed, d.Site, d.Update, ids[s], uint64(element)) < philox.Threshold(d.P)
		}
		// rowMask is the mask of a row-wise operation on [rows, h].
		var rowMask []bool
		for s, n := range lens {
			for e := range n * h {
				rowMask = append(rowMask, dropped(s, e))
			}
		}
		check := func(p *problem, out string, got []float64, mask []bool) {
			t.Helper()
			if len(got) != len(mask) {
				t.Fatalf("%s: %d elements of %s, %d in the mask", p, len(got), out, len(mask))
			}
			for i := range mask {
				if (got[i] == 0) != mask[i] {
					t.Fatalf("%s: %s[%d] is %g, dropped %t", p, out, i, got[i], mask[i])
				}
			}
		}

		p := dropoutProblem("mask", d, rows, h, rowKeys(lens, ids), filled(rows*h, 1), false)
		check(&p, "y", must(t, dev, &p, plain)["y"], rowMask)

		p = maskedNorm(d, rows, h, rowKeys(lens, ids))
		res := must(t, dev, &p, plain)
		check(&p, "Z", res["Z"], rowMask)
		p = maskedNormBackward(d, rows, h, rowKeys(lens, ids))
		res = must(t, dev, &p, plain)
		for i, v := range res["DZ"] {
			if v == 0 {
				t.Fatalf("%s: DZ[%d] is 0 by itself", &p, i)
			}
		}
		check(&p, "DX", res["DX"], rowMask)

		c := attentionCase{name: "mask", seqs: seqs, heads: 2, d: 32, gain: 0}
		checkAttentionMask(t, dev, c, d, dropped)
	}
}

// maskedNorm is LayerNorm of ones without residual.
func maskedNorm(d backend.Drop, rows, h int, keys []float64) problem {
	p := problem{op: "layer norm", name: "mask"}
	drop := p.drops(d, rows, keys)
	p.add(in, "X", rows, h, filled(rows*h, 1))
	p.add(in, "Gamma", 1, h, filled(h, 1))
	p.add(in, "Beta", 1, h, filled(h, 0))
	p.add(out, "Y", rows, h, nil)
	p.add(out, "Z", rows, h, nil)
	p.add(out, "Mean", rows, 1, nil)
	p.add(out, "Rstd", rows, 1, nil)
	p.run = func(s *backend.Stream, x tensors) {
		s.LayerNorm(backend.LayerNormArgs{Y: x["Y"], Z: x["Z"], Mean: x["Mean"], Rstd: x["Rstd"], X: x["X"],
			Gamma: x["Gamma"], Beta: x["Beta"], Eps: 1e-5, Drop: drop(x)})
	}
	return p
}

// maskedNormBackward is LayerNormBackward of random values.
func maskedNormBackward(d backend.Drop, rows, h int, keys []float64) problem {
	p := problem{op: "layer norm backward", name: "mask"}
	rng := source("mask")
	drop := p.drops(d, rows, keys)
	p.add(in, "Z", rows, h, normal(rng, rows*h, 1))
	p.add(in, "Mean", rows, 1, filled(rows, 0))
	p.add(in, "Rstd", rows, 1, filled(rows, 1))
	p.add(in, "Gamma", 1, h, filled(h, 1))
	p.add(in, "DY", rows, h, normal(rng, rows*h, 1))
	p.add(out, "DZ", rows, h, nil)
	p.add(out, "DX", rows, h, nil)
	p.run = func(s *backend.Stream, x tensors) {
		s.LayerNormBackward(backend.LayerNormBackwardArgs{DZ: x["DZ"], DX: x["DX"], DY: x["DY"], Z: x["Z"], Mean: x["Mean"],
			Rstd: x["Rstd"], Gamma: x["Gamma"], Drop: drop(x)})
	}
	return p
}

// checkAttentionMask compares the masks of Attention and its backward pass with dropped.
func checkAttentionMask(t *testing.T, dev backend.Device, c attentionCase, d backend.Drop, dropped func(s, element int) bool) {
	t.Helper()
	c.drop = d.P
	h := c.heads * c.d
	f, b := c.forward(), c.backward()
	// The problems were made with another seed: give them this one.
	layout := c.layout(&problem{}, d)
	scale := 1 / math.Sqrt(float64(c.d))
	f.run = func(s *backend.Stream, x tensors) {
		l, drop := layout(x)
		s.Attention(backend.AttentionArgs{Out: x["Out"], LSE: x["LSE"], QKV: x["QKV"], Layout: l, Heads: c.heads, Scale: scale, Drop: drop})
	}
	b.run = func(s *backend.Stream, x tensors) {
		l, drop := layout(x)
		s.AttentionBackward(backend.AttentionBackwardArgs{DQKV: x["DQKV"], Delta: x["Delta"], DOut: x["DOut"], Out: x["Out"],
			LSE: x["LSE"], QKV: x["QKV"], Layout: l, Heads: c.heads, Scale: scale, Drop: drop})
	}
	// Queries and keys are 0; value and output gradient of row i of a sequence are the i-th
	// unit vector in every head.
	qkv, dout := f.find("QKV").data, b.find("DOut").data
	clear(dout)
	row := 0
	for _, q := range c.seqs {
		for i := range q.n {
			for head := range c.heads {
				qkv[row*3*h+2*h+head*c.d+i] = 1
				dout[row*h+head*c.d+i] = 1
			}
			row++
		}
	}
	b.find("QKV").data = qkv
	out := must(t, dev, &f, plain)["Out"]
	dqkv := must(t, dev, &b, plain)["DQKV"]
	row = 0
	for s, q := range c.seqs {
		for i := range q.n {
			for j := range q.n {
				for head := range c.heads {
					want := dropped(s, (head*q.n+i)*q.n+j)
					forward := out[(row+i)*h+head*c.d+j]
					backward := dqkv[(row+j)*3*h+2*h+head*c.d+i]
					if (forward == 0) != want || (backward == 0) != want {
						t.Fatalf("attention mask: sequence %d head %d row %d to row %d: Out %g, dv %g, dropped %t",
							s, head, i, j, forward, backward, want)
					}
				}
			}
		}
		row += q.n
	}
}
