package cli

import (
	"context"

	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/onnx"
	"sift/text"
	"sift/train"
	"sift/verify"
)

// engine computes a graph's outputs with our own kernels, from given weights.
type engine struct {
	model  *bert.Model
	match  *onnx.Match
	device backend.Device
}

// largestBatch is the most sequences that verification puts into one batch.
const largestBatch = 8

// newEngine puts weights on a device to answer for the outputs of the graph of match.
// cfg is the trained model's configuration, which may have heads the graph's import
// lacked.
func newEngine(d config.Device, match *onnx.Match, cfg bert.Config, w bert.Weights) (*engine, error) {
	device, err := openDevice(d)
	if err != nil {
		return nil, err
	}
	e := &engine{match: match, device: device}
	n := cfg.MaxTokens()
	if e.model, err = bert.NewModel(device, cfg, bert.Limits{Rows: largestBatch * n, Seqs: largestBatch, MaxLen: n}); err == nil {
		err = e.model.SetWeights(w)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *engine) close() {
	if e.model != nil {
		_ = e.model.Free() // the device is going away
	}
	_ = e.device.Close()
}

// run is a verify.Engine. Outputs of heads that are recognised but not computed (token
// classification, question answering) are left out, and the certificate says so.
func (e *engine) run(in verify.Inputs) (map[string][]float64, error) {
	ids, mask, types := make([][]int32, in.Batch), make([][]int32, in.Batch), make([][]int32, in.Batch)
	for s := range in.Batch {
		at := s * in.Length
		ids[s], mask[s], types[s] = narrow(in.IDs[at:at+in.Length]), narrow(in.Mask[at:at+in.Length]), narrow(in.Types[at:at+in.Length])
	}
	b, err := bert.PackPadded(ids, mask, types, nil, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	if err := b.Validate(e.model.Config()); err != nil {
		return nil, err
	}
	out := map[string][]float64{}
	for _, o := range e.match.Outputs {
		var values []float32
		perToken := false
		switch o.Kind {
		case "hidden":
			values, err = e.model.Hidden(b, o.Layer, nil)
			perToken = true
		case "mlm":
			rows := make([]int32, b.Rows)
			for r := range rows {
				rows[r] = int32(r)
			}
			values, err = e.model.MLMLogits(b, rows, nil)
			perToken = true
		case "pooled":
			values, err = e.model.Pooled(b, nil)
		case "nsp":
			values, err = e.model.NSPLogits(b, nil)
		case "logits":
			values, err = e.model.Classify(b, nil)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if perToken {
			out[o.Name] = unpack(b, values, in.Batch, in.Length)
		} else {
			out[o.Name] = widen(values)
		}
	}
	return out, nil
}

// unpack puts packed rows back where they stand in the padded batch, zeros elsewhere.
func unpack(b *bert.Batch, packed []float32, batch, length int) []float64 {
	width := len(packed) / b.Rows
	out := make([]float64, batch*length*width)
	for s := range b.Seqs {
		for r := int(b.Offsets[s]); r < int(b.Offsets[s+1]); r++ {
			at := (s*length + int(b.Positions[r])) * width
			for i, v := range packed[r*width : (r+1)*width] {
				out[at+i] = float64(v)
			}
		}
	}
	return out
}

func narrow(x []int64) []int32 {
	y := make([]int32, len(x))
	for i, v := range x {
		y[i] = int32(v)
	}
	return y
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// realTexts are tried beside random tokens where there is a tokenizer.
var realTexts = [...][2]string{
	{"A quiet triumph, acted with wit and real feeling.", ""},
	{"The plot, such as it is, gives up after an hour; so will most of the audience.", ""},
	{"Does it work?", "It does, and nobody is more surprised than its makers."},
	{"Unaffordable", ""},
}

// checkAgainst compares the ONNX file at path with the engine running given weights.
func checkAgainst(ctx context.Context, d config.Device, path, name string, cfg *bert.Config, w bert.Weights,
	tokenizer *text.Tokenizer, opt verify.Options) (*verify.Certificate, error) {
	f, match, err := openModel(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if cfg == nil {
		cfg = &match.Config
	}
	if w == nil {
		if w, err = onnx.Load(match); err != nil {
			return nil, err
		}
	}
	e, err := newEngine(d, match, *cfg, w)
	if err != nil {
		return nil, err
	}
	defer e.close()
	opt.Model, opt.Match, opt.Engine, opt.EngineName = f, match, e.run, name
	opt.Tool = "sift " + Version
	if tokenizer != nil {
		for _, t := range realTexts {
			q := tokenizer.Encode(t[0], t[1], cfg.MaxTokens())
			opt.Texts = append(opt.Texts, verify.Sequence{IDs: q.IDs, Types: q.Types})
		}
	}
	return verify.Run(ctx, opt)
}

// runEndBudget keeps the check at the end of a run to some seconds; sift verify tries more.
const runEndBudget = verify.DefaultBudget / 5

// certify returns the check that a finished run's model must pass before it gets its name.
func certify(t *terminal, d config.Device) func(context.Context, string, *train.Classifier, string) error {
	return func(ctx context.Context, model string, c *train.Classifier, certificate string) error {
		cert, err := checkAgainst(ctx, d, model, "the trained model", &c.Config, c.Weights, c.Tokenizer, verify.Options{Seed: 1, Budget: runEndBudget})
		if err != nil {
			return err
		}
		if err := cert.Err(); err != nil {
			return err
		}
		if !t.quiet && !t.json {
			t.note("export agrees with the trained model: %s", summarise(cert))
		}
		return verify.Write(certificate, cert)
	}
}
