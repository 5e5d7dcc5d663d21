// Package orttest checks an ONNX file with ONNX Runtime, by scripts/ort, in tests.
package orttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sift/verify/cases"
)

// Case and Expected are those of package cases.
type (
	Case     = cases.Case
	Expected = cases.Expected
)

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
func Check(t testing.TB, path string, atol, rtol float64, list []Case) []Result {
	t.Helper()
	results, err := Run(Require(t), t.TempDir(), []Job{{path, atol, rtol, list}})
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
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return cases.Write(f, j.Atol, j.Rtol, j.Cases)
}
