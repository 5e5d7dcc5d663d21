package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sift/backend"
	"sift/bert"
	"sift/onnx"
)

// openModel opens and recognises an ONNX file; the caller closes the file. Its weights may
// be NaN or infinite only if nonFinite says so.
func openModel(path string, nonFinite bool) (*onnx.File, *onnx.Match, error) {
	f, err := onnx.Open(path)
	if err != nil {
		return nil, nil, err
	}
	m, err := onnx.Recognise(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	m.AllowNonFinite = nonFinite
	return f, m, nil
}

func inspectCommand(t *terminal) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:     "inspect MODEL.onnx",
		GroupID: groupModel,
		Short:   "Show what is recognised in an ONNX file, and which tensor holds what.",
		Long: `Show the model recognised in an ONNX file: its sizes and heads, which initializer holds each
parameter and whether it is stored transposed, and what in the graph was not recognised. Names in the
file play no part in this; positions in the graph do.`,
		Example: `  sift inspect model.onnx
  sift inspect model.onnx --json`,
		Args: arguments(1, 1, "one ONNX file"),
	}
	cmd.Flags().BoolVar(&verbose, "all", false, "list every parameter, not only the first layer's")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		f, m, err := openModel(args[0], false)
		if err != nil {
			return err
		}
		defer f.Close()
		report, err := describe(m)
		if err != nil {
			return err
		}
		if t.json {
			return t.object(report)
		}
		return report.print(t, verbose)
	}
	return cmd
}

// A description is what sift inspect prints.
type description struct {
	File         string           `json:"file"`
	Bytes        int64            `json:"bytes"`
	Producer     string           `json:"producer"`
	Opset        int64            `json:"opset"`
	Architecture string           `json:"architecture"`
	Layers       int              `json:"layers"`
	Hidden       int              `json:"hidden"`
	Heads        int              `json:"heads"`
	Intermediate int              `json:"intermediate"`
	Vocab        int              `json:"vocab"`
	Positions    int              `json:"positions"`
	TypeVocab    int              `json:"type_vocab"`
	Activation   string           `json:"activation"`
	Epsilon      float64          `json:"epsilon"`
	Parameters   int              `json:"parameters"`
	HeadsFound   []string         `json:"heads_found"`
	TiedDecoder  bool             `json:"tied_decoder"`
	Classes      int              `json:"classes,omitempty"`
	TokenClasses int              `json:"token_classes,omitempty"`
	Inputs       []describedValue `json:"inputs"`
	Outputs      []describedValue `json:"outputs"`
	Coverage     []describedRole  `json:"coverage"`
	Unused       []string         `json:"initializers_not_used"`
	Unrecognised []describedNode  `json:"unrecognised"`
}

type describedValue struct {
	Name  string   `json:"name"`
	Kind  string   `json:"kind"`
	Shape []string `json:"shape"`
}

type describedRole struct {
	Role        string `json:"role"`
	Initializer string `json:"initializer"`
	Shape       []int  `json:"shape"`
	Transposed  bool   `json:"transposed"`
	DType       string `json:"dtype"`
	Copy        bool   `json:"copy,omitempty"`
}

type describedNode struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	Op    string `json:"op"`
}

func activationName(a backend.Activation) string {
	if a == backend.GeluTanh {
		return "gelu_tanh"
	}
	return "gelu"
}

