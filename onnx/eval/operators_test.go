package eval

import (
	"math"
	"slices"
	"strings"
	"testing"

	"sift/fault"
	"sift/onnx"
)

// inf, lowest: the constants that graphs add to masked scores.
var (
	inf    = math.Inf(1)
	lowest = -float64(math.MaxFloat32)
)

func bools(data ...int64) *Tensor { return &Tensor{DType: onnx.Bool, Dims: []int{len(data)}, I: data} }
func vector(data ...float64) *Tensor {
	return Floats(data, len(data))
}
func ints(data ...int64) *Tensor { return Int64s(data, len(data)) }

// apply runs one node on tensors. A nil input is an omitted one.
func apply(t testing.TB, opset int64, domain, op string, attrs map[string]any, outputs int, in ...*Tensor) (map[string]*Tensor, error) {
	t.Helper()
	n := node{op: op, domain: domain, attrs: attrs}
	inputs, feed := []input{}, map[string]*Tensor{}
	for i, x := range in {
		name := ""
		if x != nil {
			name = string(rune('a' + i))
			inputs = append(inputs, input{name, x.DType})
			feed[name] = x
		}
		n.in = append(n.in, name)
	}
	for i := range outputs {
		n.out = append(n.out, "out"+string(rune('0'+i)))
	}
	return open(t, model(opset, []node{n}, inputs, n.out)).Run(feed)
}

