package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sift/fault"
	"sift/onnx"
)

var smallLimits = Limits{Elements: 1 << 14, Live: 1 << 16, Work: 1 << 20, Cached: 1 << 16}

// TestRandomNodes runs every operator on random tensors and attributes, most of them
// wrong. It must compute or refuse: a run-time error is a defect.
func TestRandomNodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	names := []opName{}
	table := operators()
	for name := range table {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b opName) int {
		if a.domain+a.op < b.domain+b.op {
			return -1
		}
		return 1
	})
	trials := 1500
	if testing.Short() {
		trials = 300
	}
	for _, name := range names {
		computed := 0
		for range trials {
			c := randomCall(rng, name)
			out, err := protect(table[name], c)
			switch {
			case err == nil:
				computed++
				for _, y := range out {
					if y != nil && y.Len() != product(y.Dims) {
						t.Errorf("%v: %s gives shape %v with %d elements", c.in, describe(c), y.Dims, y.Len())
					}
				}
			case fault.KindOf(err) != fault.Data:
				t.Errorf("%v: %s", err, describe(c))
			}
		}
		if computed == 0 && !testing.Short() {
			t.Errorf("%s was never computed", name.op)
		}
	}
}

func describe(c *call) string {
	s := fmt.Sprintf("%s opset %d %v on", c.node.OpType, c.opset, c.node.Attrs)
	for _, x := range c.in {
		if x == nil {
			s += " none"
			continue
		}
		s += fmt.Sprintf(" %v%v%v%v", x.DType, x.Dims, x.F, x.I)
	}
	return s
}

// validInputs returns inputs for the operators that chance does not find.
func validInputs(op string) []*Tensor {
	zeros := func(dims ...int) *Tensor { return Floats(make([]float64, product(dims)), dims...) }
	switch op {
	case "Attention":
		return []*Tensor{zeros(2, 3, 2), zeros(2, 6), zeros(6), Int64s(make([]int64, 6), 2, 3)}
	case "EmbedLayerNormalization":
		ids := Int64s(make([]int64, 6), 2, 3)
		return []*Tensor{ids, ids, zeros(4, 2), zeros(3, 2), zeros(2, 2), zeros(2), zeros(2), ids}
	case "MultiHeadAttention":
		return []*Tensor{zeros(2, 3, 2), zeros(2, 3, 2), zeros(2, 3, 2), zeros(6), Int64s(make([]int64, 6), 2, 3)}
	}
	return nil
}

// wide lists integers of all sizes.
var wide = []int64{0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, -1, -1, -2, -3, 7, 1 << 20, 1 << 40, math.MaxInt64, math.MinInt64, -1 << 33}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

func randomTensor(rng *rand.Rand, dims []int) *Tensor {
	if dims == nil || rng.IntN(4) == 0 {
		dims = make([]int, rng.IntN(4))
		for i := range dims {
			dims[i] = pick(rng, 0, 1, 1, 2, 2, 3, 4)
		}
	}
	n := product(dims)
	d := pick(rng, onnx.Float, onnx.Float, onnx.Float, onnx.Int64, onnx.Int64, onnx.Bool, onnx.Int32, onnx.Float16, onnx.Uint8, onnx.Uint64)
	x := &Tensor{DType: d, Dims: dims}
	lo, hi, _ := integerRange(d)
	for range n {
		if isFloat(d) {
			x.F = append(x.F, pick(rng, 0, 1, -1, 2, .5, 3, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, -3.4e38))
		} else {
			x.I = append(x.I, min(max(pick(rng, wide...), lo), hi))
		}
	}
	return x
}

