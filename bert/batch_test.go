package bert_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sift/bert"
	"sift/fault"
)

// drawPadded draws padded arrays with masks and labels anywhere.
func drawPadded(t *rapid.T) padded {
	seqs, width := rapid.IntRange(1, 5).Draw(t, "seqs"), rapid.IntRange(1, 7).Draw(t, "width")
	var p padded
	for s := range seqs {
		row := func(lo, hi int32) []int32 {
			return rapid.SliceOfN(rapid.Int32Range(lo, hi), width, width).Draw(t, "row")
		}
		p.ids, p.mask, p.types = append(p.ids, row(0, 18)), append(p.mask, row(0, 1)), append(p.types, row(0, 1))
		mlm := row(-3, 18)
		for i, l := range mlm {
			if l < 0 {
				mlm[i] = bert.NoLabel
			}
		}
		p.mlm = append(p.mlm, mlm)
		p.nsp, p.labels, p.sample = append(p.nsp, int32(s%2)), append(p.labels, int32(s)), append(p.sample, uint64(s)+10)
	}
	return p
}

// A row is dropped exactly if it is masked, unlabelled and not the first, and what is
// kept is what was there.
func TestPackPadded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPadded(t)
		b, err := bert.PackPadded(p.ids, p.mask, p.types, p.mlm, p.nsp, p.labels, p.sample)
		if err != nil {
			t.Fatal(err)
		}
		row, label := 0, 0
		for s := range p.ids {
			if b.First(s) != row || b.Positions[row] != 0 || b.SampleID[s] != p.sample[s] {
				t.Fatalf("sequence %d starts at %d, want %d", s, b.First(s), row)
			}
			for i, id := range p.ids[s] {
				labelled := p.mlm[s][i] != bert.NoLabel
				if i > 0 && p.mask[s][i] == 0 && !labelled {
					continue
				}
				if b.IDs[row] != id || int(b.Positions[row]) != i || b.Types[row] != p.types[s][i] || b.KeyValid[row] != p.mask[s][i] {
					t.Fatalf("row %d is not position %d of sequence %d", row, i, s)
				}
				if labelled {
					if int(b.MLMRows[label]) != row || b.MLMLabels[label] != p.mlm[s][i] {
						t.Fatalf("label %d", label)
					}
					label++
				}
				row++
			}
		}
		if row != b.Rows || label != len(b.MLMRows) || b.Seqs != len(p.ids) {
			t.Fatalf("%d rows, %d labels", b.Rows, len(b.MLMRows))
		}
		c := tiny()
		c.Classes = 5
		if err := b.Validate(c); err != nil {
			t.Fatal(err)
		}
	})
}

// Selecting sequences of a batch is packing only these.
func TestSelectIsPackingFewer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPadded(t)
		b, err := bert.PackPadded(p.ids, p.mask, p.types, p.mlm, p.nsp, p.labels, p.sample)
		if err != nil {
			t.Fatal(err)
		}
		var kept []int
		var q padded
		for s := range p.ids {
			if rapid.Bool().Draw(t, "keep") {
				kept = append(kept, s)
				q.ids, q.mask, q.types, q.mlm = append(q.ids, p.ids[s]), append(q.mask, p.mask[s]), append(q.types, p.types[s]), append(q.mlm, p.mlm[s])
				q.nsp, q.labels, q.sample = append(q.nsp, p.nsp[s]), append(q.labels, p.labels[s]), append(q.sample, p.sample[s])
			}
		}
		if kept == nil {
			return
		}
		want, err := bert.PackPadded(q.ids, q.mask, q.types, q.mlm, q.nsp, q.labels, q.sample)
		if err != nil {
			t.Fatal(err)
		}
		got := bert.NewBatch(bert.Limits{Rows: 2, Seqs: 1}) // too small: it grows
		rows := b.Select(got, kept, nil)
		if len(want.MLMRows) == 0 {
			got.MLMRows, got.MLMLabels = want.MLMRows, want.MLMLabels // empty or nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("selected %+v, want %+v", got, want)
		}
		for i, r := range rows {
			if b.IDs[r] != got.IDs[i] || b.Positions[r] != got.Positions[i] {
				t.Fatalf("row %d is not row %d", i, r)
			}
		}
		if len(rows) != got.Rows {
			t.Fatalf("%d rows, want %d", len(rows), got.Rows)
		}
	})
}

