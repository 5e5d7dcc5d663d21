package text

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

// EncodeAll tokenises every example of d on the given number of goroutines. The result
// does not depend on that number.
func (t *Tokenizer) EncodeAll(d *Dataset, maxLength, goroutines int) *Encoded { return nil }
