package bert

import "sift/fault"

// NoLabel marks a token or a sequence that no loss reads.
const NoLabel = -100

// Batch is S sequences packed into T rows, on the host. Every sequence has at least
// one row, and its first row is its [CLS].
type Batch struct {
	Seqs, Rows, MaxLen int
	Offsets            []int32  // [S+1]: sequence s has rows Offsets[s] .. Offsets[s+1]
	IDs                []int32  // [T] tokens
	Positions          []int32  // [T] position within the original sequence, from 0; the model adds its PositionOffset
	Types              []int32  // [T] token types
	KeyValid           []int32  // [T] 1 if the row may be attended to, else 0
	SampleID           []uint64 // [S] position in the data stream, below 2^48
	MLMRows            []int32  // [M] rows with a masked-LM label, ascending
	MLMLabels          []int32  // [M] their labels
	NSPLabels          []int32  // [S] 0, 1 or NoLabel; empty: no next-sentence task
	Labels             []int32  // [S] class or NoLabel; empty: no classification task
}

// Limits are the largest batch that memory is sized for.
type Limits struct {
	Rows     int // T
	Seqs     int // S
	MaxLen   int // longest sequence
	Labelled int // masked-LM labels
}

// First returns the row of sequence s's [CLS].
func (b *Batch) First(s int) int { return int(b.Offsets[s]) }

// Len returns the rows of sequence s.
func (b *Batch) Len(s int) int { return int(b.Offsets[s+1] - b.Offsets[s]) }

// Limits returns the limits that this batch just fits.
func (b *Batch) Limits() Limits {
	return Limits{Rows: b.Rows, Seqs: b.Seqs, MaxLen: b.MaxLen, Labelled: len(b.MLMRows)}
}

// Fits reports whether a batch of limits l can be held where memory was sized for max.
func (l Limits) Fits(max Limits) bool {
	return l.Rows <= max.Rows && l.Seqs <= max.Seqs && l.MaxLen <= max.MaxLen && l.Labelled <= max.Labelled
}

// Validate returns an error of kind fault.Data naming the first sequence that cfg
// cannot run: broken offsets, or an id, position, type or label out of range.
func (b *Batch) Validate(cfg Config) error {
	switch {
	case b.Seqs != len(b.SampleID) || b.Seqs+1 != len(b.Offsets),
		b.Rows != len(b.IDs) || b.Rows != len(b.Positions) || b.Rows != len(b.Types) || b.Rows != len(b.KeyValid),
		len(b.MLMRows) != len(b.MLMLabels),
		len(b.NSPLabels) != 0 && len(b.NSPLabels) != b.Seqs,
		len(b.Labels) != 0 && len(b.Labels) != b.Seqs:
		return fault.New(fault.Data, "batch: its parts do not have the same length")
	case b.Offsets[0] != 0 || int(b.Offsets[b.Seqs]) != b.Rows:
		return fault.New(fault.Data, "batch: offsets do not cover the rows")
	case len(b.MLMRows) > 0 && !cfg.HasMLM:
		return fault.New(fault.Data, "batch: masked-LM labels, but the model has no masked-LM head")
	case len(b.NSPLabels) > 0 && !cfg.HasNSP:
		return fault.New(fault.Data, "batch: next-sentence labels, but the model has no next-sentence head")
	case len(b.Labels) > 0 && cfg.Classes == 0:
		return fault.New(fault.Data, "batch: class labels, but the model has no classifier")
	}
	for s := range b.Seqs {
		if err := b.validateSequence(cfg, s); err != nil {
			return err
		}
	}
	last := int32(-1)
	for i, r := range b.MLMRows {
		if r <= last || int(r) >= b.Rows {
			return fault.New(fault.Data, "batch: labelled row %d is out of order or range", r)
		}
		if l := b.MLMLabels[i]; l < 0 || int(l) >= cfg.Vocab {
			return fault.New(fault.Data, "batch: row %d: label %d is not in the vocabulary of %d", r, l, cfg.Vocab)
		}
		last = r
	}
	return nil
}

