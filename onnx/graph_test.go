package onnx

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// testGraph writes small models from text, so that a test can show the graph it means.
type testGraph struct {
	nodes, inits, ins, outs message
	opset                   int64
	count                   int
	rand                    *rand.Rand
	tail                    []message // further fields of the model
}

func newGraph(opset int64) *testGraph {
	return &testGraph{opset: opset, rand: rand.New(rand.NewPCG(1, 9))}
}

// bytes encodes the model.
func (g *testGraph) bytes() []byte {
	body := append(append(append(append(message{}, g.nodes...), g.inits...), g.ins...), g.outs...)
	m := message(nil).number(1, 7).bytes(7, body).bytes(8, message(nil).text(1, "").number(2, g.opset)).
		bytes(8, message(nil).text(1, microsoft).number(2, 1))
	for _, t := range g.tail {
		m = append(m, t...)
	}
	return m
}

// write puts the model into a file of its own.
func (g *testGraph) write(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, g.bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (g *testGraph) input(name string, d DataType, dims ...string) *testGraph {
	g.ins = g.ins.bytes(11, valueProto(name, d, testDims(dims)))
	return g
}

func (g *testGraph) output(name string, dims ...string) *testGraph {
	g.outs = g.outs.bytes(12, valueProto(name, Float, testDims(dims)))
	return g
}

func testDims(dims []string) []Dim {
	var out []Dim
	for _, d := range dims {
		if n, err := strconv.ParseInt(d, 10, 64); err == nil {
			out = append(out, Dim{Value: n})
		} else {
			out = append(out, Dim{Value: -1, Param: d})
		}
	}
	return out
}

// weight adds a float32 initializer of random numbers.
func (g *testGraph) weight(name string, dims ...int64) *testGraph {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(g.rand.NormFloat64())
	}
	g.inits = g.inits.bytes(5, tensorProto(name, Float, dims, encodeFloat32(data, Float)))
	return g
}

func (g *testGraph) floats(name string, values ...float32) *testGraph {
	var dims []int64
	if len(values) != 1 {
		dims = []int64{int64(len(values))}
	}
	g.inits = g.inits.bytes(5, tensorProto(name, Float, dims, encodeFloat32(values, Float)))
	return g
}

// ints adds an int64 vector; dims may shape it otherwise.
func (g *testGraph) ints(name string, values []int64, dims ...int64) *testGraph {
	raw := make([]byte, 0, 8*len(values))
	for _, v := range values {
		for i := range 8 {
			raw = append(raw, byte(v>>(8*i)))
		}
	}
	if dims == nil {
		dims = []int64{int64(len(values))}
	}
	g.inits = g.inits.bytes(5, tensorProto(name, Int64, dims, raw))
	return g
}

var statement = regexp.MustCompile(`^(.+?) = (?:([\w.]+):)?(\w+)\(([^)]*)\)(?: (.*))?$`)

// text adds nodes, one a line: "y = Op(a, b) axis=1 perm=0,2,1,3 epsilon=1e-5f". Names may be
// "_" for absent inputs.
func (g *testGraph) text(lines string) *testGraph {
	for _, line := range strings.Split(lines, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		p := statement.FindStringSubmatch(line)
		if p == nil {
			panic("not a statement: " + line)
		}
		var in []string
		for _, v := range strings.Split(p[4], ",") {
			if v = strings.TrimSpace(v); v == "_" {
				in = append(in, "")
			} else if v != "" {
				in = append(in, v)
			}
		}
		var attrs []message
		for _, a := range strings.Fields(p[5]) {
			name, value, _ := strings.Cut(a, "=")
			attrs = append(attrs, testAttr(name, value))
		}
		g.count++
		n := nodeProto(p[3], fmt.Sprintf("n%d", g.count), in, strings.Split(p[1], ", "), attrs...)
		if p[2] != "" {
			n = n.text(7, p[2])
		}
		g.nodes = g.nodes.bytes(1, n)
	}
	return g
}

func testAttr(name, value string) message {
	m := message(nil).text(1, name)
	if f, ok := strings.CutSuffix(value, "f"); ok {
		x, err := strconv.ParseFloat(f, 32)
		if err != nil {
			panic(err)
		}
		b := encodeFloat32([]float32{float32(x)}, Float)
		return append(append(m, 2<<3|5), b...).number(20, int64(AttrFloat))
	}
	parts := strings.Split(value, ",")
	x, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return m.text(4, value).number(20, int64(AttrString))
	}
	if len(parts) == 1 && name != "axes" {
		return m.number(3, x).number(20, int64(AttrInt))
	}
	for _, p := range parts {
		x, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			panic(err)
		}
		m = m.number(8, x)
	}
	return m.number(20, int64(AttrInts))
}

