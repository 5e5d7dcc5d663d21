package text

import "sync"

// Encoded is a data set as token ids, one sequence after another.
type Encoded struct {
	IDs, Types []int32 // of all sequences
	Offsets    []int   // sequence i is [Offsets[i], Offsets[i+1])
	Labels     []int32 // -1 where unlabelled
	Truncated  int     // sequences cut to the maximum length
}

// Len returns the number of sequences.
func (e *Encoded) Len() int { return len(e.Labels) }

// Sequence returns sequence i, sharing memory with e.
func (e *Encoded) Sequence(i int) Encoding {
	lo, hi := e.Offsets[i], e.Offsets[i+1]
	return Encoding{IDs: e.IDs[lo:hi:hi], Types: e.Types[lo:hi:hi]}
}

// EncodeAll tokenises every example of d on the given number of goroutines, each a run
// of consecutive examples. The result does not depend on that number.
func (t *Tokenizer) EncodeAll(d *Dataset, maxLength, goroutines int) *Encoded {
	n := len(d.Examples)
	goroutines = max(1, min(goroutines, n))
	parts := make([]Encoded, goroutines)
	var wg sync.WaitGroup
	for g := range parts {
		wg.Go(func() {
			parts[g] = t.encodeRun(d, n*g/goroutines, n*(g+1)/goroutines, maxLength)
		})
	}
	wg.Wait()

	e := &parts[0]
	for g := range parts[1:] {
		p := &parts[1+g]
		base := len(e.IDs)
		e.IDs = append(e.IDs, p.IDs...)
		e.Types = append(e.Types, p.Types...)
		for _, end := range p.Offsets[1:] {
			e.Offsets = append(e.Offsets, base+end)
		}
		e.Labels = append(e.Labels, p.Labels...)
		e.Truncated += p.Truncated
	}
	return e
}

// encodeRun tokenises the examples lo to hi-1.
func (t *Tokenizer) encodeRun(d *Dataset, lo, hi, maxLength int) Encoded {
	e := Encoded{Offsets: make([]int, 1, hi-lo+1), Labels: make([]int32, 0, hi-lo)}
	var out Encoding
	for i := lo; i < hi; i++ {
		x := &d.Examples[i]
		var cut bool
		if out, cut = t.appendEncode(out, x.A, x.B, d.Pairs, maxLength); cut {
			e.Truncated++
		}
		e.Offsets = append(e.Offsets, len(out.IDs))
		e.Labels = append(e.Labels, x.Label)
	}
	e.IDs, e.Types = out.IDs, out.Types
	return e
}