func (b *Batch) validateSequence(cfg Config, s int) error {
	lo, hi := b.Offsets[s], b.Offsets[s+1]
	if hi <= lo || int(hi) > b.Rows || int(hi-lo) > b.MaxLen {
		return fault.New(fault.Data, "batch: sequence %d: rows %d to %d", s, lo, hi)
	}
	if b.SampleID[s] >= 1<<48 {
		return fault.New(fault.Data, "batch: sequence %d: sample id %d does not fit 48 bits", s, b.SampleID[s])
	}
	for r := lo; r < hi; r++ {
		if id := b.IDs[r]; id < 0 || int(id) >= cfg.Vocab {
			return fault.New(fault.Data, "batch: sequence %d: token %d is not in the vocabulary of %d", s, id, cfg.Vocab)
		}
		if p := b.Positions[r]; p < 0 || int(p) >= cfg.MaxTokens() {
			return fault.New(fault.Data, "batch: sequence %d: position %d is past the position table of %d", s, p, cfg.MaxTokens())
		}
		if y := b.Types[r]; cfg.TypeVocab > 0 && (y < 0 || int(y) >= cfg.TypeVocab) {
			return fault.New(fault.Data, "batch: sequence %d: token type %d, the model has %d", s, y, cfg.TypeVocab)
		}
		if v := b.KeyValid[r]; v != 0 && v != 1 {
			return fault.New(fault.Data, "batch: sequence %d: attention mask %d is neither 0 nor 1", s, v)
		}
	}
	if len(b.NSPLabels) > 0 {
		if l := b.NSPLabels[s]; l != NoLabel && (l < 0 || l > 1) {
			return fault.New(fault.Data, "batch: sequence %d: next-sentence label %d is neither 0 nor 1", s, l)
		}
	}
	if len(b.Labels) > 0 {
		if l := b.Labels[s]; l != NoLabel && (l < 0 || int(l) >= cfg.Classes) {
			return fault.New(fault.Data, "batch: sequence %d: label %d, the model has %d classes", s, l, cfg.Classes)
		}
	}
	return nil
}

// Select overwrites dst with the sequences kept of b, in the order given, and appends
// the rows they have in b to rows[:0]. kept must ascend. It allocates only while the
// slices of dst and rows are too short.
func (b *Batch) Select(dst *Batch, kept []int, rows []int32) []int32 {
	dst.reset()
	rows = rows[:0]
	label := 0 // walks b.MLMRows, which ascend with kept
	for _, s := range kept {
		lo, hi := b.Offsets[s], b.Offsets[s+1]
		shift := int32(dst.Rows) - lo
		for r := lo; r < hi; r++ {
			rows = append(rows, r)
		}
		dst.IDs = append(dst.IDs, b.IDs[lo:hi]...)
		dst.Positions = append(dst.Positions, b.Positions[lo:hi]...)
		dst.Types = append(dst.Types, b.Types[lo:hi]...)
		dst.KeyValid = append(dst.KeyValid, b.KeyValid[lo:hi]...)
		for label < len(b.MLMRows) && b.MLMRows[label] < lo {
			label++
		}
		for ; label < len(b.MLMRows) && b.MLMRows[label] < hi; label++ {
			dst.MLMRows = append(dst.MLMRows, b.MLMRows[label]+shift)
			dst.MLMLabels = append(dst.MLMLabels, b.MLMLabels[label])
		}
		if len(b.NSPLabels) > 0 {
			dst.NSPLabels = append(dst.NSPLabels, b.NSPLabels[s])
		}
		if len(b.Labels) > 0 {
			dst.Labels = append(dst.Labels, b.Labels[s])
		}
		dst.closeSequence(int(hi-lo), b.SampleID[s])
	}
	return rows
}

func (b *Batch) closeSequence(rows int, id uint64) {
	b.Seqs++
	b.Rows += rows
	b.MaxLen = max(b.MaxLen, rows)
	b.Offsets = append(b.Offsets, int32(b.Rows))
	b.SampleID = append(b.SampleID, id)
}

func (b *Batch) reset() {
	b.Seqs, b.Rows, b.MaxLen = 0, 0, 0
	b.Offsets = append(b.Offsets[:0], 0)
	b.IDs, b.Positions, b.Types, b.KeyValid = b.IDs[:0], b.Positions[:0], b.Types[:0], b.KeyValid[:0]
	b.SampleID = b.SampleID[:0]
	b.MLMRows, b.MLMLabels = b.MLMRows[:0], b.MLMLabels[:0]
	b.NSPLabels, b.Labels = b.NSPLabels[:0], b.Labels[:0]
}

// NewBatch returns an empty batch whose slices have room for max.
func NewBatch(max Limits) *Batch {
	b := &Batch{
		Offsets: make([]int32, 0, max.Seqs+1), SampleID: make([]uint64, 0, max.Seqs),
		NSPLabels: make([]int32, 0, max.Seqs), Labels: make([]int32, 0, max.Seqs),
		MLMRows: make([]int32, 0, max.Labelled), MLMLabels: make([]int32, 0, max.Labelled),
	}
	rows := make([]int32, 4*max.Rows)
	for i, p := range []*[]int32{&b.IDs, &b.Positions, &b.Types, &b.KeyValid} {
		*p = rows[i*max.Rows : i*max.Rows : (i+1)*max.Rows]
	}
	b.reset()
	return b
}
