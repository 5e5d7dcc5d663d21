package backendtest

import (
	"fmt"

	"sift/backend"
)

// samples are positions in a data stream, some beyond 32 bits.
var samples = []uint64{0, 1, 77, 1 << 31, 1<<32 - 1, 1 << 32, 1<<48 - 1000, 123456789012}

// sampleOf returns the sample id of sequence s in a test.
func sampleOf(s int) uint64 { return samples[s%len(samples)] + uint64(s/len(samples)) }

// rowKeys returns the RowKey of sequences of the given lengths and sample ids.
func rowKeys(lens []int, ids []uint64) []float64 {
	var keys []float64
	for s, n := range lens {
		for i := range n {
			keys = append(keys, float64(s), float64(i), float64(int32(uint32(ids[s]))), float64(int32(uint32(ids[s]>>32))))
		}
	}
	return keys
}

// packedKeys returns the RowKey of t rows in sequences of up to 13.
func packedKeys(t int) []float64 {
	var lens []int
	var ids []uint64
	for n := 0; n < t; n += 13 {
		ids = append(ids, sampleOf(len(lens)))
		lens = append(lens, min(13, t-n))
	}
	return rowKeys(lens, ids)
}

// drops adds the given RowKey to the problem, unless the probability is 0, and returns the
// function that makes the Drop from the operands on a device.
func (p *problem) drops(d backend.Drop, rows int, keys []float64) func(x tensors) backend.Drop {
	if d.P > 0 {
		p.add(in, "RowKey", rows, 4, keys).ints().along(alongRows)
		p.kept = 1 / (1 - d.P)
	}
	return func(x tensors) backend.Drop {
		d := d
		d.RowKey = x["RowKey"]
		return d
	}
}

// someDrop is a Drop with no round number in it.
func someDrop(p float64) backend.Drop {
	return backend.Drop{P: p, Seed: 0x0123456789abcdef, Site: 0xfedc, Update: 0x89abcdef}
}

// dropoutProblem is Dropout of x.
func dropoutProblem(name string, d backend.Drop, rows, cols int, keys, x []float64, inPlace bool) problem {
	p := problem{op: "dropout", name: name, rowwise: rows >= 200}
	drop := p.drops(d, rows, keys)
	if inPlace {
		p.add(inout, "x", rows, cols, x).along(alongRows)
	} else {
		p.add(in, "x", rows, cols, x).along(alongRows)
		p.add(out, "y", rows, cols, nil).along(alongRows)
	}
	p.run = func(s *backend.Stream, x tensors) { s.Dropout(over(x, "y", "x"), x["x"], drop(x)) }
	return p
}

// dropoutProblems are Dropout, also in place.
func dropoutProblems() []problem {
	var all []problem
	for _, sh := range shapes {
		for _, probability := range []float64{0, 0.1, 0.5, 0.999} {
			for _, inPlace := range []bool{false, true} {
				name := fmt.Sprintf("%dx%d p=%g in place %t", sh[0], sh[1], probability, inPlace)
				all = append(all, dropoutProblem(name, someDrop(probability), sh[0], sh[1],
					packedKeys(sh[0]), normal(source(name), sh[0]*sh[1], 1), inPlace))
			}
		}
	}
	return all
}
