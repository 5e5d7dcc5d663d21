package bert

import (
	"sift/backend"
	"sift/fault"
)

// inputs are the integers of a batch on the device, in one buffer so that one upload
// brings them all. Tensors are views for the batch at hand.
type inputs struct {
	limits Limits
	all    backend.Tensor // [1,n], every section at a fixed place
	host   []int32

	offsets, keyValid         backend.Tensor // [1,S+1], [1,T]
	rowKey, firstKey          backend.Tensor // [T,4], [S,4]
	ids, positions, types     backend.Tensor // [1,T]
	first                     backend.Tensor // [1,S] row of each [CLS]
	mlmRows, mlmLabels        backend.Tensor // [1,M]
	nspLabels, labels         backend.Tensor // [1,S]
	seqs, rows, labelled      int
	nspCounted, labelsCounted int // labels that are not NoLabel
	hasNSP, hasLabels         bool
	at                        int // while sections are laid out
}

func newInputs(a *allocator, l Limits) inputs {
	n := 0
	for _, words := range []int{l.Seqs + 1, l.Rows, 4 * l.Rows, 4 * l.Seqs, l.Rows, l.Rows, l.Rows, l.Seqs,
		l.Labelled, l.Labelled, l.Seqs, l.Seqs} {
		n += roundUp(words, alignment)
	}
	return inputs{limits: l, all: a.ints(1, n), host: make([]int32, n)}
}

// section returns the next section, of which rows x cols elements are used now and max
// are reserved, on the device and on the host.
func (in *inputs) section(rows, cols, max int) (backend.Tensor, []int32) {
	t := in.all.ColRange(in.at, rows*cols).Reshape(rows, cols)
	h := in.host[in.at : in.at+rows*cols]
	in.at += roundUp(max, alignment)
	return t, h
}

// load lays b out and uploads it. Positions get offset added.
func (in *inputs) load(s *backend.Stream, b *Batch, offset int) error {
	l := in.limits
	if !b.Limits().Fits(l) {
		return fault.New(fault.Data, "batch: %d sequences, %d tokens, longest %d, %d labels: memory was sized for %d, %d, %d, %d",
			b.Seqs, b.Rows, b.MaxLen, len(b.MLMRows), l.Seqs, l.Rows, l.MaxLen, l.Labelled)
	}
	in.at, in.seqs, in.rows, in.labelled = 0, b.Seqs, b.Rows, len(b.MLMRows)
	in.hasNSP, in.hasLabels = len(b.NSPLabels) > 0, len(b.Labels) > 0
	in.nspCounted, in.labelsCounted = counted(b.NSPLabels), counted(b.Labels)
	var h, rowKey, firstKey, first []int32
	in.offsets, h = in.section(1, b.Seqs+1, l.Seqs+1)
	copy(h, b.Offsets)
	in.keyValid, h = in.section(1, b.Rows, l.Rows)
	copy(h, b.KeyValid)
	in.rowKey, rowKey = in.section(b.Rows, 4, 4*l.Rows)
	in.firstKey, firstKey = in.section(b.Seqs, 4, 4*l.Seqs)
	in.ids, h = in.section(1, b.Rows, l.Rows)
	copy(h, b.IDs)
	in.positions, h = in.section(1, b.Rows, l.Rows)
	for i, p := range b.Positions {
		h[i] = p + int32(offset)
	}
	in.types, h = in.section(1, b.Rows, l.Rows)
	copy(h, b.Types)
	in.first, first = in.section(1, b.Seqs, l.Seqs)
	in.mlmRows, h = in.section(1, len(b.MLMRows), l.Labelled)
	copy(h, b.MLMRows)
	in.mlmLabels, h = in.section(1, len(b.MLMRows), l.Labelled)
	copy(h, b.MLMLabels)
	in.nspLabels, h = in.section(1, b.Seqs, l.Seqs)
	copy(h, b.NSPLabels)
	in.labels, h = in.section(1, b.Seqs, l.Seqs)
	copy(h, b.Labels)
	for q, id := range b.SampleID {
		lo, hi := b.Offsets[q], b.Offsets[q+1]
		first[q] = lo
		for r := lo; r < hi; r++ {
			key := rowKey[4*r : 4*r+4]
			key[0], key[1], key[2], key[3] = int32(q), r-lo, int32(uint32(id)), int32(uint32(id>>32))
		}
		copy(firstKey[4*q:4*q+4], rowKey[4*lo:4*lo+4])
	}
	return s.UploadI32(in.all, in.host)
}

func counted(labels []int32) int {
	n := 0
	for _, l := range labels {
		if l != NoLabel {
			n++
		}
	}
	return n
}

// layout describes the batch to the attention kernels.
func (in *inputs) layout(maxLen int) backend.Layout {
	return backend.Layout{Seqs: in.seqs, Rows: in.rows, MaxLen: maxLen, Offsets: in.offsets,
		KeyValid: in.keyValid, RowKey: in.rowKey}
}