// tiny is a BERT of one layer, hidden size 4, 2 heads, with the parts that a test wants to
// write differently as text. Every part reads and writes the values named here.
type tiny struct {
	opset       int64
	embed       string // word, types, ids, ... to "sum"
	norm0       string // "sum" to "x"
	mask        string // "mask" to "added"
	scores      string // "q4" [B,h,S,d], "k4" (transposed), "added" to "scores"
	softmax     string // "scores" to "p"
	gelu        string // "mid" to "act"
	tail        string // after the last LayerNorm, "y"
	output      string
	outputShape []string
	more        func(g *testGraph)
}

func defaultTiny() tiny {
	return tiny{
		opset: 13,
		embed: `w = Gather(word, ids)
			t = Gather(types, type_ids)
			wt = Add(w, t)
			shape = Shape(ids)
			length = Gather(shape, one1) axis=0
			pos_ids = Slice(positions, zero1, length, one1)
			p0 = Gather(position, pos_ids)
			sum = Add(wt, p0)`,
		norm0: "x = LayerNormalization(sum, g0, b0) axis=-1 epsilon=1e-5f",
		mask: `m1 = Unsqueeze(mask, axes12)
			m2 = Cast(m1) to=1
			m3 = Sub(one, m2)
			added = Mul(m3, low)`,
		scores: `s0 = MatMul(q4, k4)
			s1 = Div(s0, root)
			scores = Add(s1, added)`,
		softmax: "p = Softmax(scores) axis=-1",
		gelu: `u0 = Div(mid, sqrt2)
			u1 = Erf(u0)
			u2 = Add(u1, one)
			u3 = Mul(mid, u2)
			act = Mul(u3, half)`,
		output: "y", outputShape: []string{"batch", "sequence", "4"},
	}
}

// tinyLines are the parts that no test changes.
const tinyAttention = `q0 = MatMul(x, wq)
	q1 = Add(q0, bq)
	q2 = Reshape(q1, split)
	q4 = Transpose(q2) perm=0,2,1,3
	k0 = MatMul(x, wk)
	k1 = Add(bk, k0)
	k2 = Reshape(k1, split)
	k4 = Transpose(k2) perm=0,2,3,1
	v0 = MatMul(x, wv)
	v1 = Add(v0, bv)
	v2 = Reshape(v1, split)
	v4 = Transpose(v2) perm=0,2,1,3`

const tinyRest = `c0 = MatMul(p, v4)
	c1 = Transpose(c0) perm=0,2,1,3
	c2 = Reshape(c1, merge)
	o0 = MatMul(c2, wo)
	o1 = Add(o0, bo)
	r1 = Add(o1, x)
	h = LayerNormalization(r1, g1, b1) axis=-1 epsilon=1e-5f
	i0 = MatMul(h, wi)
	mid = Add(i0, bi)`

const tinyEnd = `f0 = MatMul(act, wf)
	f1 = Add(f0, bf)
	r2 = Add(f1, h)
	y = LayerNormalization(r2, g2, b2) axis=-1 epsilon=1e-5f`

func (x tiny) graph() *testGraph {
	g := newGraph(x.opset)
	g.input("ids", Int64, "batch", "sequence").input("mask", Int64, "batch", "sequence").input("type_ids", Int64, "batch", "sequence")
	g.output(x.output, x.outputShape...)
	g.weight("word", 7, 4).weight("position", 5, 4).weight("types", 2, 4)
	for _, n := range []string{"g0", "b0", "g1", "b1", "g2", "b2", "bq", "bk", "bv", "bo", "bf"} {
		g.weight(n, 4)
	}
	for _, n := range []string{"wq", "wk", "wv", "wo"} {
		g.weight(n, 4, 4)
	}
	g.weight("wi", 4, 6).weight("bi", 6).weight("wf", 6, 4)
	g.floats("one", 1).floats("half", 0.5).floats("two", 2).floats("low", -10000).floats("root", 1.4142135).floats("sqrt2", 1.4142135)
	g.ints("zero1", []int64{0}).ints("one1", []int64{1}).ints("split", []int64{0, -1, 2, 2}).ints("merge", []int64{0, -1, 4}).
		ints("axes12", []int64{1, 2}).ints("positions", []int64{0, 1, 2, 3, 4}, 1, 5)
	if x.more != nil {
		x.more(g)
	}
	return g.text(x.embed).text(x.norm0).text(x.mask).text(tinyAttention).text(x.scores).text(x.softmax).text(tinyRest).
		text(x.gelu).text(tinyEnd).text(x.tail)
}
