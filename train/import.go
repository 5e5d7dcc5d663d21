package train

import (
	"sift/bert"
	"sift/onnx"
)

// graph is an imported ONNX file.
type graph struct {
	file   *onnx.File
	match  *onnx.Match
	config bert.Config
}

// importGraph opens and recognises an ONNX file.
func importGraph(path string) (*graph, error) {
	f, err := onnx.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := onnx.Recognise(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &graph{file: f, match: m, config: m.Config}, nil
}

// load reads the weights.
func (g *graph) load() (bert.Weights, error) { return onnx.Load(g.match) }

// Close releases the file.
func (g *graph) Close() { g.file.Close() }

// exportGraph writes the graph of the file at path with other weights, and with the
// heads that model has and the graph lacks, to a new file out. It returns the names of
// the data files written beside it.
func exportGraph(path string, model bert.Config, w bert.Weights, out string) ([]string, error) {
	g, err := importGraph(path)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	changes, err := onnx.Export(g.match, model, w, out)
	if err != nil {
		return nil, err
	}
	return changes.DataFiles, nil
}
