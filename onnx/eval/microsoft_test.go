package eval_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"sift/onnx"
	"sift/onnx/eval"
	"sift/verify/orttest"
)

// normal draws a tensor of standard normal float32 values.
func normal(rng *rand.Rand, dims ...int) *eval.Tensor {
	n := 1
	for _, d := range dims {
		n *= d
	}
	data := make([]float64, n)
	for i := range data {
		data[i] = float64(float32(rng.NormFloat64()))
	}
	return eval.Floats(data, dims...)
}

func int32s(data []int64, dims ...int) *eval.Tensor {
	return &eval.Tensor{DType: onnx.Int32, Dims: dims, I: data}
}

// fused is a node of domain com.microsoft with inputs; nil is an omitted one.
type fused struct {
	name, domain, op string
	attrs            map[string]any
	in               []*eval.Tensor
	outputs          int
}

func fusedCases() []fused {
	rng := rand.New(rand.NewPCG(3, 4))
	const ms = "com.microsoft"
	x := normal(rng, 2, 5, 8)
	mask := int32s([]int64{1, 1, 1, 1, 1, 1, 0, 1, 0, 0}, 2, 5)
	ids := int32s([]int64{3, 1, 4, 1, 5, 9, 2, 6, 5, 0}, 2, 5)
	types := int32s([]int64{0, 0, 1, 1, 1, 0, 1, 1, 0, 0}, 2, 5)
	heads := map[string]any{"num_heads": 2}
	w, b := normal(rng, 8, 24), normal(rng, 24)
	return []fused{
		{"gelu", ms, "Gelu", nil, []*eval.Tensor{x}, 1},
		{"bias gelu", ms, "BiasGelu", nil, []*eval.Tensor{x, normal(rng, 8)}, 1},
		{"fast gelu", ms, "FastGelu", nil, []*eval.Tensor{x}, 1},
		{"fast gelu with bias", ms, "FastGelu", nil, []*eval.Tensor{x, normal(rng, 8)}, 1},
		{"quick gelu", ms, "QuickGelu", map[string]any{"alpha": 1.5}, []*eval.Tensor{x}, 1},
		{"fused matmul", ms, "FusedMatMul", map[string]any{"transB": 1, "alpha": 0.25}, []*eval.Tensor{x, normal(rng, 2, 3, 8)}, 1},
		{"fused matmul, left transposed", ms, "FusedMatMul", map[string]any{"transA": 1}, []*eval.Tensor{x, normal(rng, 2, 5, 3)}, 1},
		{"fused gemm", ms, "FusedGemm", map[string]any{"activation": "Tanh", "transB": 1},
			[]*eval.Tensor{normal(rng, 3, 8), normal(rng, 4, 8), normal(rng, 4)}, 1},
		{"skip layer norm", ms, "SkipLayerNormalization", map[string]any{"epsilon": 1e-5},
			[]*eval.Tensor{x, normal(rng, 2, 5, 8), normal(rng, 8), normal(rng, 8), normal(rng, 8)}, 1},
		{"embed layer norm", ms, "EmbedLayerNormalization", map[string]any{"epsilon": 1e-12},
			[]*eval.Tensor{ids, types, normal(rng, 10, 8), normal(rng, 6, 8), normal(rng, 2, 8), normal(rng, 8), normal(rng, 8), mask}, 2},
		{"embed layer norm without types", ms, "EmbedLayerNormalization", nil,
			[]*eval.Tensor{ids, nil, normal(rng, 10, 8), normal(rng, 6, 8), nil, normal(rng, 8), normal(rng, 8)}, 2},
		{"attention", ms, "Attention", heads, []*eval.Tensor{x, w, b}, 1},
		{"attention with a mask", ms, "Attention", heads, []*eval.Tensor{x, w, b, mask}, 1},
		{"attention with lengths", ms, "Attention", heads, []*eval.Tensor{x, w, b, int32s([]int64{5, 3}, 2)}, 1},
		{"attention with its own mask value and scale", ms, "Attention",
			map[string]any{"num_heads": 4, "mask_filter_value": -1.5, "scale": 0.3}, []*eval.Tensor{x, w, b, mask}, 1},
		{"attention, causal", ms, "Attention", map[string]any{"num_heads": 2, "unidirectional": 1}, []*eval.Tensor{x, w, b}, 1},
		{"multi-head attention", ms, "MultiHeadAttention", heads, []*eval.Tensor{x, normal(rng, 2, 4, 8), normal(rng, 2, 4, 8)}, 1},
		{"multi-head attention with bias and mask", ms, "MultiHeadAttention", heads,
			[]*eval.Tensor{x, normal(rng, 2, 5, 8), normal(rng, 2, 5, 8), b, mask}, 1},
		{"layer norm", "", "LayerNormalization", map[string]any{"axis": -1, "epsilon": 1e-5}, []*eval.Tensor{x, normal(rng, 8), normal(rng, 8)}, 1},
		{"gelu, tanh", "", "Gelu", map[string]any{"approximate": "tanh"}, []*eval.Tensor{x}, 1},
		{"softmax", "", "Softmax", map[string]any{"axis": 1}, []*eval.Tensor{x}, 1},
		{"log softmax", "", "LogSoftmax", nil, []*eval.Tensor{x}, 1},
	}
}

