package train

import (
	"context"
	"path/filepath"
	"strings"

	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/sifting"
	"sift/text"
)

// Pretrain trains a masked LM, with next-sentence prediction if cfg asks for it, on running
// text and leaves everything in opt.Out: from fresh weights, or from those of
// cfg.Model.Path. The loss is the mean masked-LM loss plus the mean next-sentence loss.
//
// Errors are those of Finetune.
func Pretrain(ctx context.Context, cfg config.Config, opt RunOptions) (*Summary, error) {
	if err := cfg.ValidatePretrain(); err != nil {
		return nil, err
	}
	return start(ctx, cfg, opt)
}

// running is text to train on and to hold out, as examples.
type running struct {
	corpora       []*text.Corpus // to close
	train         *text.Pretraining
	valid         *text.Pretraining // nil: no validation
	types         bool              // the model tells segments apart
	next          bool              // pairs with next-sentence labels
	maxLength     int
	most          int // masked tokens of a sequence
	tokens        int // of the training part, without special ones
	documents     int // of the training part
	heldDocuments int
}

func (r *running) close() {
	if r == nil {
		return
	}
	for _, c := range r.corpora {
		_ = c.Close() // read only
	}
}

// readText reads and checks all that a masked-LM run needs, before anything is written.
func readText(ctx context.Context, cfg config.Config) (in *material, err error) {
	in = &material{}
	notice := func(s string) { in.notices = append(in.notices, s) }
	var graph *graph
	if cfg.Model.Path != "" {
		if graph, err = importGraph(cfg.Model.Path); err != nil {
			return nil, err
		}
		defer graph.Close()
		if cfg.Model.Tokenizer == "" {
			cfg.Model.Tokenizer = filepath.Dir(cfg.Model.Path)
		}
	}
	if in.tokenizer, err = text.Load(cfg.Model.Tokenizer); err != nil {
		return nil, err
	}
	if err := in.tokenizer.NeedMask(); err != nil {
		return nil, err
	}
	if graph != nil {
		in.model = graph.config
		in.model.MaskValue = 0
	} else {
		in.model = freshModel(cfg.Model, in.tokenizer.VocabSize())
	}
	in.maskedHeads(cfg)
	if err := in.model.Validate(); err != nil {
		if graph == nil {
			return nil, fault.New(fault.Config, "%v", err) // the sizes are the configuration's
		}
		return nil, err
	}
	if err := checkVocabulary(in.tokenizer, in.model, cfg.Model.Tokenizer, notice); err != nil {
		return nil, err
	}
	if err := checkLength(cfg.Task, in.model); err != nil {
		return nil, err
	}
	// The model may be large and the text too: what is wrong with a path shows first.
	if err := in.readCorpora(ctx, cfg, notice); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			in.text.close()
		}
	}()
	in.weights = bert.Weights{}
	if graph != nil {
		if in.weights, err = graph.load(); err != nil {
			return nil, err
		}
	}
	fresh, err := bert.InitMissing(in.model, in.weights, cfg.Train.Seed)
	if err != nil {
		return nil, err
	}
	if graph != nil && len(fresh) > 0 {
		notice("fresh parameters: " + strings.Join(fresh, ", "))
	}
	if graph != nil && lacksHeads(graph.config, in.model) {
		notice(cfg.Model.Path + ": has no place for the heads that are trained; the export will be a graph built whole")
	}
	if in.files, err = tokenizerFiles(in.tokenizer, in.model.MaxTokens()); err != nil {
		return nil, err
	}
	return in, in.hash(cfg)
}

// maskedHeads gives the model the heads that are trained.
func (in *material) maskedHeads(cfg config.Config) {
	if !in.model.HasMLM {
		in.model.HasMLM, in.model.TiedDecoder = true, cfg.Model.Tied
	}
	if cfg.Data.NextSentence {
		in.model.HasNSP, in.model.HasPooler = true, true
	}
}

