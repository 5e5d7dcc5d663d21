package verify

import (
	"sift/backend"
	"sift/bert"
	"sift/fault"
	"sift/onnx"
)

// ModelEngine runs the engine's model where a graph stands beside it.
type ModelEngine struct {
	model   *bert.Model
	outputs []onnx.Output
	rows    int
}

// engineRows is the number of packed rows at a time: more are cut between sequences, on
// which no result depends.
const engineRows = 1024

// NewModelEngine puts a model of the given configuration and weights on a device, for
// the outputs that m has recognised in a graph. Outputs that the engine has no head for
// are left out.
func NewModelEngine(dev backend.Device, cfg bert.Config, w bert.Weights, m *onnx.Match) (*ModelEngine, error) {
	longest := cfg.MaxTokens()
	rows := max(engineRows, longest)
	model, err := bert.NewModel(dev, cfg, bert.Limits{Rows: rows, Seqs: 8, MaxLen: longest})
	if err != nil {
		return nil, err
	}
	if err := model.SetWeights(w); err != nil {
		model.Free()
		return nil, err
	}
	return &ModelEngine{model: model, outputs: m.Outputs, rows: rows}, nil
}

// Close frees the device's memory.
func (e *ModelEngine) Close() error { return e.model.Free() }

// Run is an Engine: sequences are packed without padding, and results are put where
// the padded graph has them.
func (e *ModelEngine) Run(in Inputs) (map[string][]float64, error) {
	out := map[string][]float64{}
	for _, o := range e.outputs {
		if w := e.width(o); w > 0 {
			out[o.Name] = make([]float64, in.Batch*e.perSequence(o, in.Length)*w)
		}
	}
	p := bert.NewPacker(e.model.Limits())
	p.Reset()
	first := 0 // the sequence with which the pack begins
	for s := range in.Batch {
		q := sequence(&in, s)
		if b := p.Batch(); b.Seqs == 8 || b.Seqs > 0 && b.Rows+len(q.IDs) > e.rows {
			if err := e.pack(p.Batch(), &in, first, out); err != nil {
				return nil, err
			}
			p.Reset()
			first = s
		}
		if err := p.AddSequence(q); err != nil {
			return nil, err
		}
	}
	return out, e.pack(p.Batch(), &in, first, out)
}

// sequence takes one row of the padded batch.
func sequence(in *Inputs, s int) bert.Sequence {
	n := in.Length
	q := bert.Sequence{IDs: make([]int32, n), Mask: make([]int32, n), Types: make([]int32, n), SampleID: uint64(s)}
	for t := range n {
		i := s*n + t
		q.IDs[t], q.Mask[t], q.Types[t] = int32(in.IDs[i]), int32(in.Mask[i]), int32(in.Types[i])
	}
	return q
}

// width returns the last axis of an output, 0 if the model cannot compute it.
func (e *ModelEngine) width(o onnx.Output) int {
	c := e.model.Config()
	switch {
	case o.Kind == "hidden", o.Kind == "pooled" && c.HasPooler:
		return c.Hidden
	case o.Kind == "mlm" && c.HasMLM:
		return c.Vocab
	case o.Kind == "nsp" && c.HasNSP:
		return 2
	case o.Kind == "logits":
		return c.Classes
	}
	return 0
}

// perSequence returns how many rows an output has for a sequence.
func (e *ModelEngine) perSequence(o onnx.Output, length int) int {
	if o.Kind == "hidden" || o.Kind == "mlm" {
		return length
	}
	return 1
}

// pack runs one packed batch, whose first sequence is number first of the padded one.
func (e *ModelEngine) pack(b *bert.Batch, in *Inputs, first int, out map[string][]float64) error {
	for _, o := range e.outputs {
		w := e.width(o)
		if w == 0 {
			continue
		}
		var got []float32
		var err error
		switch o.Kind {
		case "hidden":
			got, err = e.model.Hidden(b, o.Layer, nil)
		case "pooled":
			got, err = e.model.Pooled(b, nil)
		case "mlm":
			rows := make([]int32, b.Rows)
			for i := range rows {
				rows[i] = int32(i)
			}
			got, err = e.model.MLMLogits(b, rows, nil)
		case "nsp":
			got, err = e.model.NSPLogits(b, nil)
		case "logits":
			got, err = e.model.Classify(b, nil)
		}
		if err != nil {
			return err
		}
		per := e.perSequence(o, in.Length)
		if want := b.Seqs; per == 1 && len(got) != want*w || per > 1 && len(got) != b.Rows*w {
			return fault.New(fault.Internal, "verify: %d elements of output %s", len(got), o.Name)
		}
		for s := range b.Seqs {
			if e.perSequence(o, 2) == 1 {
				widen(out[o.Name][(first+s)*w:], got[s*w:(s+1)*w])
				continue
			}
			for r := b.First(s); r < b.First(s)+b.Len(s); r++ {
				at := (first+s)*in.Length + int(b.Positions[r])
				widen(out[o.Name][at*w:], got[r*w:(r+1)*w])
			}
		}
	}
	return nil
}

func widen(dst []float64, src []float32) {
	for i, v := range src {
		dst[i] = float64(v)
	}
}
