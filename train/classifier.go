package train

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sift/backend"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/onnx"
	"sift/text"
)

// Trained is a trained model with all that is needed to use it: from a run directory, or
// from an ONNX file with its tokenizer and label names beside it. A classifier can be
// evaluated and predicts; a masked LM has no labels.
type Trained struct {
	Path      string      // the run directory or the ONNX file
	Import    string      // the ONNX file the weights were imported from: what an export grafts onto
	Labels    []string    // by class
	Task      config.Task // columns and maximum length
	Data      config.Data // how a masked LM's examples are made
	Run       string      // the run directory, empty for an ONNX file
	Update    int         // the update the weights are from
	Source    string      // the checkpoint file the weights are from, or the ONNX file
	Config    bert.Config
	Weights   bert.Weights
	Tokenizer *text.Tokenizer
}

// OpenOptions say what to read.
type OpenOptions struct {
	Checkpoint string       // of a run: "best" (the default; the last where nothing was evaluated), "last", or a file
	Tokenizer  string       // default: the run's, or beside the ONNX file
	Labels     []string     // of an ONNX file; default: id2label of config.json beside it, or 0, 1, ...
	Notice     func(string) // optional: told of a damaged checkpoint that was passed over
}

// Open reads a run directory or an ONNX file.
func Open(path string, opt OpenOptions) (*Trained, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, diskError(fault.Missing, path, err)
	}
	if info.IsDir() {
		return openRun(path, opt)
	}
	return openONNX(path, opt)
}

// OpenRun is Open for a run directory, its best checkpoint.
func OpenRun(dir string) (*Trained, error) { return Open(dir, OpenOptions{}) }

func openRun(dir string, opt OpenOptions) (*Trained, error) {
	cfg, err := readRunConfig(dir)
	if err != nil {
		return nil, err
	}
	p, err := openWeights(dir, opt)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	c := &Trained{
		Path: dir, Run: dir, Import: cfg.Model.Path, Labels: p.Labels, Task: cfg.Task, Data: cfg.Data,
		Update: p.Update, Source: p.path, Config: p.Model,
	}
	if c.Weights, err = p.weights(); err != nil {
		return nil, err
	}
	if opt.Tokenizer == "" {
		opt.Tokenizer = filepath.Join(dir, modelDir)
	}
	if opt.Labels != nil {
		return nil, fault.New(fault.Usage, "%s: a run has its labels, %s; others cannot be given", dir, strings.Join(c.Labels, ","))
	}
	if c.Tokenizer, err = text.Load(opt.Tokenizer); err != nil {
		return nil, err
	}
	return c, checkVocabulary(c.Tokenizer, c.Config, opt.Tokenizer, nil)
}

// openWeights opens the checkpoint of a run that opt asks for.
func openWeights(dir string, opt OpenOptions) (*checkpoint, error) {
	folder := filepath.Join(dir, checkpointDir)
	switch opt.Checkpoint {
	case "", "best":
		c, err := openCheckpoint(osDisk{}, filepath.Join(folder, bestName))
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && opt.Notice != nil {
			opt.Notice(err.Error() + "; using the last checkpoint")
		}
	case "last":
	default:
		path := opt.Checkpoint // as it is named in messages, or from the working directory
		if _, err := os.Stat(path); err != nil {
			if inRun := filepath.Join(dir, path); !filepath.IsAbs(path) {
				if _, err := os.Stat(inRun); err == nil {
					path = inRun
				}
			}
		}
		return openCheckpoint(osDisk{}, path)
	}
	c, _, err := newest(osDisk{}, folder, opt.Notice)
	if err == nil && c == nil {
		return nil, fault.New(fault.Missing, "%s: no checkpoint yet", dir)
	}
	return c, err
}

