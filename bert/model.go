package bert

import (
	"sift/backend"
	"sift/fault"
)

// Objective says which losses are trained. Their sum is the loss of a step.
type Objective struct{ MLM, NSP, Classification bool }

// Model holds the parameters of a Config on a device, their gradients, and what is
// needed to run it forward. Training memory belongs to workspaces (NewWorkspace).
// A Model is used by one goroutine at a time.
type Model struct {
	cfg    Config
	limits Limits
	params []Param
}

// NewModel allocates a model whose parameters are all zero. No batch given to it, or to
// a workspace of it, may exceed limits. The objective is classification if cfg has
// classes, else masked LM and next sentence as far as cfg has those heads.
func NewModel(dev backend.Device, cfg Config, limits Limits) (*Model, error) {
	return nil, fault.New(fault.Internal, "bert: not written yet")
}

// Config returns the configuration; Limits what memory was sized for.
func (m *Model) Config() Config { return m.cfg }

// Limits returns the limits given to NewModel.
func (m *Model) Limits() Limits { return m.limits }

// Params lists the parameters in the order of the flat buffers.
func (m *Model) Params() []Param { return m.params }

// Parameters returns the flat buffer [1,FlatLen] of all parameters.
func (m *Model) Parameters() backend.Tensor { return backend.Tensor{} }

// Grads returns the flat buffer of all gradients, laid out as Parameters. Backward adds
// to it; the optimiser's step zeroes what it reads. Where a parameter is not trainable
// it stays zero.
func (m *Model) Grads() backend.Tensor { return backend.Tensor{} }

// Stream returns the stream that all of the model's work goes through.
func (m *Model) Stream() *backend.Stream { return nil }

// MemoryBytes returns the device memory held: parameters, gradients and workspaces.
func (m *Model) MemoryBytes() int64 { return 0 }

// Init draws fresh parameters, as InitMissing does for all of them.
func (m *Model) Init(seed uint64) error { return nil }

// SetWeights uploads all parameters; w must pass Check.
func (m *Model) SetWeights(w Weights) error { return nil }

// Weights downloads all parameters.
func (m *Model) Weights() (Weights, error) { return nil, nil }

// Gradients downloads the gradients of all trainable parameters.
func (m *Model) Gradients() (Weights, error) { return nil, nil }

// ZeroGrads sets all gradients to 0.
func (m *Model) ZeroGrads() {}

// SetObjective chooses the losses. Parameters of heads that no chosen loss reads are
// not trainable.
func (m *Model) SetObjective(o Objective) error { return nil }

// Objective returns the chosen losses.
func (m *Model) Objective() Objective { return Objective{} }

// FreezeLayers freezes the lowest part of the trunk: -1 nothing, 0 the embeddings,
// n the embeddings and n layers. Backward stops above it. A decoder tied to frozen word
// embeddings is frozen with them.
func (m *Model) FreezeLayers(n int) error { return nil }

// SetTrainable freezes each parameter for which f is false. Query, key and value of a
// layer go together. It replaces what FreezeLayers set.
func (m *Model) SetTrainable(f func(Param) bool) error { return nil }

// Trainable reports whether parameter i of Params receives a gradient.
func (m *Model) Trainable(i int) bool { return false }

// Classify runs b without dropout and returns the logits [S,Classes] of the classifier
// in dst[:0], which is grown if it is too short.
func (m *Model) Classify(b *Batch, dst []float32) ([]float32, error) { return nil, nil }

// Hidden returns the representation [T,Hidden] after layer (0: the embeddings).
func (m *Model) Hidden(b *Batch, layer int, dst []float32) ([]float32, error) { return nil, nil }

// Pooled returns tanh(pooler(h_CLS)), [S,Hidden].
func (m *Model) Pooled(b *Batch, dst []float32) ([]float32, error) { return nil, nil }

// MLMLogits returns the masked-LM logits [len(rows),Vocab] of the given rows.
func (m *Model) MLMLogits(b *Batch, rows []int32, dst []float32) ([]float32, error) { return nil, nil }

// NSPLogits returns the next-sentence logits [S,2].
func (m *Model) NSPLogits(b *Batch, dst []float32) ([]float32, error) { return nil, nil }
