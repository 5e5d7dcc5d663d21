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
	results, err := Run(Require(t), t.TempDir(), []Job{{path, atol, rtol, cases}})
	if err != nil {
		t.Fatal(err)
	}
	Report(t, path, results[0])
	return results[0]
}

// Report fails the test for each output that differs.
func Report(t testing.TB, path string, results []Result) {
	t.Helper()
	for _, r := range results {
		for name, o := range r.Outputs {
			if o.Bad > 0 {
				t.Errorf("%s: %s: output %s: %d of %d elements differ in ONNX Runtime, by up to %g: %s",
					filepath.Base(path), r.Case, name, o.Bad, o.Elements, o.MaxAbs, o.Cause)
			}
		}
	}
}

// Job is a model with its cases and tolerances.
type Job struct {
	Model      string
	Atol, Rtol float64
	Cases      []Case
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

// Run runs the check in dir on several models in one process, with files in temp, and
// returns the results of each job's cases. A difference is no error.
func Run(dir, temp string, jobs []Job) ([][]Result, error) {
	args := []string{"check.mjs"}
	for i, j := range jobs {
		model, err := filepath.Abs(j.Model)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(temp, fmt.Sprintf("cases-%d.json", i))
		if err := j.write(file); err != nil {
			return nil, err
		}
		args = append(args, model, file)
	}
	cmd := exec.Command("node", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return nil, fmt.Errorf("node check.mjs: %v: %s", err, stderr.String())
	}
	d := json.NewDecoder(bytes.NewReader(out))
	all := [][]Result{}
	for _, j := range jobs {
		list := []Result{}
		for range j.Cases {
			var r Result
			if err := d.Decode(&r); err != nil {
				return nil, fmt.Errorf("node check.mjs: %v in %s", err, out)
			}
			list = append(list, r)
		}
		all = append(all, list)
	}
	return all, nil
}

// write writes the cases as check.mjs reads them.
func (j Job) write(file string) error {
	list := []jsonCase{}
	for _, c := range j.Cases {
		x := jsonCase{c.Name, map[string]jsonTensor{}, map[string]jsonTensor{}}
		for name, in := range c.Inputs {
			x.Inputs[name] = jsonTensor{Type: in.DType.String(), Dims: in.Dims, Data: values(in, nil)}
		}
		for name, out := range c.Outputs {
			x.Outputs[name] = jsonTensor{Dims: out.Dims, Data: values(out.Tensor, out.Rows), Rows: out.Rows}
		}
		list = append(list, x)
	}
	data, err := json.Marshal(map[string]any{"atol": j.Atol, "rtol": j.Rtol, "cases": list})
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
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