// freshModel is the configuration of a model from scratch.
func freshModel(m config.Model, vocab int) bert.Config {
	c := bert.Config{
		Layers: m.Layers, Hidden: m.Hidden, Heads: m.Heads, Intermediate: m.Intermediate, Vocab: m.Vocab,
		Positions: m.Positions, TypeVocab: m.TypeVocab, Activation: backend.GeluErf, Eps: 1e-12,
		HasMLM: true, TiedDecoder: m.Tied, HasPooler: true,
	}
	if c.Intermediate == 0 {
		c.Intermediate = 4 * c.Hidden
	}
	if c.Vocab == 0 {
		c.Vocab = vocab
	}
	if m.Activation == "gelu_tanh" {
		c.Activation = backend.GeluTanh
	}
	return c
}

// readCorpora reads the text and parts off what is held out.
func (in *material) readCorpora(ctx context.Context, cfg config.Config, notice func(string)) (err error) {
	var corpora []*text.Corpus
	defer func() {
		if err != nil {
			(&running{corpora: corpora}).close()
		}
	}()
	open := func(paths config.Paths) (*text.Corpus, error) {
		c, err := openCorpus(ctx, in.tokenizer, paths)
		if err == nil {
			corpora = append(corpora, c)
			for _, note := range c.Notes {
				notice(note)
			}
		}
		return c, err
	}
	train, err := open(cfg.Data.Train)
	if err != nil {
		return err
	}
	in.hashes.Train = train.Hash()
	var held *text.Corpus
	if len(cfg.Data.Valid) > 0 {
		if held, err = open(cfg.Data.Valid); err != nil {
			return err
		}
		in.hashes.Valid = held.Hash()
		if err := checkApart(train, held); err != nil {
			return err
		}
	} else if train, held, err = train.Split(cfg.Data.ValidShare, validationSeed); err != nil {
		return fault.In(cfg.Data.Train.String(), err)
	}
	r, err := newRunning(cfg, in.tokenizer, in.model, train, held)
	if err != nil {
		return err
	}
	if r.next && !r.types {
		notice("the model does not tell token types apart: it is told of pairs by [SEP] alone")
	}
	r.corpora, in.text = corpora, r
	return nil
}

// newRunning makes the examples of a run from text to train on and text held out, which
// may be nil.
func newRunning(cfg config.Config, tok *text.Tokenizer, model bert.Config, train, held *text.Corpus) (*running, error) {
	r := &running{types: model.TypeVocab > 1, next: cfg.Data.NextSentence, maxLength: cfg.Task.MaxLength,
		most: maskedOf(cfg.Task.MaxLength, cfg.Data.MaskProbability), tokens: train.Tokens(), documents: train.Documents()}
	var err error
	if r.train, err = text.NewPretraining(tok, train, examplesOf(cfg.Task, cfg.Data, cfg.Train.Seed, false)); err != nil {
		return nil, fault.In(cfg.Data.Train.String(), err)
	}
	if held == nil {
		return r, nil
	}
	if r.valid, err = text.NewPretraining(tok, held, examplesOf(cfg.Task, cfg.Data, validationSeed, true)); err != nil {
		return nil, fault.In("the held-out text", err)
	}
	r.heldDocuments = held.Documents()
	return r, nil
}

// checkApart refuses to validate on a file that is trained on, whatever its name.
func checkApart(train, held *text.Corpus) error {
	trained := map[string]string{}
	for _, f := range train.Files {
		trained[f.Hash] = f.Path
	}
	for _, f := range held.Files {
		if path, ok := trained[f.Hash]; ok && f.Sentences > 0 {
			return fault.New(fault.Config, "data.valid: %s: has the same text as %s of data.train", f.Path, path)
		}
	}
	return nil
}

// validationSeed decides which documents are held out and which of their tokens are masked:
// the same whatever train.seed is, so that runs of several seeds are measured alike.
const validationSeed = 1

// openCorpus opens prepared data, or reads text.
func openCorpus(ctx context.Context, tok *text.Tokenizer, paths config.Paths) (*text.Corpus, error) {
	for _, path := range paths {
		if text.IsPrepared(path) {
			if len(paths) > 1 {
				return nil, fault.New(fault.Config, "%s: is prepared data, which stands alone; prepare all the text into one directory", path)
			}
			return tok.OpenPrepared(path)
		}
	}
	c, err := tok.ReadCorpus(ctx, paths...)
	if err != nil && ctx.Err() != nil {
		return nil, fault.New(fault.Interrupted, "%s: interrupted while reading", paths)
	}
	return c, err
}