func openONNX(path string, opt OpenOptions) (*Trained, error) {
	g, err := importGraph(path)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	c := &Trained{Path: path, Import: path, Source: path, Config: g.config, Task: config.Default().Task, Labels: opt.Labels}
	c.Task.MaxLength = min(c.Task.MaxLength, g.config.MaxTokens())
	c.Task.MaxLength = min(c.Task.MaxLength, c.Config.MaxTokens())
	c.Data = config.Default().Data
	c.Data.NextSentence = g.config.HasNSP
	n := c.Config.Classes
	if n == 0 && !g.config.HasMLM {
		return nil, fault.New(fault.Data, "%s: the model has no classifier and no masked-LM head", path)
	}
	if c.Labels == nil && n > 0 {
		c.Labels = headLabels(path, n)
	}
	if c.Labels == nil {
		for i := range n {
			c.Labels = append(c.Labels, strconv.Itoa(i))
		}
	}
	if len(c.Labels) != n {
		return nil, fault.New(fault.Data, "%s: %d labels for a classifier of %d", path, len(c.Labels), n)
	}
	if opt.Tokenizer == "" {
		opt.Tokenizer = filepath.Dir(path)
	}
	if c.Tokenizer, err = text.Load(opt.Tokenizer); err != nil {
		return nil, err
	}
	if err := checkVocabulary(c.Tokenizer, c.Config, opt.Tokenizer, opt.Notice); err != nil {
		return nil, err
	}
	c.Weights, err = g.load()
	return c, err
}

// Export writes the model to a new ONNX file: into the graph it was imported from, or, if
// there is none or it has no place for the heads, as a graph built whole (onnx.Build).
// opt is for the latter; asking for half precision where there is a graph is an error.
func (c *Trained) Export(path string, opt onnx.BuildOptions) (*onnx.Changes, error) {
	return exportModel(c.Import, c.Config, c.Weights, path, opt)
}

// MaskedLM reports whether the model predicts masked tokens and no labels.
func (c *Trained) MaskedLM() bool { return len(c.Labels) == 0 }

// classifies refuses a model without labels.
func (c *Trained) classifies() error {
	if c.MaskedLM() {
		return fault.New(fault.Data, "%s: is a masked LM, not a classifier: fine-tune its model first", c.Path)
	}
	return nil
}

// ReadOptions say how to read a file of examples.
type ReadOptions struct {
	Device    backend.Device
	Task      config.Task  // columns, maximum length
	BatchSize int          // sequences at a time; 0: 32
	Progress  func(Event)  // optional: *Evaluating
	Notice    func(string) // optional: what was mended on reading the file
}

// on puts the classifier on a device, sized for e, and gives each example's logits to
// each.
func (c *Trained) on(ctx context.Context, e *examples, opt ReadOptions, each func(int, []float32) error) error {
	if e.Len() == 0 {
		return nil
	}
	size := opt.BatchSize
	if size <= 0 {
		size = 32
	}
	rows, longest := 0, e.longest()
	for first := 0; first < e.Len(); first += size {
		rows = max(rows, e.Offsets[min(first+size, e.Len())]-e.Offsets[first])
	}
	m, err := bert.NewModel(opt.Device, c.Config, bert.Limits{Rows: max(rows, longest), Seqs: min(size, e.Len()), MaxLen: longest})
	if err != nil {
		return err
	}
	defer m.Free()
	if err := m.SetWeights(c.Weights); err != nil {
		return err
	}
	_, err = classify(ctx, m, bert.NewPacker(m.Limits()), e, nil, each, opt.Progress)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fault.New(fault.Interrupted, "%s: interrupted", c.Path)
	}
	return err
}

// Evaluate runs c over a labelled file. Every label of the file must be one of c's.
func (c *Trained) Evaluate(ctx context.Context, file string, opt ReadOptions) (*Evaluation, error) {
	start := time.Now()
	e, err := c.labelled(file, opt)
	if err != nil {
		return nil, err
	}
	counts := newConfusion(len(c.Labels))
	err = c.on(ctx, e, opt, func(i int, logits []float32) error {
		counts.add(int(e.Labels[i]), logits)
		return nil
	})
	if err != nil {
		return nil, err
	}
	result := counts.evaluation(c.Labels)
	if !finite(result.Loss) {
		return nil, fault.New(fault.Data, "%s: the mean loss on %s is %v", c.Source, file, result.Loss)
	}
	result.Tokens = e.tokens()
	result.Seconds = time.Since(start).Seconds()
	return &result, nil
}

