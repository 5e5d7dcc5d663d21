package cli

import (
	"context"
	"fmt"
	"math"

	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/onnx"
	"sift/text"
	"sift/train"
	"sift/verify"
)

// realTexts are tried beside random tokens where there is a tokenizer.
var realTexts = [...][2]string{
	{"A quiet triumph, acted with wit and real feeling.", ""},
	{"The plot, such as it is, gives up after an hour; so will most of the audience.", ""},
	{"Does it work?", "It does, and nobody is more surprised than its makers."},
	{"Unaffordable", ""},
}

// trained is what an ONNX file is held against. The zero value stands for the engine
// running the file's own weights.
type trained struct {
	name      string
	config    bert.Config
	weights   bert.Weights
	tokenizer *text.Tokenizer // optional: real sentences are tried too
	nonFinite bool            // weights may be NaN or infinite
}

// checkAgainst compares the ONNX file at path with the engine, which computes in float32: TF32 is
// further from it than the comparison tolerates.
func checkAgainst(ctx context.Context, d config.Device, use deviceUse, path string, model trained, opt verify.Options) (*verify.Certificate, error) {
	f, match, err := openModel(path, model.nonFinite)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stored, err := onnx.Load(match)
	if err != nil {
		return nil, err
	}
	rounded := ""
	if model.weights == nil {
		model.name, model.config, model.weights = "the engine with the file's own weights", match.Config, stored
	} else if rounded, err = asStored(match, model.weights, stored); err != nil {
		return nil, fault.In(path, err)
	}
	tf32 := d.CuBLAS == "tf32"
	if tf32 {
		d.CuBLAS = "on"
	}
	o, err := openDevice(d, use)
	if err != nil {
		return nil, err
	}
	defer o.device.Close()
	e, err := verify.NewModelEngine(o.device, model.config, model.weights, match)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	opt.Model, opt.Match, opt.Engine, opt.EngineName = f, match, e.Run, model.name
	opt.Tool = "sift " + Version
	if model.tokenizer != nil {
		for _, t := range realTexts {
			q := model.tokenizer.EncodePair(t[0], t[1], model.config.MaxTokens())
			opt.Texts = append(opt.Texts, verify.Sequence{IDs: q.IDs, Types: q.Types})
		}
	}
	c, err := verify.Run(ctx, opt)
	if err == nil && rounded != "" {
		c.Notes = append(c.Notes, rounded)
	}
	if err == nil && tf32 {
		c.Notes = append(c.Notes, tf32Note)
	}
	return c, err
}

// asStored replaces the weights that a file holds in half precision by what it holds,
// after checking that each is the trained one, rounded. The comparison that follows is
// then of computations alone. It returns a note for the certificate.
func asStored(m *onnx.Match, w, stored bert.Weights) (note string, err error) {
	for _, b := range m.Roles {
		unit := 0.0 // half the distance of neighbouring numbers near 1
		least := 0.0
		switch b.DType {
		case onnx.Float16:
			unit, least = 0x1p-11, 0x1p-25
		case onnx.BFloat16:
			unit = 0x1p-8
		default:
			continue
		}
		mine, theirs := w[b.Role], stored[b.Role]
		if mine == nil && theirs == nil {
			continue // a tied decoder, which is the word embedding
		}
		if len(mine) != len(theirs) {
			return "", fault.New(fault.Answer, "%s: %d values, the trained model has %d", b.Role, len(theirs), len(mine))
		}
		for i, v := range mine {
			if d := math.Abs(float64(theirs[i]) - float64(v)); !(d <= unit*math.Abs(float64(v))+least) {
				return "", fault.New(fault.Answer, "%s: element %d: %g is stored as %g, further away than rounding to %s explains", b.Role, i, v, theirs[i], b.DType)
			}
		}
		w[b.Role] = theirs
		note = fmt.Sprintf("the file stores weights as %s: each trained weight was rounded to it, and the comparison is with the rounded weights", b.DType)
	}
	return note, nil
}

// precisionNotes are what a certificate says of a run that computed in less than float32.
var precisionNotes = map[string]string{
	"bf16": "trained with train.precision bf16: activations were bfloat16, weights and sums float32; the comparison computes in float32",
	"f16":  "trained with train.precision f16: the operands of matrix products were rounded to float16, weights and sums were float32; the comparison computes in float32",
}

// tf32Note is what a certificate says where device.cublas is tf32.
const tf32Note = "device.cublas is tf32, which rounds float32 operands of matrix products to 10 bits of fraction in training; the comparison does not round them"

// runEndBudget keeps the check at the end of a run to some seconds; sift verify tries more.
const runEndBudget = verify.DefaultBudget / 5

// runEndElements keeps its memory to some hundred megabytes beside the run's: logits over a large
// vocabulary are held several times over, in float64.
const runEndElements = 1 << 22

// certify returns the check that a finished run's model must pass before it gets its name.
// It computes in float32 whatever the run computed in, for it is the weights that are
// checked; a run in float32 is checked with the kernels it chose.
func certify(t *terminal, cfg config.Config, tuning []byte) func(context.Context, string, *train.Trained, string) error {
	return func(ctx context.Context, model string, c *train.Trained, certificate string) error {
		if !t.quiet && !t.json {
			t.note("verifying the export")
		}
		use := deviceUse{tuning: tuning}
		note := precisionNotes[cfg.Train.Precision]
		if note != "" {
			use.tuning = nil // it is of other kernels
		}
		cert, err := checkAgainst(ctx, cfg.Device, use, model, ofRun(c), verify.Options{Seed: 1, Budget: runEndBudget, MaxElements: runEndElements})
		if err != nil {
			return err
		}
		if note != "" {
			cert.Notes = append(cert.Notes, note)
		}
		if err := cert.Err(); err != nil {
			// The answer is about our own export, so it is a defect, not an answer to the user.
			return fault.New(fault.Internal, "the exported model is wrong and was not kept: %v", err)
		}
		if !t.quiet && !t.json {
			t.note("export agrees with the trained model: %s", summarise(cert))
		}
		return verify.Write(certificate, cert)
	}
}

// ofRun is a run's trained model.
func ofRun(c *train.Trained) trained {
	name := "the trained model"
	if c.Run != "" {
		name += " of " + c.Run
	}
	return trained{name: name, config: c.Config, weights: c.Weights, tokenizer: c.Tokenizer}
}
