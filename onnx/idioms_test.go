package onnx

import (
	"math"
	"strings"
	"testing"

	"sift/backend"
	"sift/bert"
	"sift/fault"
)

const (
	decomposedNorm0 = `n1 = ReduceMean(sum) axes=-1
		n2 = Sub(sum, n1)
		n3 = Pow(n2, two)
		n4 = ReduceMean(n3) axes=-1
		n5 = Add(n4, eps)
		n6 = Sqrt(n5)`
	sdpaScale = `sh = Shape(q4)
		sl = Slice(sh, minus1, far)
		sc = Cast(sl) to=1
		sr = Sqrt(sc)
		sd = Div(one, sr)
		ss = Sqrt(sd)
		qs = Mul(q4, ss)
		ks = Mul(ss, k4)
		s1 = MatMul(qs, ks)
		scores = Add(added, s1)`
)

// idioms are ways of writing the same model.
var idioms = map[string]func(x *tiny){
	"as it is": func(x *tiny) {},
	"opset 17": func(x *tiny) { x.opset = 17 },
	"opset 11": func(x *tiny) {
		x.opset = 11
		x.mask = strings.ReplaceAll(x.mask, "Unsqueeze(mask, axes12)", "Unsqueeze(mask) axes=1,2")
	},
	"norm: Pow": func(x *tiny) { x.norm0 = decomposedNorm0 + "\nn7 = Div(n2, n6)\nn8 = Mul(n7, g0)\nx = Add(n8, b0)" },
	"norm: d*d, reciprocal": func(x *tiny) {
		x.norm0 = strings.ReplaceAll(decomposedNorm0, "Pow(n2, two)", "Mul(n2, n2)") + "\nr = Reciprocal(n6)\nn7 = Mul(r, n2)\nn8 = Mul(g0, n7)\nx = Add(b0, n8)"
	},
	"norm: 1/sqrt, two Subs": func(x *tiny) {
		x.norm0 = decomposedNorm0 + "\nn2b = Sub(sum, n1)\nr = Div(one, n6)\nn7 = Mul(n2b, r)\nn8 = Mul(n7, g0)\nx = Add(n8, b0)"
	},
	"norm: eps first, axis 2": func(x *tiny) {
		x.norm0 = strings.NewReplacer("Add(n4, eps)", "Add(eps, n4)", "axes=-1", "axes=2").Replace(decomposedNorm0) + "\nn7 = Div(n2, n6)\nn8 = Mul(n7, g0)\nx = Add(n8, b0)"
	},
	"norm: skip": func(x *tiny) {
		x.embed = strings.ReplaceAll(x.embed, "sum = Add(wt, p0)", "")
		x.norm0 = "x = com.microsoft:SkipLayerNormalization(wt, p0, g0, b0) epsilon=1e-5f"
	},
	"norm: casts around": func(x *tiny) { x.norm0 = "s32 = Cast(sum) to=1\n" + strings.ReplaceAll(x.norm0, "sum,", "s32,") },
	"mask: finfo":        func(x *tiny) { x.mask = strings.ReplaceAll(x.mask, "low", "lowest") },
	"mask: Unsqueeze twice": func(x *tiny) {
		x.mask = strings.ReplaceAll(x.mask, "m1 = Unsqueeze(mask, axes12)", "m0 = Unsqueeze(mask, one1)\nm1 = Unsqueeze(m0, two1)")
	},
	"mask: cast first": func(x *tiny) {
		x.mask = "m0 = Cast(mask) to=1\nm1 = Unsqueeze(m0, axes12)\nm2 = Sub(one, m1)\nadded = Mul(low, m2)"
	},
	"mask: (m-1)*10000": func(x *tiny) {
		x.mask = "m0 = Cast(mask) to=1\nm1 = Unsqueeze(m0, axes12)\nm2 = Sub(m1, one)\nadded = Mul(high, m2)"
	},
	"mask: Where(0, -inf)": func(x *tiny) {
		x.mask = "m0 = Cast(mask) to=9\nm1 = Unsqueeze(m0, axes12)\nadded = Where(m1, zerof, inf)"
	},
	"mask: Where on Expand": func(x *tiny) {
		x.mask = `m1 = Unsqueeze(mask, axes12)
			ms = Shape(mask)
			mb = Gather(ms, zero1)
			ml = Gather(ms, one1)
			mt = Concat(mb, one1, ml, ml) axis=0
			m2 = Expand(m1, mt)
			m3 = Cast(m2) to=1
			m4 = Sub(one, m3)
			m5 = Cast(m4) to=9
			added = Where(m5, lowest, m4)`
	},
	"mask: masked_fill": func(x *tiny) {
		x.mask = "m1 = Equal(mask, zeroi)\nm2 = Reshape(m1, maskshape)"
		x.scores = "s0 = MatMul(q4, k4)\ns1 = Div(s0, root)\nms = Shape(s1)\nm3 = Expand(m2, ms)\nscores = Where(m3, inf, s1)"
	},
	"mask: where kept": func(x *tiny) {
		x.mask = "m1 = Unsqueeze(mask, axes12)\nm2 = Cast(m1) to=9"
		x.scores = "s0 = MatMul(q4, k4)\ns1 = Div(s0, root)\nscores = Where(m2, s1, low)"
	},
	"mask: Not, Greater": func(x *tiny) {
		x.mask = "m1 = Unsqueeze(mask, axes12)\nm2 = Greater(m1, zeroi)\nm3 = Not(m2)\nadded = Where(m3, low, zerof)"
	},
	"mask: added before the scale": func(x *tiny) { x.scores = "s0 = MatMul(q4, k4)\ns1 = Add(added, s0)\nscores = Div(s1, root)" },
	"mask: and a constant zero": func(x *tiny) {
		x.scores += "z"
		x.scores = strings.ReplaceAll(x.scores, "scoresz", "sz")
		x.scores = "s0 = MatMul(q4, k4)\ns1 = Div(s0, root)\ns2 = Add(s1, added)\nscores = Add(s2, zerof)"
	},
	"scale: Mul":        func(x *tiny) { x.scores = strings.ReplaceAll(x.scores, "Div(s0, root)", "Mul(s0, inverse)") },
	"scale: on queries": func(x *tiny) { x.scores = "qs = Div(q4, root)\ns1 = MatMul(qs, k4)\nscores = Add(s1, added)" },
	"scale: split": func(x *tiny) {
		x.scores = "qs = Mul(q4, split4)\nks = Mul(split4, k4)\ns1 = MatMul(qs, ks)\nscores = Add(s1, added)"
	},
	"scale: split, from the shape": func(x *tiny) { x.scores = sdpaScale },
	"scale: FusedMatMul": func(x *tiny) {
		x.scores = "s1 = com.microsoft:FusedMatMul(q4, k4) alpha=0.70710678f\nscores = Add(s1, added)"
	},
	"keys: two transposes": func(x *tiny) {
		x.scores = "kt = Transpose(k2) perm=0,2,1,3\nkk = Transpose(kt) perm=0,1,3,2\n" + strings.ReplaceAll(x.scores, "k4", "kk")
	},
	"keys: FusedMatMul transB": func(x *tiny) {
		x.scores = "kt = Transpose(k2) perm=0,2,1,3\ns1 = com.microsoft:FusedMatMul(q4, kt) alpha=0.70710678f transB=1\nscores = Add(s1, added)"
	},
	"softmax: dropout":   func(x *tiny) { x.softmax = "p1 = Softmax(scores) axis=3\np = Dropout(p1, half, no)" },
	"softmax: NaN guard": func(x *tiny) { x.softmax = "p1 = Softmax(scores) axis=-1\npn = IsNaN(p1)\np = Where(pn, zerof, p1)" },
	"gelu: x*0.5*(1+erf)": func(x *tiny) {
		x.gelu = "u0 = Mul(mid, half)\nu1 = Mul(mid, invsqrt2)\nu2 = Erf(u1)\nu3 = Add(one, u2)\nact = Mul(u0, u3)"
	},
	"gelu: x*(0.5*(1+erf))": func(x *tiny) {
		x.gelu = "u1 = Div(mid, sqrt2)\nu2 = Erf(u1)\nu3 = Add(u2, one)\nu4 = Mul(half, u3)\nact = Mul(u4, mid)"
	},
	"gelu: sum of two products": func(x *tiny) {
		x.gelu = "u1 = Mul(invsqrt2, mid)\nu2 = Erf(u1)\nu3 = Mul(half, mid)\nu4 = Mul(u3, u2)\nact = Add(u3, u4)"
	},
	"gelu: Gelu of opset 20": func(x *tiny) { x.opset = 20; x.gelu = "act = Gelu(mid)" },
	"gelu: BiasGelu":         func(x *tiny) { x.gelu = "act = com.microsoft:BiasGelu(i0, bi)" },
	"gelu: com.microsoft":    func(x *tiny) { x.gelu = "act = com.microsoft:Gelu(mid)" },
	"positions: Range": func(x *tiny) {
		x.embed = strings.ReplaceAll(x.embed, "pos_ids = Slice(positions, zero1, length, one1)", "ls = Squeeze(length)\npr = Range(zeroi, ls, onei)\npu = Unsqueeze(pr, zero1)\npos_ids = Expand(pu, shape)")
	},
	"positions: slice of the table": func(x *tiny) {
		x.embed = strings.ReplaceAll(x.embed, "p0 = Gather(position, pos_ids)", "p0 = Slice(position, zero1, length, zero1)")
	},
	"tables added the other way": func(x *tiny) {
		x.embed = strings.ReplaceAll(x.embed, "sum = Add(wt, p0)", "tp = Add(p0, t)\nsum = Add(w, tp)")
	},
	"linear: Identity and Transpose": func(x *tiny) {
		x.mask += "\nwqi = Identity(wq)\nwqt = Transpose(wqi) perm=1,0\nwqq = Transpose(wqt) perm=1,0\nz0 = MatMul(x, wqq)\nz1 = Add(z0, bq)\nz2 = Reshape(z1, split)\nz4 = Transpose(z2) perm=0,2,1,3"
		x.scores = strings.ReplaceAll(x.scores, "q4", "z4")
	},
	"linear: rows flattened for Gemm": func(x *tiny) {
		x.mask += "\nxr = Reshape(x, rows)\nz0 = Gemm(xr, wq, bq)\nzz = Reshape(z0, unrows)\nz2 = Reshape(zz, split)\nz4 = Transpose(z2) perm=0,2,1,3"
		x.scores = strings.ReplaceAll(x.scores, "q4", "z4")
	},
	"linear: bias behind the reshape": func(x *tiny) {
		x.mask += "\nxr = Reshape(x, rows)\nz0 = MatMul(xr, wq)\nzz = Reshape(z0, unrows)\nz1 = Add(bq, zz)\nz2 = Reshape(z1, split)\nz4 = Transpose(z2) perm=0,2,1,3"
		x.scores = strings.ReplaceAll(x.scores, "q4", "z4")
	},
}

