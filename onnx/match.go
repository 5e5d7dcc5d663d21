package onnx

import (
	"sift/bert"
	"sift/fault"
)

// Match is what was recognised in a graph: the configuration, and where each parameter is.
type Match struct {
	File         *File
	Config       bert.Config
	Architecture string    // as Hugging Face names it: BertForPreTraining, BertModel, ...
	Roles        []Binding // in the order of bert.Params, then a copied decoder
	TiedDecoder  bool      // the masked-LM decoder is the word embedding, or an equal copy of it
	Inputs       Inputs
	Outputs      []Output // in the file's order
	Unrecognised []*Node  // nodes that no recognised output depends on
	// AllowNonFinite makes Load accept weights that are NaN or infinite.
	AllowNonFinite bool

	byRole map[string][]int // indices into Roles
	trunk  string           // the value after the last layer
	pooled string           // the value after the pooler, "" if there is none
}

// Inputs names the graph's inputs; Mask and Types are empty where the graph has none.
type Inputs struct{ IDs, Mask, Types string }

// Output is a graph output. Kind is "hidden" (after layer Layer), "pooled", "mlm", "nsp",
// "logits" (sequence classification), "token", "qa", or "other" if not recognised.
type Output struct {
	Name, Kind string
	Layer      int
}

// Binding says which tensor of the file holds a parameter.
type Binding struct {
	Role        string
	Initializer string // its name, or the output of the Constant node that holds it
	Shape       []int  // of the parameter: [out,in], or [n] for vectors
	Transposed  bool   // stored [in,out]
	DType       DataType
	Copy        bool // a second copy of a parameter that is bound already (a tied decoder written twice)
	Slice       *Slice

	tensor *TensorRef
	repeat int   // the file holds this many equal copies of a one-row table, 0 if not
	uses   []use // where the graph reads it
}

// Slice says that a parameter is columns [Start, Start+Len) of the stored matrix [in,out],
// or elements [Start, Start+Len) of the stored vector.
type Slice struct{ Start, Len int }

// use is one input of one node.
type use struct{ node, input int }

// Match recognises a BERT-family encoder by the shape of its graph; names play no part.
// An error names the first node that did not fit, what was expected and what was found.
func Recognise(f *File) (*Match, error) {
	return nil, inFile(f.Path, fault.New(fault.Data, "not recognised"))
}