func describe(m *onnx.Match) (*description, error) {
	c, f := m.Config, m.File
	d := &description{
		File: f.Path, Bytes: f.Size, Producer: f.Producer, Opset: f.Opset(),
		Architecture: m.Architecture, Layers: c.Layers, Hidden: c.Hidden, Heads: c.Heads, Intermediate: c.Intermediate,
		Vocab: c.Vocab, Positions: c.Positions, TypeVocab: c.TypeVocab, Activation: activationName(c.Activation), Epsilon: c.Eps,
		HeadsFound: m.HeadsFound(), TiedDecoder: m.TiedDecoder, Classes: c.Classes, TokenClasses: c.TokenClasses,
		Coverage: []describedRole{}, Unused: []string{}, Unrecognised: []describedNode{},
	}
	params, err := bert.Params(c)
	if err != nil {
		return nil, err
	}
	for _, p := range params {
		d.Parameters += p.Len()
	}
	used := map[string]bool{}
	for _, b := range m.Roles {
		used[b.Initializer] = true
		d.Coverage = append(d.Coverage, describedRole{b.Role, b.Initializer, b.Shape, b.Transposed, b.DType.String(), b.Copy})
	}
	for _, t := range f.Initializers {
		// What is left over are mostly shape constants; tensors of weights stand out by their size.
		if !used[t.Name] && t.Len >= int64(c.Hidden) && t.DType.IsFloat() {
			d.Unused = append(d.Unused, t.Name)
		}
	}
	kinds := map[string]string{m.Inputs.IDs: "ids", m.Inputs.Mask: "mask", m.Inputs.Types: "types"}
	for _, v := range f.Inputs {
		if f.Initializer(v.Name) == nil {
			d.Inputs = append(d.Inputs, describedValue{v.Name, kinds[v.Name], dimensions(v)})
		}
	}
	kinds = map[string]string{}
	for _, o := range m.Outputs {
		kinds[o.Name] = o.Kind
	}
	for _, v := range f.Outputs {
		d.Outputs = append(d.Outputs, describedValue{v.Name, kinds[v.Name], dimensions(v)})
	}
	for _, n := range m.Unrecognised {
		d.Unrecognised = append(d.Unrecognised, describedNode{n.Index, n.Name, n.OpType})
	}
	return d, nil
}

func dimensions(v onnx.ValueInfo) []string {
	dims := []string{}
	for _, d := range v.Dims {
		dims = append(dims, d.String())
	}
	return dims
}

func (d *description) print(t *terminal, all bool) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", name, oneLine(fmt.Sprintf(format, args...)))
	}
	row("file", "%s (%d bytes, opset %d, written by %s)", d.File, d.Bytes, d.Opset, d.Producer)
	row("architecture", "%s", d.Architecture)
	row("sizes", "%d layers, hidden %d, %d heads, intermediate %d, %s", d.Layers, d.Hidden, d.Heads, d.Intermediate, d.Activation)
	row("tables", "%d tokens, %d positions, %d token types", d.Vocab, d.Positions, d.TypeVocab)
	row("parameters", "%d", d.Parameters)
	heads := strings.Join(d.HeadsFound, ", ")
	if heads == "" {
		heads = "none"
	}
	if d.TiedDecoder {
		heads += " (decoder tied to the word embeddings)"
	}
	row("heads", "%s", heads)
	for _, v := range d.Inputs {
		row("input", "%s [%s] %s", v.Name, strings.Join(v.Shape, ", "), v.Kind)
	}
	for _, v := range d.Outputs {
		row("output", "%s [%s] %s", v.Name, strings.Join(v.Shape, ", "), v.Kind)
	}
	b.WriteString("\ncoverage\n")
	hidden := 0
	for _, r := range d.Coverage {
		if !all && strings.HasPrefix(r.Role, "encoder.layer.") && !strings.HasPrefix(r.Role, "encoder.layer.0.") {
			hidden++
			continue
		}
		how := ""
		if r.Transposed {
			how += " stored transposed"
		}
		if r.Copy {
			how += " second copy"
		}
		fmt.Fprintf(&b, "  %-46s %-12s %-8s %s%s\n", r.Role, strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Shape), " ", "x"), "[]"), r.DType, oneLine(r.Initializer), how)
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "  ... and %d parameters of the other layers, all found (--all lists them)\n", hidden)
	}
	if len(d.Unused) > 0 {
		fmt.Fprintf(&b, "tensors of no role: %s\n", oneLine(strings.Join(d.Unused, ", ")))
	}
	if len(d.Unrecognised) == 0 {
		b.WriteString("every node of the graph was recognised\n")
	}
	for _, n := range d.Unrecognised {
		fmt.Fprintf(&b, "not recognised: node %d %s %q\n", n.Index, n.Op, oneLine(n.Name))
	}
	return t.print("%s", b.String())
}