// parts adds the constants that the variations use.
func parts(g *testGraph) {
	inf := float32(math.Inf(-1))
	g.floats("eps", 1e-5).floats("lowest", -math.MaxFloat32).floats("high", 10000).floats("zerof", 0).floats("inf", inf).
		floats("inverse", 0.70710678).floats("split4", 0.84089642).floats("invsqrt2", 0.70710678).floats("cube", 0.044715).floats("three", 3).
		floats("sqrt2pi", 0.7978845608).floats("c1702", 1.702).floats("triangle", 0, inf, 0, 0)
	g.ints("two1", []int64{2}).ints("minus1", []int64{-1}).ints("far", []int64{math.MaxInt64}).ints("zeroi", []int64{0}, []int64{}...).
		ints("onei", []int64{1}, []int64{}...).ints("maskshape", []int64{-1, 1, 1, 0}).ints("rows", []int64{-1, 4}).ints("unrows", []int64{2, -1, 4}).
		ints("axes13", []int64{1, 3}).ints("axis3", []int64{3}).ints("split3", []int64{0, -1, 1, 4}).ints("zero", []int64{0}, []int64{}...)
	g.inits = g.inits.bytes(5, tensorProto("no", Bool, nil, []byte{0})).bytes(5, tensorProto("yes", Bool, nil, []byte{1}))
	g.weight("proj", 4, 4).weight("wide", 4, 6).weight("widebias", 6)
}

