// Package orttest checks an ONNX file with ONNX Runtime, by scripts/ort, in tests.
package orttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sift/onnx"
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

// Result is what the check says of a case.
type Result struct {
	Case    string
	OK      bool
	Outputs map[string]struct {
		Elements int     `json:"elements"`
		MaxAbs   float64 `json:"max_abs"`
		MaxRel   float64 `json:"max_rel"`
		Bad      int     `json:"bad"`
		Cause    string  `json:"cause"`
	}
}

// Require returns the directory of the check, or skips the test with the reason why it
// cannot be run. With SIFT_REQUIRE_ORT=1 that is a failure.
func Require(t testing.TB) string {
	t.Helper()
	dir, err := locate()
	if err == nil {
		return dir
	}
	if os.Getenv("SIFT_REQUIRE_ORT") == "1" {
		t.Fatalf("ONNX Runtime is required: %v", err)
	}
	t.Skipf("no check with ONNX Runtime: %v", err)
	return ""
}

func locate() (string, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", errors.New("node is not installed")
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("no go.mod above the test's directory")
	}
	dir = filepath.Join(dir, "scripts", "ort")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "onnxruntime-node")); err != nil {
		return "", errors.New("onnxruntime-node is not installed: run npm ci --ignore-scripts in scripts/ort")
	}
	return dir, nil
}

// Check runs the model at path on the cases in ONNX Runtime and fails the test for each
// output that differs by more than atol + rtol times its expected value.
func Check(t testing.TB, path string, atol, rtol float64, cases []Case) []Result {
	t.Helper()
	results, err := Run(Require(t), path, filepath.Join(t.TempDir(), "cases.json"), atol, rtol, cases)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		for name, o := range r.Outputs {
			if o.Bad > 0 {
				t.Errorf("%s: %s: output %s: %d of %d elements differ in ONNX Runtime, by up to %g: %s",
					filepath.Base(path), r.Case, name, o.Bad, o.Elements, o.MaxAbs, o.Cause)
			}
		}
	}
	return results
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

// Run runs the check in dir with its cases written to file. A difference is no error.
func Run(dir, model, file string, atol, rtol float64, cases []Case) ([]Result, error) {
	list := []jsonCase{}
	for _, c := range cases {
		j := jsonCase{c.Name, map[string]jsonTensor{}, map[string]jsonTensor{}}
		for name, in := range c.Inputs {
			j.Inputs[name] = jsonTensor{Type: typeName(in.DType), Dims: in.Dims, Data: values(in, nil)}
		}
		for name, out := range c.Outputs {
			j.Outputs[name] = jsonTensor{Dims: out.Dims, Data: values(out.Tensor, out.Rows), Rows: out.Rows}
		}
		list = append(list, j)
	}
	data, err := json.Marshal(map[string]any{"atol": atol, "rtol": rtol, "cases": list})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	if model, err = filepath.Abs(model); err != nil {
		return nil, err
	}
	cmd := exec.Command("node", "check.mjs", model, file)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return nil, fmt.Errorf("node check.mjs: %v: %s", err, stderr.String())
	}
	results := []Result{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var r Result
		if err := d.Decode(&r); err != nil {
			return nil, fmt.Errorf("node check.mjs: %v: %s", err, out)
		}
		results = append(results, r)
	}
	if len(results) != len(cases) {
		return nil, fmt.Errorf("node check.mjs: %d results for %d cases", len(results), len(cases))
	}
	return results, nil
}

func typeName(d onnx.DataType) string { return d.String() }

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
