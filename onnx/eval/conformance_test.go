package eval

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
	"sift/onnx"
)

// ONNX's own node cases, from Debian's package libonnx-testdata (ONNX 1.12).
const nodeCases = "/usr/share/libonnx-testdata/data/node"

// differences lists cases of supported operations that are not expected to pass.
var differences = map[string]string{
	"test_training_dropout":                    "training mode",
	"test_training_dropout_default":            "training mode",
	"test_training_dropout_default_mask":       "training mode",
	"test_training_dropout_mask":               "training mode",
	"test_cast_FLOAT_to_STRING":                "strings",
	"test_cast_STRING_to_FLOAT":                "strings",
	"test_castlike_FLOAT_to_STRING":            "strings",
	"test_castlike_FLOAT_to_STRING_expanded":   "strings",
	"test_castlike_STRING_to_FLOAT":            "strings",
	"test_castlike_STRING_to_FLOAT_expanded":   "strings",
	"test_cast_BFLOAT16_to_FLOAT":              "bfloat16 data stored as uint16",
	"test_cast_FLOAT_to_BFLOAT16":              "bfloat16 data stored as uint16",
	"test_castlike_BFLOAT16_to_FLOAT":          "bfloat16 data stored as uint16",
	"test_castlike_BFLOAT16_to_FLOAT_expanded": "bfloat16 data stored as uint16",
	"test_castlike_FLOAT_to_BFLOAT16":          "bfloat16 data stored as uint16",
	"test_castlike_FLOAT_to_BFLOAT16_expanded": "bfloat16 data stored as uint16",
	"test_blackmanwindow_expanded":             "expected values computed with 3.1415 for pi",
	"test_blackmanwindow_symmetric_expanded":   "expected values computed with 3.1415 for pi",
	"test_hammingwindow_expanded":              "expected values computed with 3.1415 for pi",
	"test_hammingwindow_symmetric_expanded":    "expected values computed with 3.1415 for pi",
	"test_hannwindow_expanded":                 "expected values computed with 3.1415 for pi",
	"test_hannwindow_symmetric_expanded":       "expected values computed with 3.1415 for pi",
	"test_einsum_batch_diagonal":               "an ellipsis",
	"test_identity_opt":                        "a value that is no tensor",
	"test_identity_sequence":                   "a value that is no tensor",
}

// TestNodeCases runs every node case whose operations are supported.
func TestNodeCases(t *testing.T) {
	dirs, _ := filepath.Glob(filepath.Join(nodeCases, "test_*"))
	if len(dirs) == 0 {
		if os.Getenv("SIFT_REQUIRE_ONNXDATA") == "1" {
			t.Fatal("the package libonnx-testdata is required: " + nodeCases + " has no cases")
		}
		t.Skip("the package libonnx-testdata is not installed: " + nodeCases + " has no cases")
	}
	passed, unsupported := 0, map[string]int{}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		why, err := runCase(t, dir)
		switch {
		case why != "":
			unsupported[why]++
		case differences[name] != "":
			if err == nil {
				t.Errorf("%s passes although it is listed as %s", name, differences[name])
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			passed++
		}
	}
	reasons := []string{}
	for why, n := range unsupported {
		reasons = append(reasons, fmt.Sprintf("%s %d", why, n))
	}
	slices.Sort(reasons)
	t.Logf("%d cases: %d pass, %d differ as listed; not run: %s", len(dirs), passed, len(differences), strings.Join(reasons, ", "))
	if passed < 550 {
		t.Errorf("only %d cases ran and passed", passed)
	}
}

// runCase returns why a case cannot be run, or the first difference.
func runCase(t *testing.T, dir string) (unsupported string, err error) {
	f, err := onnx.Open(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return "file: " + lastPart(err), nil
	}
	defer f.Close()
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if operators()[opName{n.Domain, n.OpType}] == nil {
			return n.OpType, nil
		}
	}
	g, err := New(f)
	if err != nil {
		return "graph: " + lastPart(err), nil
	}
	sets, _ := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	for _, set := range sets {
		inputs := map[string]*Tensor{}
		for i, v := range f.Inputs {
			if inputs[v.Name], err = readTensor(filepath.Join(set, fmt.Sprintf("input_%d.pb", i))); err != nil {
				return "", err
			}
		}
		got, err := g.Run(inputs)
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Errorf("%s: %v", dir, err)
			}
			return "", err
		}
		for i, v := range f.Outputs {
			want, err := readTensor(filepath.Join(set, fmt.Sprintf("output_%d.pb", i)))
			if err != nil {
				return "", err
			}
			if err := close32(got[v.Name], want); err != nil {
				return "", fmt.Errorf("output %s: %v", v.Name, err)
			}
		}
	}
	if len(sets) == 0 {
		return "", fmt.Errorf("no data")
	}
	return "", nil
}

func lastPart(err error) string {
	parts := strings.Split(err.Error(), ": ")
	return parts[len(parts)-1]
}

// close32 compares with values that were computed in the tensor's own precision.
func close32(got, want *Tensor) error {
	if got.DType != want.DType || !slices.Equal(got.Dims, want.Dims) {
		return fmt.Errorf("%v %v, want %v %v", got.DType, got.Dims, want.DType, want.Dims)
	}
	if !want.IsFloat() {
		if !slices.Equal(got.I, want.I) {
			return fmt.Errorf("%v, want %v", got.I, want.I)
		}
		return nil
	}
	rtol := 1e-5
	if want.DType == onnx.Float16 || want.DType == onnx.BFloat16 {
		rtol = 1e-2
	}
	for i, w := range want.F {
		v := got.F[i]
		if v == w || math.IsNaN(v) && math.IsNaN(w) {
			continue
		}
		if !(math.Abs(v-w) <= 1e-6+rtol*math.Abs(w)) {
			return fmt.Errorf("element %d is %g, want %g", i, v, w)
		}
	}
	return nil
}

// readTensor reads a TensorProto in a file of its own, by handing it to the file layer
// as an initializer of a small model.
func readTensor(path string) (*Tensor, error) {
	proto, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// The name must be one the test knows: a later field replaces an earlier one.
	proto = protowire.AppendTag(proto, 8, protowire.BytesType)
	proto = protowire.AppendString(proto, "value")
	m := model(17, []node{{op: "Identity", in: []string{"value"}, out: []string{"out"}}}, nil, []string{"out"}, proto)
	dir, err := os.MkdirTemp("", "eval")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "value.onnx")
	if err := os.WriteFile(file, m, 0o600); err != nil {
		return nil, err
	}
	f, err := onnx.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g, err := New(f)
	if err != nil {
		return nil, err
	}
	return g.read(f.Initializer("value"))
}
