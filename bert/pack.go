package bert

import "sift/fault"

// Sequence is one example as it comes from a tokenizer or a padded array. IDs alone
// are required; the other slices are nil or as long as IDs.
type Sequence struct {
	IDs       []int32
	Types     []int32 // nil: all 0
	Mask      []int32 // attention mask of zeros and ones, zeros anywhere; nil: all 1
	MLMLabels []int32 // NoLabel where there is none; nil: none
	NSP       int32   // used by a Packer with NextSentence
	Label     int32   // used by a Packer with Classification
	SampleID  uint64
}

// Packer fills a Batch sequence by sequence and can be reused without allocation.
//
// A row is dropped only if it is masked, unlabelled and not at position 0 (which the
// pooled heads read). Rows keep the position they had, so holes in a mask are harmless.
type Packer struct {
	NextSentence   bool // sequences carry next-sentence labels
	Classification bool // sequences carry classes
	b              *Batch
}

// NewPacker returns a packer whose batch has room for max; it grows beyond if it must.
func NewPacker(max Limits) *Packer { return &Packer{b: NewBatch(max)} }

// Reset starts the next batch, overwriting the last.
func (p *Packer) Reset() { p.b.reset() }

// Batch returns the batch, valid until the next Reset.
func (p *Packer) Batch() *Batch { return p.b }

// AddSequence appends s. An error of kind fault.Data leaves the batch as it was.
func (p *Packer) AddSequence(s Sequence) error {
	n := len(s.IDs)
	if n == 0 {
		return fault.New(fault.Data, "batch: sequence %d: no tokens", p.b.Seqs)
	}
	if s.Types != nil && len(s.Types) != n || s.Mask != nil && len(s.Mask) != n || s.MLMLabels != nil && len(s.MLMLabels) != n {
		return fault.New(fault.Data, "batch: sequence %d: tokens, types, mask and labels do not have the same length", p.b.Seqs)
	}
	b, rows := p.b, 0
	for i, id := range s.IDs {
		valid := int32(1)
		if s.Mask != nil {
			valid = s.Mask[i]
		}
		labelled := s.MLMLabels != nil && s.MLMLabels[i] != NoLabel
		if valid == 0 && !labelled && i > 0 {
			continue
		}
		if labelled {
			b.MLMRows = append(b.MLMRows, int32(b.Rows+rows))
			b.MLMLabels = append(b.MLMLabels, s.MLMLabels[i])
		}
		kind := int32(0)
		if s.Types != nil {
			kind = s.Types[i]
		}
		b.IDs = append(b.IDs, id)
		b.Positions = append(b.Positions, int32(i))
		b.Types = append(b.Types, kind)
		b.KeyValid = append(b.KeyValid, valid)
		rows++
	}
	if p.NextSentence {
		b.NSPLabels = append(b.NSPLabels, s.NSP)
	}
	if p.Classification {
		b.Labels = append(b.Labels, s.Label)
	}
	b.closeSequence(rows, s.SampleID)
	return nil
}

// PackPadded packs padded arrays [S][L]. mask nil means no padding, types nil all 0,
// mlmLabels nil no masked-LM labels, nsp and labels nil no such task; sampleID nil
// numbers the sequences from 0.
func PackPadded(ids, mask, types, mlmLabels [][]int32, nsp, labels []int32, sampleID []uint64) (*Batch, error) {
	for _, a := range []struct {
		name   string
		n      int
		absent bool
	}{
		{"attention mask", len(mask), mask == nil}, {"token types", len(types), types == nil},
		{"masked-LM labels", len(mlmLabels), mlmLabels == nil}, {"next-sentence labels", len(nsp), nsp == nil},
		{"labels", len(labels), labels == nil}, {"sample ids", len(sampleID), sampleID == nil},
	} {
		if !a.absent && a.n != len(ids) {
			return nil, fault.New(fault.Data, "batch: %s for %d sequences, token ids for %d", a.name, a.n, len(ids))
		}
	}
	p := NewPacker(Limits{Seqs: len(ids)})
	p.NextSentence, p.Classification = nsp != nil, labels != nil
	for s := range ids {
		q := Sequence{IDs: ids[s], SampleID: uint64(s)}
		if mask != nil {
			q.Mask = mask[s]
		}
		if types != nil {
			q.Types = types[s]
		}
		if mlmLabels != nil {
			q.MLMLabels = mlmLabels[s]
		}
		if nsp != nil {
			q.NSP = nsp[s]
		}
		if labels != nil {
			q.Label = labels[s]
		}
		if sampleID != nil {
			q.SampleID = sampleID[s]
		}
		if err := p.AddSequence(q); err != nil {
			return nil, err
		}
	}
	return p.b, nil
}