// labelled reads a labelled file for c, one example at least.
func (c *Trained) labelled(file string, opt ReadOptions) (*examples, error) {
	if err := c.classifies(); err != nil {
		return nil, err
	}
	labels, err := text.NewLabels(c.Labels)
	if err != nil {
		return nil, fault.In(c.Path, err)
	}
	e, _, err := readExamples(file, opt.Task, labels, c.Tokenizer, c.Config, opt.Notice)
	if err != nil {
		return nil, err
	}
	if e.Len() == 0 {
		return nil, fault.New(fault.Data, "%s: no examples", file)
	}
	return e, nil
}

// Prediction is one line of Predict's output.
type Prediction struct {
	Index         int                `json:"index"` // from 0
	Line          int                `json:"line"`  // of the file, from 1
	Text          string             `json:"text"`
	TextPair      string             `json:"text_pair,omitempty"`
	Label         string             `json:"label"`
	Probability   float64            `json:"probability"` // of Label
	Probabilities map[string]float64 `json:"probabilities"`
}

// Predict writes one JSON object a line for each example of file, in its order, as
// the batches are done, and returns how many. Labels in the file are not read.
func (c *Trained) Predict(ctx context.Context, file string, out io.Writer, opt ReadOptions) (int, error) {
	if err := c.classifies(); err != nil {
		return 0, err
	}
	opt.Task.LabelColumn = ""
	e, data, err := readExamples(file, opt.Task, nil, c.Tokenizer, c.Config, opt.Notice)
	if err != nil {
		return 0, err
	}
	encoder, n := json.NewEncoder(out), 0
	encoder.SetEscapeHTML(false)
	err = c.predict(ctx, e, data, opt, func(p Prediction) error {
		if err := encoder.Encode(p); err != nil {
			return fault.New(fault.IO, "writing predictions: %w", err)
		}
		n++
		return nil
	})
	return n, err
}

// PredictTexts is Predict for examples given in memory; pairs may be nil.
func (c *Trained) PredictTexts(ctx context.Context, texts, pairs []string, opt ReadOptions) ([]Prediction, error) {
	if err := c.classifies(); err != nil {
		return nil, err
	}
	data := &text.Dataset{Path: "texts", Pairs: pairs != nil}
	for i, a := range texts {
		x := text.Example{A: a, Label: -1, Line: i + 1}
		if pairs != nil {
			x.B = pairs[i]
		}
		data.Examples = append(data.Examples, x)
	}
	if err := checkLength(opt.Task, c.Config); err != nil {
		return nil, err
	}
	var list []Prediction
	err := c.predict(ctx, encode(data, opt.Task, c.Tokenizer, c.Config), data, opt, func(p Prediction) error {
		list = append(list, p)
		return nil
	})
	return list, err
}

func (c *Trained) predict(ctx context.Context, e *examples, data *text.Dataset, opt ReadOptions, each func(Prediction) error) error {
	probabilities := make([]float64, len(c.Labels))
	return c.on(ctx, e, opt, func(i int, logits []float32) error {
		softmax(probabilities, logits)
		best := argmax(logits)
		if !finite(probabilities[best]) {
			return fault.New(fault.Data, "%s: line %d: %s gives a probability that is not a number", data.Path, data.Examples[i].Line, c.Source)
		}
		p := Prediction{
			Index: i, Line: data.Examples[i].Line, Text: data.Examples[i].A, TextPair: data.Examples[i].B,
			Label: c.Labels[best], Probability: probabilities[best], Probabilities: make(map[string]float64, len(c.Labels)),
		}
		for k, name := range c.Labels {
			p.Probabilities[name] = probabilities[k]
		}
		return each(p)
	})
}
