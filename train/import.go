package train

import (
	"sift/bert"
	"sift/fault"
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

// lacksHeads reports whether model has heads that cannot be added to a graph.
func lacksHeads(graph, model bert.Config) bool {
	return model.HasMLM && !graph.HasMLM || model.HasNSP && !graph.HasNSP
}

// exportModel writes a model to a new file out: into the graph of the file at path, with
// a classifier added if the graph lacks it; or as a graph built whole if there is no such
// file, or no place in it for the heads. Only a graph that is built can hold float16.
func exportModel(path string, model bert.Config, w bert.Weights, out string, opt onnx.BuildOptions) (*onnx.Changes, error) {
	if path == "" {
		return onnx.Build(model, w, out, opt)
	}
	g, err := importGraph(path)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	if lacksHeads(g.config, model) {
		return onnx.Build(model, w, out, opt)
	}
	if opt.Half {
		return nil, fault.New(fault.Usage, "%s: the weights go back into this graph, in the types it has; float16 is for models built whole", path)
	}
	return onnx.Export(g.match, model, w, out)
}