func (r *running) streams(seed uint64) (bert.Objective, samples, heldOut) {
	objective := bert.Objective{MLM: true, NSP: r.next}
	s := &maskedSamples{r, r.train, text.NewOrder(r.train.Len(), seed), text.PretrainingExample{}}
	if r.valid == nil {
		return objective, s, nil
	}
	return objective, s, &maskedHeldOut{r, r.valid, text.PretrainingExample{}}
}

// sequence is what the model sees of an example.
func (r *running) sequence(x *text.PretrainingExample, id uint64) bert.Sequence {
	s := bert.Sequence{IDs: x.IDs, MLMLabels: x.MLMLabels, NSP: x.NSP, SampleID: id}
	if r.types {
		s.Types = x.Types
	}
	return s
}

// maskedSamples draws from running text.
type maskedSamples struct {
	*running
	p     *text.Pretraining
	order *text.Order
	x     text.PretrainingExample
}

func (s *maskedSamples) Len() int       { return s.p.Len() }
func (s *maskedSamples) tokens() int    { return s.running.tokens }
func (s *maskedSamples) longest() int   { return s.maxLength }
func (s *maskedSamples) labelled() int  { return s.most }
func (s *maskedSamples) length(int) int { return s.maxLength }

func (s *maskedSamples) add(p *bert.Packer, position uint64) error {
	s.p.Fill(&s.x, position/uint64(s.p.Len()), s.order.At(position))
	return p.AddSequence(s.sequence(&s.x, position))
}

// maskedHeldOut is text to validate on: the same examples and masks every time.
type maskedHeldOut struct {
	*running
	p *text.Pretraining
	x text.PretrainingExample
}

func (h *maskedHeldOut) Len() int     { return h.p.Len() }
func (h *maskedHeldOut) longest() int { return h.maxLength }

func (h *maskedHeldOut) evaluate(ctx context.Context, t *trainer) (Evaluation, error) {
	return h.run(ctx, t.model, t.packer, t.notify)
}

// run evaluates h batch by batch within the limits of model.
func (h *maskedHeldOut) run(ctx context.Context, model *bert.Model, packer *bert.Packer,
	notify func(Event)) (Evaluation, error) {
	limits, n := model.Limits(), h.Len()
	m := &MaskedEvaluation{Sequences: n}
	e := Evaluation{MaskedEvaluation: m}
	correct, correctPairs := 0, 0
	for first := 0; first < n; {
		if err := ctx.Err(); err != nil {
			return e, err
		}
		packer.Reset()
		b := packer.Batch()
		for first < n && b.Seqs < limits.Seqs && b.Rows+h.maxLength <= limits.Rows && len(b.MLMRows)+h.most <= limits.Labelled {
			h.p.Fill(&h.x, 0, first)
			if err := packer.AddSequence(h.sequence(&h.x, uint64(first))); err != nil {
				return e, err
			}
			first++
		}
		if b.Seqs == 0 {
			return e, fault.New(fault.Internal, "validation: a sequence does not fit %+v", limits)
		}
		r, err := sifting.Evaluate(model, b)
		if err != nil {
			return e, err
		}
		m.MLMLoss += r.MLMLoss * float64(r.Count)
		m.NSPLoss += r.NSPLoss * float64(r.NSPCount)
		m.NSPCount += r.NSPCount
		correct += r.Correct
		correctPairs += r.NSPCorrect
		e.N += r.Count
		e.Tokens += b.Rows
		notify(&Evaluating{Done: first, Of: n})
	}
	if e.N > 0 {
		m.MLMLoss /= float64(e.N)
		e.Accuracy = float64(correct) / float64(e.N)
	}
	if m.NSPCount > 0 {
		m.NSPLoss /= float64(m.NSPCount)
		m.NSPAccuracy = float64(correctPairs) / float64(m.NSPCount)
	}
	e.Loss = m.MLMLoss + m.NSPLoss
	return e, nil
}