// build writes a model of the one node and returns its path and inputs.
func (f fused) build(t *testing.T) (string, *eval.Graph, map[string]*eval.Tensor) {
	inputs, names, outputs, feed := []eval.Input{}, []string{}, []string{}, map[string]*eval.Tensor{}
	for i, x := range f.in {
		name := ""
		if x != nil {
			name = string(rune('a' + i))
			inputs = append(inputs, eval.NewInput(x, name))
			feed[name] = x
		}
		names = append(names, name)
	}
	for i := range f.outputs {
		outputs = append(outputs, "out"+string(rune('0'+i)))
	}
	m := eval.BuildModel(20, []eval.Node{eval.NewNode(f.domain, f.op, f.attrs, names, outputs)}, inputs, outputs)
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, m, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, eval.OpenModel(t, m), feed
}

// TestFusedInONNXRuntime holds the operators of ONNX Runtime's own domain, and a few
// others, against ONNX Runtime.
func TestFusedInONNXRuntime(t *testing.T) {
	dir := orttest.Require(t)
	jobs := []orttest.Job{}
	for _, f := range fusedCases() {
		path, g, feed := f.build(t)
		got, err := g.Run(feed)
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		want := map[string]orttest.Expected{}
		for name, y := range got {
			want[name] = orttest.Expected{Tensor: y}
		}
		jobs = append(jobs, orttest.Job{Model: path, Atol: 1e-5, Rtol: 1e-5, Cases: []orttest.Case{{Name: f.name, Inputs: feed, Outputs: want}}})
	}
	results, err := orttest.Run(dir, t.TempDir(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range jobs {
		orttest.Report(t, j.Model, results[i])
	}
}

// TestAttentionByHand checks the fused attention where the answer is plain: with zero
// queries every allowed key weighs the same.
func TestAttentionByHand(t *testing.T) {
	x := eval.Floats([]float64{1, 2, 3}, 1, 3, 1)
	w := eval.Floats([]float64{0, 1, 1}, 1, 3) // query 0, key x, value x
	f := fused{"", "com.microsoft", "Attention", map[string]any{"num_heads": 1},
		[]*eval.Tensor{x, w, eval.Floats([]float64{0, 0, 0}, 3), int32s([]int64{1, 0, 1}, 1, 3)}, 1}
	_, g, feed := f.build(t)
	got, err := g.Run(feed)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got["out0"].F {
		if math.Abs(v-2) > 1e-12 { // the mean of 1 and 3
			t.Errorf("row %d: %g, want 2", i, v)
		}
	}
}