func (x tiny) recognise(t *testing.T) (*Match, error) {
	t.Helper()
	x.more = parts
	f, err := Open(x.graph().write(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Recognise(f)
}

func TestIdioms(t *testing.T) {
	reference, err := defaultTiny().recognise(t)
	if err != nil {
		t.Fatal(err)
	}
	want := load(t, reference)
	for name, change := range idioms {
		t.Run(name, func(t *testing.T) {
			x := defaultTiny()
			change(&x)
			m, err := x.recognise(t)
			if err != nil {
				t.Fatal(err)
			}
			got, expect := m.Config, reference.Config
			got.MaskValue, expect.MaskValue = 0, 0
			if got != expect || m.Inputs != reference.Inputs || len(m.Outputs) != 1 || m.Outputs[0].Kind != "hidden" || m.Architecture != "BertModel" {
				t.Errorf("%+v %+v %v", m.Config, m.Inputs, m.Outputs)
			}
			for role, v := range load(t, m) {
				if !sameBits(v, want[role]) {
					t.Errorf("%s differs", role)
				}
			}
		})
	}
}

func TestMaskValue(t *testing.T) {
	for name, want := range map[string]float64{
		"as it is": -10000, "mask: finfo": -math.MaxFloat32, "mask: masked_fill": math.Inf(-1), "mask: where kept": -10000, "mask: Where(0, -inf)": math.Inf(-1),
	} {
		x := defaultTiny()
		idioms[name](&x)
		m, err := x.recognise(t)
		if err != nil || m.Config.MaskValue != want {
			t.Errorf("%s: %v, want %v; %v", name, m.Config.MaskValue, want, err)
		}
	}
}

func TestGeluTanh(t *testing.T) {
	for name, gelu := range map[string]string{
		"Pow":      "a = Pow(mid, three)\nb = Mul(a, cube)\nc = Add(mid, b)\nd = Mul(c, sqrt2pi)\ne = Tanh(d)\nf = Add(e, one)\ng = Mul(mid, f)\nact = Mul(g, half)",
		"x*x":      "a = Mul(mid, mid)\nb = Mul(cube, a)\nc = Add(one, b)\nd = Mul(mid, sqrt2pi)\ne = Mul(d, c)\nf = Tanh(e)\ng = Add(one, f)\nh2 = Mul(half, mid)\nact = Mul(h2, g)",
		"FastGelu": "act = com.microsoft:FastGelu(i0, bi)",
		"Gelu":     "act = Gelu(mid) approximate=tanh",
	} {
		x := defaultTiny()
		x.gelu = gelu
		m, err := x.recognise(t)
		if err != nil || m.Config.Activation != backend.GeluTanh {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInputsAndTables(t *testing.T) {
	// No token types at all.
	x := defaultTiny()
	x.embed = strings.NewReplacer("t = Gather(types, type_ids)", "", "wt = Add(w, t)", "wt = Identity(w)").Replace(x.embed)
	m, err := x.recognise(t)
	if err != nil || m.Config.TypeVocab != 0 || m.Inputs.Types != "" || m.Architecture != "DistilBertModel" {
		t.Errorf("no types: %v", err)
	}
	// Types that are always zero.
	x = defaultTiny()
	x.embed = "tz = ConstantOfShape(sh0)\n" + strings.ReplaceAll(x.embed, "types, type_ids", "types, tzi")
	x.embed = "sh0 = Shape(ids)\n" + strings.ReplaceAll(x.embed, "tz = ConstantOfShape(sh0)", "tz = ConstantOfShape(sh0)\ntzi = Cast(tz) to=7")
	if m, err = x.recognise(t); err != nil || m.Config.TypeVocab != 2 || m.Inputs.Types != "" {
		t.Errorf("zero types: %v", err)
	}
	// Positions as an input.
	x = defaultTiny()
	x.embed = strings.ReplaceAll(x.embed, "p0 = Gather(position, pos_ids)", "p0 = Gather(position, position_ids)")
	old := parts
	f, err := Open(func() string {
		x.more = func(g *testGraph) { old(g); g.input("position_ids", Int64, "batch", "sequence") }
		return x.graph().write(t)
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err = Recognise(f)
	if err != nil || m.Inputs != (Inputs{"ids", "mask", "type_ids", "position_ids"}) || m.Config.Vocab != 7 || m.Config.Positions != 5 {
		t.Errorf("position input: %v", err)
	}
	// RoBERTa counts positions from the tokens that are not padding.
	x = defaultTiny()
	x.embed = strings.ReplaceAll(x.embed, "pos_ids = Slice(positions, zero1, length, one1)",
		"ne = Equal(ids, onei)\nnn = Not(ne)\nni = Cast(nn) to=7\ncs = CumSum(ni, onei)\ncm = Mul(cs, ni)\npos_ids = Add(cm, onei)")
	if m, err = x.recognise(t); err != nil || m.Config.PositionOffset != 2 || m.Architecture != "RobertaModel" {
		t.Errorf("roberta: %v", err)
	}
	// A mask that the graph takes and does not use, and one that it does not take.
	x = defaultTiny()
	x.scores = "s0 = MatMul(q4, k4)\nscores = Div(s0, root)"
	if m, err = x.recognise(t); err != nil || m.Inputs.Mask != "" || m.Config.MaskValue != 0 {
		t.Errorf("no mask: %v", err)
	}
}

func TestHeadsOfTiny(t *testing.T) {
	pooler := "f = Gather(y, zero) axis=1\nd0 = Gemm(f, proj, b1)\npooled = Tanh(d0)\n"
	for name, c := range map[string]struct{ tail, output, kind, architecture string }{
		"classifier":               {pooler + "l = Gemm(pooled, wide, widebias)", "l", "logits", "BertForSequenceClassification"},
		"classifier, MatMul":       {pooler + "l0 = MatMul(pooled, wide)\nl = Add(widebias, l0)", "l", "logits", "BertForSequenceClassification"},
		"first token by Slice":     {"ft = Slice(y, zero1, one1, one1)\nf = Squeeze(ft, one1)\nd0 = Gemm(f, proj, b1)\nl = Tanh(d0)", "l", "pooled", "BertModel"},
		"tokens":                   {"l0 = MatMul(y, wide)\nl = Add(l0, widebias)", "l", "token", "BertForTokenClassification"},
		"hidden, and mean pooling": {"l = ReduceMean(y) axes=1 keepdims=0", "y", "hidden", "BertModel"},
	} {
		x := defaultTiny()
		x.tail, x.output, x.outputShape = c.tail, c.output, []string{"batch", "a"}
		m, err := x.recognise(t)
		if err != nil || len(m.Outputs) != 1 || m.Outputs[0].Kind != c.kind || m.Architecture != c.architecture {
			t.Errorf("%s: %v %v", name, m, err)
			continue
		}
		if name == "hidden, and mean pooling" && (len(m.Unrecognised) != 1 || m.Unrecognised[0].OpType != "ReduceMean") {
			t.Errorf("unrecognised: %v", m.Unrecognised)
		}
		if m.Outputs[0].Kind == "logits" && m.Config.Classes != 6 {
			t.Errorf("%s: %d classes", name, m.Config.Classes)
		}
	}
}

// TestNearMisses: what is almost a BERT is refused, naming the node, what was expected and
// what was found.
func TestNearMisses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(x *tiny)
		want   []string
	}{
		"ReLU":                 {func(x *tiny) { x.gelu = "act = Relu(mid)" }, []string{"(Relu)", "expected feed-forward: GELU", "found ReLU"}},
		"quick GELU":           {func(x *tiny) { x.gelu = "a = Mul(mid, c1702)\nb = Sigmoid(a)\nact = Mul(mid, b)" }, []string{"(Mul)", "found GELU with a sigmoid"}},
		"no GELU":              {func(x *tiny) { x.gelu = "act = Identity(mid)" }, []string{"(Add)", "expected feed-forward: GELU"}},
		"gated":                {func(x *tiny) { x.gelu = "gate = MatMul(h, wi)\nact = Mul(gate, mid)" }, []string{"an activation of one value"}},
		"wrong scale":          {func(x *tiny) { x.scores = strings.ReplaceAll(x.scores, "root", "two") }, []string{"1/sqrt(2)"}},
		"no scale":             {func(x *tiny) { x.scores = "s0 = MatMul(q4, k4)\nscores = Add(s0, added)" }, []string{"1/sqrt(2)"}},
		"softmax over queries": {func(x *tiny) { x.softmax = "p = Softmax(scores) axis=2" }, []string{"(Softmax)", "axis 2"}},
		"softmax of opset 11": {func(x *tiny) {
			x.opset = 11
			x.mask = strings.ReplaceAll(x.mask, "Unsqueeze(mask, axes12)", "Unsqueeze(mask) axes=1,2")
			x.softmax = "p = Softmax(scores)"
		}, []string{"axis 1"}},
		"no softmax": {func(x *tiny) { x.softmax = "p = Sigmoid(scores)" }, []string{"expected attention: Softmax, found Sigmoid"}},
		"keys not transposed": {func(x *tiny) {
			x.scores = "kt = Transpose(k2) perm=0,2,1,3\n" + strings.ReplaceAll(x.scores, "k4", "kt")
		}, []string{"attention key", "[0,2,1,3]"}},
		"cross attention": {func(x *tiny) {
			x.mask += "\nz0 = MatMul(sum, wq)\nz1 = Add(z0, bq)\nz2 = Reshape(z1, split)\nz4 = Transpose(z2) perm=0,2,1,3"
			x.scores = strings.ReplaceAll(x.scores, "q4", "z4")
		}, []string{"attention query", "of the layer's input"}},
		"one query head": {func(x *tiny) {
			x.scores = "z2 = Reshape(q1, split3)\nz4 = Transpose(z2) perm=0,2,1,3\n" + strings.ReplaceAll(x.scores, "q4", "z4")
		}, []string{"heads", "found"}},
		"mask along queries": {func(x *tiny) { x.mask = strings.ReplaceAll(x.mask, "axes12", "axes13") }, []string{"along the keys"}},
		"mask inverted":      {func(x *tiny) { x.mask = strings.ReplaceAll(x.mask, "m3 = Sub(one, m2)", "m3 = Identity(m2)") }, []string{"attention mask", "other numbers"}},
		"small mask":         {func(x *tiny) { x.mask = strings.ReplaceAll(x.mask, "low", "inverse") }, []string{"attention mask"}},
		"causal mask":        {func(x *tiny) { x.scores = strings.ReplaceAll(x.scores, "s1, added", "s1, triangle") }, []string{"attention mask"}},
		"two masks": {func(x *tiny) {
			x.mask += "\nq1m = Unsqueeze(type_ids, axes12)\nq2m = Cast(q1m) to=1\nadded2 = Mul(q2m, added)"
			x.scores = strings.ReplaceAll(x.scores, "s1, added", "s1, added2")
		}, []string{"one mask"}},
		"mask from tokens":     {func(x *tiny) { x.mask = strings.ReplaceAll(x.mask, "Unsqueeze(mask", "Unsqueeze(ids") }, []string{"of its own input", `"ids"`}},
		"dropout in training":  {func(x *tiny) { x.softmax = "p1 = Softmax(scores) axis=3\np = Dropout(p1, half, yes)" }, []string{"found Dropout"}},
		"norm of another axis": {func(x *tiny) { x.norm0 = strings.ReplaceAll(x.norm0, "axis=-1", "axis=1") }, []string{"embeddings", "LayerNorm"}},
		"another epsilon":      {func(x *tiny) { x.norm0 = strings.ReplaceAll(x.norm0, "1e-5f", "1e-3f") }, []string{"epsilon"}},
		"pre-LayerNorm":        {func(x *tiny) { x.norm0 = "x = Mul(sum, half)" }, []string{"embeddings", "found Mul"}},
		"embedding projection": {func(x *tiny) {
			x.norm0 = "xx = LayerNormalization(sum, g0, b0) epsilon=1e-5f\nx0 = MatMul(xx, proj)\nx = Add(x0, b1)"
		}, []string{"a layer on the embeddings", "found MatMul"}},
		"no embeddings": {func(x *tiny) { x.embed = "sum = Cast(ids) to=1" }, []string{"a Gather from a weight table"}},
		"no bias": {func(x *tiny) {
			x.scores = "z2 = Reshape(q0, split)\nz4 = Transpose(z2) perm=0,2,1,3\n" + strings.ReplaceAll(x.scores, "q4", "z4")
		}, []string{"attention query: a bias"}},
		"no known output": {func(x *tiny) { x.tail = "l = ReduceMean(y) axes=1 keepdims=0"; x.output = "l" }, []string{"(ReduceMean)"}},
		"offset positions": {func(x *tiny) {
			x.embed = strings.ReplaceAll(x.embed, "Slice(positions, zero1", "Slice(positions, minus1")
		}, []string{"embeddings: indices"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := defaultTiny()
			c.change(&x)
			_, err := x.recognise(t)
			if err == nil || fault.KindOf(err) != fault.Data {
				t.Fatalf("accepted, or of the wrong kind: %v", err)
			}
			for _, w := range append(c.want, "expected", "found") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v: no %q", err, w)
				}
			}
		})
	}
}

func TestRolesAreBoundByPosition(t *testing.T) {
	m, err := defaultTiny().recognise(t)
	if err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string]string{
		bert.RoleWord: "word", bert.RolePosition: "position", bert.RoleTokenType: "types", bert.RoleEmbeddingsBeta: "b0",
		"encoder.layer.0.attention.query.weight": "wq", "encoder.layer.0.attention.key.bias": "bk", "encoder.layer.0.attention.value.weight": "wv",
		"encoder.layer.0.attention.output.weight": "wo", "encoder.layer.0.intermediate.weight": "wi", "encoder.layer.0.output.bias": "bf",
		"encoder.layer.0.attention.norm.weight": "g1", "encoder.layer.0.output.norm.bias": "b2",
	} {
		b, ok := m.Binding(role)
		if !ok || b.Initializer != want || b.Transposed != strings.HasPrefix(want, "w") || b.Transposed && want == "word" {
			if want != "word" || b.Transposed {
				t.Errorf("%s is %+v, want %s", role, b, want)
			}
		}
	}
	name, dims, out, err := m.InFileLayout("encoder.layer.0.intermediate.weight", []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23})
	if err != nil || name != "wi" || dims[0] != 4 || dims[1] != 6 || out[1] != 4 || out[6] != 1 {
		t.Errorf("%s %v %v %v", name, dims, out, err)
	}
}

// fusedTiny is the tiny model as ONNX Runtime's transformer optimiser would write it, with
// the same weights, query, key and value packed.
func fusedTiny(t testing.TB) (*testGraph, bert.Weights) {
	t.Helper()
	f, err := Open(defaultTiny().graph().write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := Recognise(f)
	if err != nil {
		t.Fatal(err)
	}
	w := load(t, m)
	g := defaultTiny().graph()
	g.nodes = nil
	var packed, biases []float32
	for i := range 4 { // rows of [in,3H]
		for _, part := range []string{"query", "key", "value"} {
			matrix := w["encoder.layer.0.attention."+part+".weight"]
			for o := range 4 {
				packed = append(packed, matrix[4*o+i])
			}
		}
	}
	for _, part := range []string{"query", "key", "value"} {
		biases = append(biases, w["encoder.layer.0.attention."+part+".bias"]...)
	}
	g.inits = g.inits.bytes(5, tensorProto("wqkv", Float, []int64{4, 12}, encodeFloat32(packed, Float)))
	g.floats("bqkv", biases...)
	g.text(`ids32 = Cast(ids) to=6
		types32 = Cast(type_ids) to=6
		mask32 = Cast(mask) to=6
		x, lengths = com.microsoft:EmbedLayerNormalization(ids32, types32, word, position, types, g0, b0) epsilon=1e-5f
		c = com.microsoft:Attention(x, wqkv, bqkv, mask32) num_heads=2
		o0 = MatMul(c, wo)
		h = com.microsoft:SkipLayerNormalization(o0, x, g1, b1, bo) epsilon=1e-5f
		i0 = MatMul(h, wi)
		act = com.microsoft:BiasGelu(i0, bi)
		f0 = MatMul(act, wf)
		y = com.microsoft:SkipLayerNormalization(f0, h, g2, b2, bf) epsilon=1e-5f`)
	return g, w
}

func TestFusedOperations(t *testing.T) {
	g, want := fusedTiny(t)
	f, err := Open(g.write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := Recognise(f)
	if err != nil {
		t.Fatal(err)
	}
	if m.Inputs != (Inputs{IDs: "ids", Mask: "mask", Types: "type_ids"}) || m.Config.Heads != 2 || m.Config.MaskValue != -10000 || len(m.Unrecognised) > 0 {
		t.Errorf("%+v %+v %v", m.Config, m.Inputs, m.Unrecognised)
	}
	w := load(t, m)
	for role, v := range w {
		if !sameBits(v, want[role]) {
			t.Errorf("%s is %v, want %v", role, v, want[role])
		}
	}
	train(w, 6)
	out := t.TempDir() + "/out.onnx"
	changes, err := Store(m, w, out)
	if err != nil || len(changes.Added) > 0 {
		t.Fatal(changes, err)
	}
	onlyPayloadsDiffer(t, m, out, changes)
	for role, v := range load(t, recogniseFile(t, out)) {
		if !sameBits(v, w[role]) {
			t.Errorf("%s is stored wrongly", role)
		}
	}
}