func TestPackerReuses(t *testing.T) {
	p := bert.NewPacker(bert.Limits{Rows: 16, Seqs: 4, MaxLen: 4})
	p.Classification = true
	ids := []int32{1, 2, 3, 4}
	fill := func() {
		p.Reset()
		for s := range 4 {
			if err := p.AddSequence(bert.Sequence{IDs: ids, Types: ids, Label: 1, SampleID: uint64(s)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	if b := p.Batch(); b.Rows != 16 || b.Seqs != 4 || len(b.Labels) != 4 {
		t.Errorf("%+v", b)
	}
	before := p.Batch().Rows
	if err := p.AddSequence(bert.Sequence{IDs: ids, Mask: ids[:2]}); fault.KindOf(err) != fault.Data || p.Batch().Rows != before {
		t.Errorf("a short mask: %v", err)
	}
	if err := p.AddSequence(bert.Sequence{}); fault.KindOf(err) != fault.Data {
		t.Errorf("an empty sequence: %v", err)
	}
}

// Every way a batch can be wrong is an error that says where.
func TestBatchValidate(t *testing.T) {
	cfg := tiny()
	cfg.Classes = 3
	for _, c := range []struct {
		says  string
		spoil func(b *bert.Batch)
	}{
		{"same length", func(b *bert.Batch) { b.IDs = b.IDs[1:] }},
		{"same length", func(b *bert.Batch) { b.Labels = b.Labels[1:] }},
		{"same length", func(b *bert.Batch) { b.MLMLabels = b.MLMLabels[1:] }},
		{"same length", func(b *bert.Batch) { b.Seqs++ }},
		{"cover", func(b *bert.Batch) { b.Offsets[0] = 1 }},
		{"cover", func(b *bert.Batch) { b.Offsets[b.Seqs]-- }},
		{"sequence 1: rows", func(b *bert.Batch) { b.Offsets[2] = b.Offsets[1] }},
		{"sequence 0: rows", func(b *bert.Batch) { b.Offsets[1] = 1 << 30 }},
		{"sequence 0: rows", func(b *bert.Batch) { b.MaxLen = 1 }},
		{"48 bits", func(b *bert.Batch) { b.SampleID[2] = 1 << 48 }},
		{"token -1", func(b *bert.Batch) { b.IDs[3] = -1 }},
		{"token 19", func(b *bert.Batch) { b.IDs[0] = 19 }},
		{"position 9", func(b *bert.Batch) { b.Positions[0] = 9 }},
		{"position -1", func(b *bert.Batch) { b.Positions[0] = -1 }},
		{"token type 2", func(b *bert.Batch) { b.Types[1] = 2 }},
		{"attention mask 2", func(b *bert.Batch) { b.KeyValid[1] = 2 }},
		{"next-sentence label 2", func(b *bert.Batch) { b.NSPLabels[1] = 2 }},
		{"label 3", func(b *bert.Batch) { b.Labels[0] = 3 }},
		{"label -1", func(b *bert.Batch) { b.Labels[0] = -1 }},
		{"label 19", func(b *bert.Batch) { b.MLMLabels[0] = 19 }},
		{"labelled row", func(b *bert.Batch) { b.MLMRows[1] = b.MLMRows[0] }},
		{"labelled row", func(b *bert.Batch) { b.MLMRows[len(b.MLMRows)-1] = int32(b.Rows) }},
	} {
		b := randomPadded(rng(3), cfg, 6, 5, 8, 4).pack(t, cfg)
		if err := b.Validate(cfg); err != nil {
			t.Fatal(err)
		}
		c.spoil(b)
		if err := b.Validate(cfg); fault.KindOf(err) != fault.Data || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("want %q, error %v", c.says, err)
		}
	}
	b := randomPadded(rng(3), cfg, 6, 5).pack(t, cfg)
	for _, without := range []func(c *bert.Config){
		func(c *bert.Config) { c.HasMLM = false }, func(c *bert.Config) { c.HasNSP = false }, func(c *bert.Config) { c.Classes = 0 },
	} {
		c := cfg
		without(&c)
		if err := b.Validate(c); fault.KindOf(err) != fault.Data || err == nil {
			t.Errorf("labels without a head: %v", err)
		}
	}
}

func TestPackPaddedRefuses(t *testing.T) {
	ids := [][]int32{{1, 2}, {3, 4}}
	if _, err := bert.PackPadded(ids, ids[:1], nil, nil, nil, nil, nil); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("mask of one sequence: %v", err)
	}
	if _, err := bert.PackPadded(ids, nil, nil, nil, nil, []int32{}, nil); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("no labels: %v", err)
	}
	if _, err := bert.PackPadded(ids, [][]int32{{1}, {1, 1}}, nil, nil, nil, nil, nil); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("short mask: %v", err)
	}
	b, err := bert.PackPadded(ids, nil, nil, nil, nil, nil, nil)
	check(t, err)
	if b.Rows != 4 || !slices.Equal(b.SampleID, []uint64{0, 1}) || len(b.Labels)+len(b.NSPLabels)+len(b.MLMRows) != 0 {
		t.Errorf("%+v", b)
	}
}
