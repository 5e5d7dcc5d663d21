package backendtest

import (
	"fmt"
	"testing"

	"sift/backend"
)

// testRows requires a row to come out with the same bits whether it is computed among 200
// rows or in a batch of 1, 7 or 64, first in it or not.
func testRows(t *testing.T, dev backend.Device) {
	var list []problem
	for _, p := range problems() {
		if p.rowwise {
			list = append(list, p)
		}
	}
	if len(list) < 50 {
		t.Fatalf("only %d problems are row-wise", len(list))
	}
	byOp(t, list, func(t *testing.T, list []problem) {
		for i := range list {
			p := &list[i]
			all := must(t, dev, p, plain)
			rows := 0
			for _, o := range p.operands {
				if o.axis == alongRows {
					rows = o.rows
				}
			}
			for _, n := range []int{1, 7, 64} {
				for _, from := range []int{0, 1, 37, rows - n} {
					part := p.part(from, n)
					got := must(t, dev, &part, plain)
					want := results{}
					for name, values := range all {
						if o := p.find(name); o.axis == alongRows {
							want[name] = values[from*o.cols : (from+n)*o.cols]
						}
					}
					equal(t, &part, fmt.Sprintf("in %d rows", n), only(got, want), want)
				}
			}
		}
	})
}

// only returns the results that want has too.
func only(got, want results) results {
	r := results{}
	for name := range want {
		r[name] = got[name]
	}
	return r
}

// testSequences requires a sequence to come out of Attention and its backward pass with
// the same bits alone, among others, and with the others in another order.
func testSequences(t *testing.T, dev backend.Device) {
	for _, c := range attentionCases() {
		if len(c.seqs) < 2 {
			continue
		}
		reversed := c
		reversed.name, reversed.seqs = c.name+", reversed", nil
		for i := range c.seqs {
			reversed.seqs = append(reversed.seqs, c.seqs[len(c.seqs)-1-i])
		}
		all := sequenceResults(t, dev, c)
		other := sequenceResults(t, dev, reversed)
		for i, q := range c.seqs {
			alone := c
			alone.name, alone.seqs = fmt.Sprintf("%s, sequence %d alone", c.name, i), []sequence{q}
			p := problem{op: "attention", name: alone.name}
			equal(t, &p, "alone", sequenceResults(t, dev, alone)[0], all[i])
			p.name = reversed.name
			equal(t, &p, "in another order", other[len(c.seqs)-1-i], all[i])
		}
	}
}

// sequenceResults runs both passes and cuts the outputs by sequence.
func sequenceResults(t *testing.T, dev backend.Device, c attentionCase) []results {
	t.Helper()
	f, b := c.forward(), c.backward()
	res := must(t, dev, &f, plain)
	for name, values := range must(t, dev, &b, plain) {
		res[name] = values
	}
	rows, _ := c.rows()
	var cut []results
	row := 0
	for _, q := range c.seqs {
		r := results{}
		for name, values := range res {
			cols := len(values) / max(rows, 1)
			r[name] = values[row*cols : (row+q.n)*cols]
		}
		row += q.n
		cut = append(cut, r)
	}
	return cut
}

// RunThreads requires every operation, backward passes included, to give the same bits on
// 1, 2, 3 and 5 threads, and twice on the same device.
func RunThreads(t *testing.T, open func(threads int) (backend.Device, error)) {
	use := func(threads int) backend.Device {
		dev, err := open(threads)
		if err != nil {
			t.Fatalf("%d threads: %v", threads, err)
		}
		t.Cleanup(func() {
			if err := dev.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return dev
	}
	one := use(1)
	counts := []int{2, 3, 5}
	var others []backend.Device
	for _, n := range counts {
		others = append(others, use(n))
	}
	byOp(t, problems(), func(t *testing.T, list []problem) {
		for i := range list {
			p := &list[i]
			want := must(t, one, p, plain)
			equal(t, p, "the second time", must(t, one, p, plain), want)
			for d, dev := range others {
				equal(t, p, fmt.Sprintf("on %d threads", counts[d]), must(t, dev, p, plain), want)
			}
		}
	})
}

// testAllocations requires a call to allocate no Go memory after the first.
func testAllocations(t *testing.T, dev backend.Device) {
	byOp(t, problems(), func(t *testing.T, list []problem) {
		p := &list[len(list)/2]
		pl, err := place(dev, p, plain)
		if err != nil {
			t.Fatal(err)
		}
		defer pl.free()
		s := backend.NewStream(dev)
		n := testing.AllocsPerRun(5, func() {
			p.run(s, pl.view)
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %g allocations a call", p, n)
		}
	})
}