func randomCall(rng *rand.Rand, name opName) *call {
	r := &run{g: &Graph{Limits: smallLimits}, ctx: context.Background(), limits: smallLimits, values: map[string]*Tensor{}}
	n := &onnx.Node{OpType: name.op, Domain: name.domain, Attrs: map[string]onnx.Attr{}}
	for range 1 + rng.IntN(3) {
		n.Outputs = append(n.Outputs, "out")
	}
	c := &call{run: r, node: n, opset: pick[int64](rng, 7, 11, 13, 18, 20)}
	var dims []int
	for range rng.IntN(6) {
		if rng.IntN(12) == 0 {
			c.in = append(c.in, nil)
			continue
		}
		x := randomTensor(rng, dims)
		if dims == nil {
			dims = x.Dims
		}
		if rng.IntN(2) == 0 && len(c.in) > 0 && c.in[0] != nil && c.in[0].IsFloat() && !x.IsFloat() {
			x = &Tensor{DType: c.in[0].DType, Dims: x.Dims, F: asFloats(x)}
		}
		c.in = append(c.in, x)
	}
	if base := validInputs(name.op); base != nil && rng.IntN(2) == 0 {
		c.in = base
		for range rng.IntN(3) { // spoil some
			c.in[rng.IntN(len(c.in))] = randomTensor(rng, pick(rng, []int{2, 3, 2}, []int{2, 3}, []int{2}, nil))
		}
	}
	number := func(name string) { n.Attrs[name] = onnx.Attr{Name: name, Kind: onnx.AttrInt, I: pick(rng, wide...)} }
	for _, a := range []string{"axis", "axis", "keepdims", "to", "transA", "transB", "num_outputs", "k", "upper", "exclusive", "reverse", "start", "end",
		"allowzero", "select_last_index", "batch_dims", "largest", "dtype", "fmod", "unidirectional", "noop_with_empty_axes", "value_int"} {
		if rng.IntN(6) == 0 {
			number(a)
		}
	}
	n.Attrs["num_heads"] = onnx.Attr{Kind: onnx.AttrInt, I: pick[int64](rng, 1, 1, 1, 2, 3, 0, -1, math.MaxInt64)}
	if name.op == "Cast" || name.op == "EyeLike" || rng.IntN(20) == 0 {
		n.Attrs["to"] = onnx.Attr{Kind: onnx.AttrInt, I: rng.Int64N(18)}
	}
	for _, a := range []string{"axes", "perm", "split", "starts", "ends", "steps", "shape", "qkv_hidden_sizes"} {
		if rng.IntN(4) == 0 {
			list := []int64{}
			for range rng.IntN(4) {
				list = append(list, pick(rng, wide...))
			}
			n.Attrs[a] = onnx.Attr{Kind: onnx.AttrInts, Ints: list}
		}
	}
	for _, a := range []string{"alpha", "beta", "epsilon", "min", "max", "scale", "mask_filter_value"} {
		if rng.IntN(4) == 0 {
			n.Attrs[a] = onnx.Attr{Kind: onnx.AttrFloat, F: pick[float32](rng, 0, 1, -1, .5, float32(math.NaN()), float32(math.Inf(1)))}
		}
	}
	for a, values := range map[string][]string{
		"equation":    {"ij,jk->ik", "ii->i", "ij", "i,i", "->", ",", "abc,abc->", "i,j->ij"},
		"approximate": {"none", "tanh", "x"}, "activation": {"Tanh", "x"}, "reduction": {"add", "mul", "none", "x"},
	} {
		if rng.IntN(2) == 0 {
			n.Attrs[a] = onnx.Attr{Kind: onnx.AttrString, S: []byte(pick(rng, values...))}
		}
	}
	return c
}

// FuzzGraph hands arbitrary bytes to the file layer and runs what it accepts.
func FuzzGraph(f *testing.F) {
	f.Add(chain(3))
	f.Add(model(13, []node{
		{op: "Constant", out: []string{"s"}, attrs: map[string]any{"value": ints(2, -1)}},
		{op: "Reshape", in: []string{"a", "s"}, out: []string{"r"}},
		{op: "MatMul", in: []string{"r", "w"}, out: []string{"m"}},
		{op: "Softmax", in: []string{"m"}, out: []string{"y"}, attrs: map[string]any{"axis": -1}},
	}, []input{{"a", onnx.Float}}, []string{"y"}, tensorProto("w", Floats([]float64{1, 2, 3, 4}, 2, 2))))
	for _, name := range []string{"encoder-op12-fold-dynamic-nomask", "quantised"} {
		if data, err := os.ReadFile(filepath.Join(fixtures, name+".onnx")); err == nil {
			f.Add(data)
		}
	}
	path := filepath.Join(f.TempDir(), "model.onnx")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := onnx.Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		g, err := New(file)
		if err != nil {
			return
		}
		g.Limits = smallLimits
		inputs := map[string]*Tensor{}
		for _, v := range file.Inputs {
			x := &Tensor{DType: v.DType}
			n := 1
			for _, d := range v.Dims {
				size := 2
				if d.Param == "" && d.Value >= 0 && d.Value < 64 {
					size = int(d.Value)
				}
				if n *= size; n > 1<<12 {
					return
				}
				x.Dims = append(x.Dims, size)
			}
			if x.IsFloat() {
				x.F = make([]float64, n)
			} else {
				x.I = make([]int64, n)
			}
			inputs[v.Name] = x
		}
		if _, err := g.Run(inputs); err != nil && fault.KindOf(err) == fault.Internal {
			t.Fatal(err)
		}
	})
}
