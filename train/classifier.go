package train

import (
	"context"
	"io"

	"sift/backend"
	"sift/config"
	"sift/fault"
)

// Classifier is a trained model with all that is needed to use it: from a run
// directory, or from an ONNX file with its tokenizer and label names beside it.
type Classifier struct {
	Path   string      // the run directory or the ONNX file
	Import string      // the ONNX file the weights were imported from: what an export grafts onto
	Labels []string    // by class
	Task   config.Task // columns and maximum length
	Run    string      // the run directory, empty for an ONNX file
	Update int         // the update the weights are from
	Source string      // the checkpoint file the weights are from, or the ONNX file
}

// OpenOptions say what to read.
type OpenOptions struct {
	Checkpoint string       // of a run: "best" (the default; the last where nothing was evaluated), "last", or a file
	Tokenizer  string       // default: the run's, or beside the ONNX file
	Labels     []string     // default: the run's, or id2label of config.json beside the ONNX file, or 0, 1, ...
	Notice     func(string) // optional: told of a damaged checkpoint that was passed over
}

// Open reads a run directory or an ONNX file.
func Open(path string, opt OpenOptions) (*Classifier, error) {
	return nil, fault.New(fault.Internal, "train: not written yet")
}

// OpenRun is Open for a run directory, its best checkpoint.
func OpenRun(dir string) (*Classifier, error) { return Open(dir, OpenOptions{}) }

// ReadOptions say how to read a file of examples.
type ReadOptions struct {
	Device    backend.Device
	Task      config.Task // columns, maximum length
	BatchSize int         // sequences at a time; 0: 32
	Progress  func(Event) // optional: *Evaluating
}

// Evaluate runs c over a labelled file.
func (c *Classifier) Evaluate(ctx context.Context, file string, opt ReadOptions) (*Evaluation, error) {
	return nil, fault.New(fault.Internal, "train: not written yet")
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
// the batches are done.
func (c *Classifier) Predict(ctx context.Context, file string, out io.Writer, opt ReadOptions) (int, error) {
	return 0, fault.New(fault.Internal, "train: not written yet")
}

// PredictTexts is Predict for examples given in memory; pairs may be nil.
func (c *Classifier) PredictTexts(ctx context.Context, texts, pairs []string, opt ReadOptions) ([]Prediction, error) {
	return nil, fault.New(fault.Internal, "train: not written yet")
}
