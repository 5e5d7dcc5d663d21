// Package cases writes the files that scripts/ort/check.mjs reads: inputs of an ONNX
// model, and the outputs that ONNX Runtime must give for them.
package cases

import (
	"encoding/json"
	"io"
	"math"

	"sift/onnx/eval"
)

// Case is one batch: inputs and the outputs that ONNX Runtime must give for them.
type Case struct {
	Name    string
	Inputs  map[string]*eval.Tensor
	Outputs map[string]Expected
}

// Expected is an output. If Rows is set, only these rows of it, seen as rows of its
// last axis, are compared: the others belong to padding.
type Expected struct {
	*eval.Tensor
	Rows []int
}

// jsonTensor is a tensor as check.mjs reads it.
type jsonTensor struct {
	Type string `json:"type,omitempty"`
	Dims []int  `json:"dims"`
	Data []any  `json:"data"`
	Rows []int  `json:"rows,omitempty"`
}

type jsonCase struct {
	Name    string                `json:"name"`
	Inputs  map[string]jsonTensor `json:"inputs"`
	Outputs map[string]jsonTensor `json:"outputs"`
}

// Write writes cases with the tolerance that they are held to: an element agrees if it
// differs by at most atol + rtol times its expected value.
func Write(w io.Writer, atol, rtol float64, cases []Case) error {
	list := []jsonCase{}
	for _, c := range cases {
		x := jsonCase{c.Name, map[string]jsonTensor{}, map[string]jsonTensor{}}
		for name, in := range c.Inputs {
			x.Inputs[name] = jsonTensor{Type: in.DType.String(), Dims: in.Dims, Data: values(in, nil)}
		}
		for name, out := range c.Outputs {
			x.Outputs[name] = jsonTensor{Dims: out.Dims, Data: values(out.Tensor, out.Rows), Rows: out.Rows}
		}
		list = append(list, x)
	}
	return json.NewEncoder(w).Encode(map[string]any{"atol": atol, "rtol": rtol, "cases": list})
}

// values lists the elements, of the given rows or all; JSON has no NaN and infinity.
func values(t *eval.Tensor, rows []int) []any {
	list := []any{}
	add := func(i int) {
		switch {
		case !t.IsFloat():
			list = append(list, t.I[i])
		case math.IsNaN(t.F[i]):
			list = append(list, "NaN")
		case math.IsInf(t.F[i], 1):
			list = append(list, "Infinity")
		case math.IsInf(t.F[i], -1):
			list = append(list, "-Infinity")
		default:
			list = append(list, t.F[i])
		}
	}
	if rows == nil {
		for i := range t.Len() {
			add(i)
		}
		return list
	}
	width := t.Dims[len(t.Dims)-1]
	for _, r := range rows {
		for i := range width {
			add(r*width + i)
		}
	}
	return list
}
