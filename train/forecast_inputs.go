package train

import (
	"context"
	"math"
	"os"
	"path/filepath"

	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/text"
)

// population is what is known of a run's examples.
type population struct {
	model     bert.Config
	objective bert.Objective
	samples   samples
	held      heldOut // nil: nothing is validated, or it is not known on what

	lengths      string // where they are from: one of the constants below
	why          string // not all of the data was read; empty if all was
	size, valids int    // examples of an epoch, 0 if unknown, and to validate on
	corpora      []*text.Corpus
}

func (p *population) close() {
	for _, c := range p.corpora {
		_ = c.Close() // read only
	}
}

// Where the lengths of a forecast are from.
const (
	fromData     = "data"     // every example
	fromSample   = "sample"   // those of a part of the text
	fromExpected = "expected" // nothing: those of text without end, or the longest allowed
)

// readPopulation reads the data of a run as far as that is quick, and no weights.
func readPopulation(ctx context.Context, cfg config.Config) (*population, error) {
	in := &material{}
	missing, err := absentData(cfg)
	if err != nil {
		return nil, err
	}
	graph := &graph{}
	if cfg.Model.Path != "" {
		if graph, err = importGraph(cfg.Model.Path); err != nil {
			return nil, err
		}
		defer graph.Close()
		if cfg.Model.Tokenizer == "" {
			cfg.Model.Tokenizer = filepath.Dir(cfg.Model.Path)
		}
	} else if cfg.Task.Name == "classification" {
		return nil, fault.New(fault.Config, `model.path: "": classification needs an ONNX file; task.name mlm starts without one`)
	}
	vocab := cfg.Model.Vocab
	if missing == "" || cfg.Model.Path == "" && vocab == 0 {
		if cfg.Model.Tokenizer == "" {
			return nil, fault.New(fault.Config, "model.tokenizer: not set: must be a tokenizer directory, vocab.txt or tokenizer.json (or set model.vocab)")
		}
		if in.tokenizer, err = text.Load(cfg.Model.Tokenizer); err != nil {
			return nil, err
		}
		vocab = in.tokenizer.VocabSize()
	}
	if in.model = graph.config; cfg.Model.Path == "" {
		in.model = freshModel(cfg.Model, vocab)
	}
	in.model.MaskValue = 0
	if err := checkLength(cfg.Task, in.model); err != nil {
		return nil, err
	}
	if in.tokenizer != nil {
		if err := checkVocabulary(in.tokenizer, in.model, cfg.Model.Tokenizer, nil); err != nil {
			return nil, err
		}
	}
	if cfg.Task.Name == "classification" {
		return in.labelledPopulation(cfg, missing)
	}
	return in.maskedPopulation(ctx, cfg, missing)
}

// absentData says which path of the data is not there; empty if all are.
func absentData(cfg config.Config) (string, error) {
	if len(cfg.Data.Train) == 0 {
		return "data.train is not given", nil
	}
	for _, path := range append(append(config.Paths{}, cfg.Data.Train...), cfg.Data.Valid...) {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return path + " is not there", nil
		} else if err != nil {
			return "", diskError(fault.Missing, path, err)
		}
	}
	return "", nil
}

// labelledPopulation reads labelled files. Without them every text counts as long as is
// allowed, and labels are as many as the graph's classifier has, or two.
func (in *material) labelledPopulation(cfg config.Config, missing string) (*population, error) {
	if missing != "" {
		if in.model.Classes == 0 {
			in.model.Classes, in.model.HasPooler = 2, true
		}
		longest := exampleSize{tokens: cfg.Task.MaxLength}
		return &population{model: in.model, objective: bert.Objective{Classification: true}, lengths: fromExpected, why: missing,
			samples: &imaginedSamples{sizes: []exampleSize{longest}, most: longest}}, nil
	}
	var labels *text.Labels
	train, data, err := readExamples(cfg.Data.Train[0], cfg.Task, nil, in.tokenizer, in.model, nil)
	if err != nil {
		return nil, err
	}
	if in.train, labels = train, data.Labels; labels.Len() < 2 {
		return nil, fault.New(fault.Data, "%s: %d label; at least 2 are needed to classify", cfg.Data.Train, labels.Len())
	}
	if len(cfg.Data.Valid) > 0 {
		if in.valid, _, err = readExamples(cfg.Data.Valid[0], cfg.Task, labels, in.tokenizer, in.model, nil); err != nil {
			return nil, err
		}
	}
	in.labels = labels.Names
	if err := in.fitHead(cfg); err != nil {
		return nil, err
	}
	p := &population{model: in.model, lengths: fromData, size: train.Len(), valids: in.valid.Len()}
	p.objective, p.samples, p.held = in.streams(cfg.Train.Seed)
	return p, nil
}

