package onnx

import (
	"sift/bert"
	"sift/fault"
)

// Changes says what a written file has that the imported one had not.
type Changes struct {
	Patched   []string // initializers whose payload differs
	Added     []string // new initializers: untied parameters, and those of a new head
	Nodes     []string // outputs of new nodes
	Outputs   []string // new graph outputs
	DataFiles []string // external data files written beside the model
}

// Store writes the model to path with the weights w: payloads are patched in place and
// every other byte stays. Weights equal to those in the file leave its bytes alone.
func Store(m *Match, w bert.Weights, path string) (*Changes, error) {
	return nil, fault.New(fault.Internal, "store: not written yet")
}

// Export is Store with, where cfg has a classifier and the graph none, a grafted one.
func Export(m *Match, cfg bert.Config, w bert.Weights, path string) (*Changes, error) {
	return nil, fault.New(fault.Internal, "export: not written yet")
}