// TestOperators checks values worked out by hand.
func TestOperators(t *testing.T) {
	matrix := Floats([]float64{1, 2, 3, 4, 5, 6}, 2, 3)
	cases := []struct {
		name  string
		opset int64
		op    string
		attrs map[string]any
		in    []*Tensor
		want  *Tensor
	}{
		{"add broadcasts both ways", 13, "Add", nil, []*Tensor{Floats([]float64{1, 2}, 2, 1), vector(10, 20, 30)},
			Floats([]float64{11, 21, 31, 12, 22, 32}, 2, 3)},
		{"int division truncates", 13, "Div", nil, []*Tensor{ints(-7, 7, -7), ints(2, -2, -2)}, ints(-3, -3, 3)},
		{"int64 is exact beyond 2^53", 13, "Add", nil, []*Tensor{ints(1 << 53), ints(1)}, ints(1<<53 + 1)},
		{"mod has the sign of the divisor", 13, "Mod", nil, []*Tensor{ints(-4, 7, 5), ints(3, -3, 8)}, ints(2, -2, 5)},
		{"pow by an integer", 13, "Pow", nil, []*Tensor{vector(2, -3), ints(3)}, vector(8, -27)},
		{"relu", 13, "Relu", nil, []*Tensor{vector(-1, 0, 2)}, vector(0, 0, 2)},
		{"clip with one bound", 13, "Clip", nil, []*Tensor{vector(-1, 0, 2), nil, Floats([]float64{1})}, vector(-1, 0, 1)},
		{"matmul of a vector", 13, "MatMul", nil, []*Tensor{matrix, vector(1, 0, -1)}, vector(-2, -2)},
		{"matmul broadcasts batches", 13, "MatMul", nil,
			[]*Tensor{Floats([]float64{1, 2, 3, 4}, 2, 1, 2), Floats([]float64{1, 1, 2, 0}, 2, 2, 1)},
			Floats([]float64{3, 6}, 2, 1, 1)},
		{"gemm", 13, "Gemm", map[string]any{"transB": 1, "alpha": 2.0, "beta": 0.5},
			[]*Tensor{Floats([]float64{1, 2}, 1, 2), Floats([]float64{1, 1, 0, 1}, 2, 2), vector(4, 6)}, Floats([]float64{8, 7}, 1, 2)},
		{"softmax from 13 is along the axis", 13, "Softmax", map[string]any{"axis": 0}, []*Tensor{Floats([]float64{0, 0, 0, 0}, 2, 2)},
			Floats([]float64{.5, .5, .5, .5}, 2, 2)},
		{"softmax before 13 joins the axes", 11, "Softmax", map[string]any{"axis": 0}, []*Tensor{Floats([]float64{0, 0, 0, 0}, 2, 2)},
			Floats([]float64{.25, .25, .25, .25}, 2, 2)},
		{"softmax of masked scores", 13, "Softmax", nil, []*Tensor{vector(lowest, 1, lowest-1e30, 1)}, vector(0, .5, 0, .5)},
		{"reduce by attribute", 11, "ReduceMean", map[string]any{"axes": []int64{-1}}, []*Tensor{matrix}, Floats([]float64{2, 5}, 2, 1)},
		{"reduce by input", 18, "ReduceSum", map[string]any{"keepdims": 0}, []*Tensor{matrix, ints(0)}, vector(5, 7, 9)},
		{"reduce everything", 13, "ReduceMax", map[string]any{"keepdims": 0}, []*Tensor{matrix}, Floats([]float64{6})},
		{"reduce nothing", 18, "ReduceSum", map[string]any{"noop_with_empty_axes": 1}, []*Tensor{matrix}, matrix},
		{"cast truncates", 13, "Cast", map[string]any{"to": int(onnx.Int64)}, []*Tensor{vector(-1.9, 1.9, inf)}, ints(-1, 1, math.MaxInt64)},
		{"cast to bool", 13, "Cast", map[string]any{"to": int(onnx.Bool)}, []*Tensor{vector(0, .1, -2)}, bools(0, 1, 1)},
		{"shape", 15, "Shape", map[string]any{"start": -1}, []*Tensor{matrix}, ints(3)},
		{"gather counts from the end", 13, "Gather", map[string]any{"axis": 1}, []*Tensor{matrix, Int64s([]int64{-1})}, vector(3, 6)},
		{"slice backwards", 13, "Slice", nil, []*Tensor{ints(0, 1, 2, 3, 4), ints(-1), ints(math.MinInt64), ints(0), ints(-2)}, ints(4, 2, 0)},
		{"slice clamps", 9, "Slice", map[string]any{"starts": []int64{1}, "ends": []int64{math.MaxInt64}, "axes": []int64{1}}, []*Tensor{matrix},
			Floats([]float64{2, 3, 5, 6}, 2, 2)},
		{"reshape", 13, "Reshape", nil, []*Tensor{matrix, ints(0, -1, 1)}, Floats(matrix.F, 2, 3, 1)},
		{"reshape to zero", 14, "Reshape", map[string]any{"allowzero": 1}, []*Tensor{Floats(nil, 0, 3), ints(3, 0)}, Floats([]float64{}, 3, 0)},
		{"unsqueeze", 13, "Unsqueeze", nil, []*Tensor{vector(1), ints(-1, 0)}, Floats([]float64{1}, 1, 1, 1)},
		{"squeeze", 11, "Squeeze", map[string]any{"axes": []int64{0}}, []*Tensor{Floats([]float64{1, 2}, 1, 2, 1)}, Floats([]float64{1, 2}, 2, 1)},
		{"transpose", 13, "Transpose", nil, []*Tensor{matrix}, Floats([]float64{1, 4, 2, 5, 3, 6}, 3, 2)},
		{"expand", 13, "Expand", nil, []*Tensor{Floats([]float64{1, 2}, 2, 1), ints(1, 3)}, Floats([]float64{1, 1, 1, 2, 2, 2}, 2, 3)},
		{"tile", 13, "Tile", nil, []*Tensor{ints(1, 2), ints(2)}, ints(1, 2, 1, 2)},
		{"where", 13, "Where", nil, []*Tensor{bools(1, 0), vector(1, 2), Floats([]float64{-inf})}, vector(1, -inf)},
		{"not", 13, "Not", nil, []*Tensor{bools(1, 0)}, bools(0, 1)},
		{"range", 13, "Range", nil, []*Tensor{Int64s([]int64{5}), Int64s([]int64{0}), Int64s([]int64{-2})}, ints(5, 3, 1)},
		{"cumsum, as RoBERTa counts positions", 13, "CumSum", nil, []*Tensor{Int64s([]int64{1, 1, 0, 1, 0, 0}, 2, 3), Int64s([]int64{1})},
			Int64s([]int64{1, 2, 2, 1, 1, 1}, 2, 3)},
		{"trilu", 14, "Trilu", map[string]any{"upper": 0}, []*Tensor{matrix}, Floats([]float64{1, 0, 0, 4, 5, 0}, 2, 3)},
		{"one hot", 13, "OneHot", nil, []*Tensor{ints(1, -1), Int64s([]int64{3}), vector(0, 9)}, Floats([]float64{0, 9, 0, 0, 0, 9}, 2, 3)},
		{"non zero", 13, "NonZero", nil, []*Tensor{Int64s([]int64{0, 1, 1, 0}, 2, 2)}, Int64s([]int64{0, 1, 1, 0}, 2, 2)},
		{"arg max takes the first", 13, "ArgMax", map[string]any{"keepdims": 0}, []*Tensor{vector(1, 3, 3)}, Int64s([]int64{1})},
		{"layer norm", 17, "LayerNormalization", map[string]any{"epsilon": 0.0}, []*Tensor{vector(1, 3), vector(2, 2), vector(0, 1)}, vector(-2, 3)},
		{"erf", 13, "Erf", nil, []*Tensor{vector(0, inf)}, vector(0, 1)},
		{"gelu", 20, "Gelu", nil, []*Tensor{vector(0, -100, 100)}, vector(0, 0, 100)},
		{"einsum", 13, "Einsum", map[string]any{"equation": "ij,kj->ki"}, []*Tensor{matrix, Floats([]float64{1, 1, 1}, 1, 3)}, Floats([]float64{6, 15}, 1, 2)},
		{"scatter", 16, "ScatterND", nil, []*Tensor{vector(1, 2, 3), Int64s([]int64{2, 0}, 2, 1), vector(9, 8)}, vector(8, 2, 9)},
		{"max of several", 13, "Max", nil, []*Tensor{vector(1, 5), vector(3), vector(2, 2)}, vector(3, 5)},
	}
	for _, c := range cases {
		got, err := apply(t, c.opset, "", c.op, c.attrs, 1, c.in...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := close32(got["out0"], c.want); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSplit(t *testing.T) {
	for name, attrs := range map[string]map[string]any{"equal": {"axis": 0}, "remainder": {"axis": 0, "num_outputs": 2}} {
		x := ints(1, 2, 3, 4)
		if name == "remainder" {
			x = ints(1, 2, 3)
		}
		got, err := apply(t, 18, "", "Split", attrs, 2, x)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got["out0"].I, []int64{1, 2}) || !slices.Equal(got["out1"].I, x.I[2:]) {
			t.Errorf("%s: %v %v", name, got["out0"].I, got["out1"].I)
		}
	}
}

// Activations stay in float64; only a cast to a narrower float type rounds.
func TestCastRounding(t *testing.T) {
	x := 1 + math.Ldexp(1, -30)
	double := &Tensor{DType: onnx.Double, Dims: []int{1}, F: []float64{x}}
	for _, c := range []struct {
		from *Tensor
		to   onnx.DataType
		want float64
	}{
		{vector(x), onnx.Double, x},
		{double, onnx.Float, 1},
		{vector(lowest), onnx.Float16, -inf},
		{vector(65519), onnx.Float16, 65504},
		{vector(math.Ldexp(1, -24)), onnx.Float16, math.Ldexp(1, -24)},
		{vector(1.00390625), onnx.BFloat16, 1}, // halfway between neighbours, to even
		{ints(1<<24 + 1), onnx.Float, 1 << 24},
	} {
		got, err := apply(t, 13, "", "Cast", map[string]any{"to": int(c.to)}, 1, c.from)
		if err != nil {
			t.Fatal(err)
		}
		if y := got["out0"]; y.DType != c.to || y.F[0] != c.want {
			t.Errorf("%v %v to %v: %v, want %v", c.from.DType, c.from.F, c.to, y.F[0], c.want)
		}
	}
	got, err := apply(t, 13, "", "Mul", nil, 1, vector(x), vector(x))
	if err != nil || got["out0"].F[0] != x*x {
		t.Errorf("a product was rounded: %v, %v", got, err)
	}
}

// TestRefused checks that bad data is refused with a message that names the node.
func TestRefused(t *testing.T) {
	huge := ints(1<<40, 1<<40)
	for _, c := range []struct {
		name, op string
		attrs    map[string]any
		in       []*Tensor
		says     string
	}{
		{"expand bomb", "Expand", nil, []*Tensor{vector(1), huge}, "beyond the limit"},
		{"tile bomb", "Tile", nil, []*Tensor{ints(1, 2), ints(math.MaxInt64)}, "beyond the limit"},
		{"constant bomb", "ConstantOfShape", nil, []*Tensor{ints(1 << 31)}, "beyond the limit"},
		{"sizes that overflow", "ConstantOfShape", nil, []*Tensor{ints(4194305, 4194305, 211106198978564)}, "beyond the limit"},
		{"an empty tensor with a huge axis", "ConstantOfShape", nil, []*Tensor{ints(1<<40, 1<<40, 0)}, "beyond the limit"},
		{"range bomb", "Range", nil, []*Tensor{Int64s([]int64{math.MinInt64}), Int64s([]int64{math.MaxInt64}), Int64s([]int64{1})}, "from"},
		{"one hot bomb", "OneHot", nil, []*Tensor{ints(1), Int64s([]int64{1 << 50}), vector(0, 1)}, "beyond the limit"},
		{"product bomb", "MatMul", nil, []*Tensor{Floats(nil, 1<<27, 0), Floats(nil, 0, 1<<27)}, "beyond the limit"},
		{"negative size", "ConstantOfShape", nil, []*Tensor{ints(-1)}, "size -1"},
		{"shapes", "Add", nil, []*Tensor{vector(1, 2), vector(1, 2, 3)}, "do not broadcast"},
		{"types", "Add", nil, []*Tensor{vector(1), ints(1)}, "types"},
		{"division by zero", "Div", nil, []*Tensor{ints(1), ints(0)}, "zero"},
		{"index", "Gather", nil, []*Tensor{vector(1), ints(1)}, "index 1"},
		{"axis", "Softmax", map[string]any{"axis": 5}, []*Tensor{vector(1)}, "axis 5"},
		{"attribute kind", "Softmax", map[string]any{"axis": "x"}, []*Tensor{vector(1)}, "not an integer"},
		{"missing input", "Add", nil, []*Tensor{vector(1), nil}, "missing"},
		{"perm", "Transpose", map[string]any{"perm": []int64{0, 0}}, []*Tensor{Floats([]float64{1}, 1, 1)}, "twice"},
		{"reshape", "Reshape", nil, []*Tensor{vector(1, 2, 3), ints(2, -1)}, "cannot become"},
		{"training", "Dropout", nil, []*Tensor{vector(1), Floats([]float64{.5}), {DType: onnx.Bool, I: []int64{1}}}, "training"},
	} {
		_, err := apply(t, 13, "", c.op, c.attrs, 1, c.in...)
		if fault.KindOf(err) != fault.Data || err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "node 0 ("+c.op+")") {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}