// maskedPopulation reads running text, or a part of it.
func (in *material) maskedPopulation(ctx context.Context, cfg config.Config, missing string) (*population, error) {
	in.maskedHeads(cfg)
	if missing != "" {
		most := exampleSize{cfg.Task.MaxLength, maskedOf(cfg.Task.MaxLength, cfg.Data.MaskProbability)}
		return &population{model: in.model, objective: bert.Objective{MLM: true, NSP: cfg.Data.NextSentence}, lengths: fromExpected,
			why: missing, samples: &imaginedSamples{sizes: expectedSizes(cfg.Task.MaxLength, cfg.Data), most: most}}, nil
	}
	p := &population{lengths: fromData}
	train, share, err := p.readPart(ctx, cfg.Data.Train, in.tokenizer)
	if err != nil {
		return nil, err
	}
	held, heldShare := train, share
	kept := 1.0 // share of the examples read that are trained on
	switch {
	case len(cfg.Data.Valid) > 0:
		held, heldShare, err = p.readPart(ctx, cfg.Data.Valid, in.tokenizer)
	case share < 1: // of a few documents chance may hold out none or many
		kept, heldShare = 1-cfg.Data.ValidShare, share/cfg.Data.ValidShare
		if cfg.Data.ValidShare == 0 {
			held = nil
		}
	default:
		if train, held, err = train.Split(cfg.Data.ValidShare, validationSeed); err != nil {
			err = fault.In(cfg.Data.Train.String(), err)
		}
	}
	if err == nil {
		in.text, err = newRunning(cfg, in.tokenizer, in.model, train, held)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.model, p.size = in.model, int(math.Round(float64(in.text.train.Len())/share*kept))
	p.objective, p.samples, p.held = in.streams(cfg.Train.Seed)
	if p.held != nil {
		p.valids = int(math.Round(float64(p.held.Len()) / heldShare))
	}
	return p, nil
}

// imaginedSamples stand for data that are not there: sizes again and again, without end.
type imaginedSamples struct {
	sizes []exampleSize
	most  exampleSize
}

func (s *imaginedSamples) Len() int       { return 1 << 46 }
func (s *imaginedSamples) tokens() int    { return 0 }
func (s *imaginedSamples) longest() int   { return s.most.tokens }
func (s *imaginedSamples) labelled() int  { return s.most.labels }
func (s *imaginedSamples) length(int) int { return s.most.tokens }

func (s *imaginedSamples) add(p *bert.Packer, position uint64) error {
	x := s.sizes[position%uint64(len(s.sizes))]
	q := bert.Sequence{IDs: make([]int32, x.tokens), SampleID: position}
	if s.most.labels > 0 {
		q.MLMLabels = make([]int32, x.tokens)
		for i := x.labels; i < x.tokens; i++ {
			q.MLMLabels[i] = bert.NoLabel
		}
	}
	return p.AddSequence(q)
}

// heldSize is the size of an example to validate on.
func (p *population) heldSize(i int) exampleSize {
	switch h := p.held.(type) {
	case *labelledHeldOut:
		return exampleSize{tokens: h.length(i)}
	case *maskedHeldOut:
		h.p.Fill(&h.x, 0, i)
		x := exampleSize{tokens: len(h.x.IDs)}
		for _, label := range h.x.MLMLabels {
			if label != bert.NoLabel {
				x.labels++
			}
		}
		return x
	}
	panic("train: no held-out examples")
}
