package onnx

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"sift/fault"
)

func TestHalfPrecisionIsExactBothWays(t *testing.T) {
	for h := range 1 << 16 {
		x := uint16(h)
		if f := float16To32(x); f == f && float16From32(f) != x {
			t.Fatalf("float16 %04x is %v, which becomes %04x", x, f, float16From32(f))
		} else if f != f && float16To32(float16From32(f)) == float16To32(float16From32(f)) {
			t.Fatalf("float16 %04x: NaN lost", x)
		}
		if f := bfloat16To32(x); f == f && bfloat16From32(f) != x {
			t.Fatalf("bfloat16 %04x is %v, which becomes %04x", x, f, bfloat16From32(f))
		}
	}
	for h, want := range map[uint16]float32{0x3c00: 1, 0x0001: 1.0 / (1 << 24), 0x7bff: 65504, 0x8000: 0, 0xc000: -2, 0x03ff: 1023.0 / (1 << 24)} {
		if got := float16To32(h); got != want {
			t.Errorf("%04x is %v, want %v", h, got, want)
		}
	}
}

// TestHalfPrecisionRoundsToNearestEven holds rounding against the two neighbours.
func TestHalfPrecisionRoundsToNearestEven(t *testing.T) {
	for name, c := range map[string]struct {
		from func(float32) uint16
		to   func(uint16) float32
		top  uint16  // the largest number
		next float64 // the one after it
	}{
		"float16":  {float16From32, float16To32, 0x7bff, 65536},
		"bfloat16": {bfloat16From32, bfloat16To32, 0x7f7f, math.Pow(2, 128)},
	} {
		rapid.Check(t, func(t *rapid.T) {
			f := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			if rapid.Bool().Draw(t, "small") {
				f = float32(rapid.Float64Range(-70000, 70000).Draw(t, "value")) * float32(math.Pow(2, float64(-rapid.IntRange(0, 30).Draw(t, "scale"))))
			}
			if f != f {
				return
			}
			h := c.from(f)
			if got := c.to(h); math.Signbit(float64(got)) != math.Signbit(float64(f)) {
				t.Fatalf("%s: the sign of %v", name, f)
			}
			distance := func(h uint16) float64 {
				v := float64(c.to(h & 0x7fff))
				if math.IsInf(v, 0) { // where the next number would be if the exponent went on
					v = c.next
				}
				return math.Abs(math.Abs(float64(f)) - v)
			}
			if math.IsInf(float64(f), 0) {
				return
			}
			m := h & 0x7fff
			for _, other := range []uint16{m + 1, m - 1} {
				if other > c.top+1 {
					continue
				}
				if d := distance(other); d < distance(m) || d == distance(m) && m&1 == 1 {
					t.Fatalf("%s: %v becomes %04x, %04x is nearer or even", name, f, m, other)
				}
			}
		})
	}
}

// typedModel is the tiny model with further tensors stored in every legal way.
func typedModel() ([]byte, map[string][]float64) {
	g := defaultTiny().graph()
	varints := func(v ...uint64) []byte {
		var b []byte
		for _, x := range v {
			b = protowire.AppendVarint(b, x)
		}
		return b
	}
	negative := func(x int64) uint64 { return uint64(x) }
	add := func(name string, d DataType, n int64, fields ...func(m message) message) {
		m := tensorHeader(name, d, []int64{n})
		for _, f := range fields {
			m = f(m)
		}
		g.inits = g.inits.bytes(5, m)
	}
	packed := func(field protowire.Number, b []byte) func(message) message {
		return func(m message) message { return m.bytes(field, b) }
	}
	single := func(field protowire.Number, v uint64) func(message) message {
		return func(m message) message { return m.number(field, int64(v)) }
	}
	fixed := func(v float32) func(message) message {
		return func(m message) message {
			return protowire.AppendFixed32(protowire.AppendTag(m, 4, protowire.Fixed32Type), math.Float32bits(v))
		}
	}
	doubles := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, math.Float64bits(1e300)), math.Float64bits(-0.1))
	add("packed floats", Float, 3, packed(4, encodeFloat32([]float32{1, -2, 0.5}, Float)))
	add("single floats", Float, 2, fixed(7), fixed(-8))
	add("mixed floats", Float, 3, fixed(7), packed(4, encodeFloat32([]float32{1, 2}, Float)))
	add("doubles", Double, 2, packed(10, doubles))
	add("raw doubles", Double, 2, packed(9, doubles))
	add("halves", Float16, 2, packed(5, varints(0x3c00, 0xc000)))
	add("single half", Float16, 2, single(5, 0x3c00), single(5, 0x0001))
	add("brain", BFloat16, 1, packed(5, varints(0x3f80)))
	add("int32", Int32, 2, packed(5, varints(negative(-5), 7)))
	add("int64", Int64, 2, packed(7, varints(negative(-1<<40), 3)))
	add("int8", Int8, 2, packed(9, []byte{0xff, 2}))
	add("uint8", Uint8, 2, packed(9, []byte{0xff, 2}))
	add("bool", Bool, 2, packed(5, varints(1, 0)))
	add("uint64", Uint64, 1, packed(11, varints(1<<40)))
	add("int16", Int16, 1, packed(5, varints(negative(-300))))
	add("empty", Float, 0)
	return g.bytes(), map[string][]float64{
		"packed floats": {1, -2, 0.5}, "single floats": {7, -8}, "mixed floats": {7, 1, 2}, "doubles": {1e300, -0.1}, "raw doubles": {1e300, -0.1},
		"halves": {1, -2}, "single half": {1, 1.0 / (1 << 24)}, "brain": {1}, "int32": {-5, 7}, "int64": {-1 << 40, 3}, "int8": {-1, 2}, "uint8": {255, 2},
		"bool": {1, 0}, "uint64": {1 << 40}, "int16": {-300}, "empty": {},
	}
}

func TestEveryWayToStoreElements(t *testing.T) {
	model, want := typedModel()
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := os.WriteFile(path, model, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, v := range want {
		x := f.Initializer(name)
		got, err := f.ReadFloat64(x)
		if err != nil || !slices.Equal(got, v) {
			t.Errorf("%s: %v, want %v; %v", name, got, v, err)
		}
		single, err := f.ReadFloat32(x)
		for i := range single {
			if single[i] != float32(v[i]) {
				t.Errorf("%s as float32: %v, %v", name, single, err)
			}
		}
		whole, err := f.ReadInt64(x)
		if x.DType.IsInteger() != (err == nil) && x.Len > 0 {
			t.Errorf("%s as int64: %v, %v", name, whole, err)
		}
		for i := range whole {
			if float64(whole[i]) != v[i] {
				t.Errorf("%s as int64: %v", name, whole)
			}
		}
		if b, err := f.ReadBytes(x); err != nil || len(b) != int(x.Bytes()) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// TestVarintElementsAreCounted: only reading finds out how many numbers a varint field holds.
func TestVarintElementsAreCounted(t *testing.T) {
	for name, b := range map[string][]byte{"missing": {0x80, 0x80, 0x01}, "more elements": {1, 2, 3, 4}} {
		g := defaultTiny().graph()
		g.inits = g.inits.bytes(5, tensorHeader("extra", Int32, []int64{2}).bytes(5, b))
		path := g.write(t)
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadInt64(f.Initializer("extra")); err == nil || !strings.Contains(err.Error(), name) || fault.KindOf(err) != fault.Data {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// TestStoreIntoTypedFields trains a model whose weights are not raw_data.
func TestStoreIntoTypedFields(t *testing.T) {
	original, err := defaultTiny().recognise(t)
	if err != nil {
		t.Fatal(err)
	}
	w := load(t, original)
	for _, d := range []DataType{Float, Double, Float16, BFloat16} {
		g := defaultTiny().graph()
		parts(g)
		// Take wi out and put it back as typed elements behind the graph's other fields.
		g.inits = bytes.ReplaceAll(g.inits, message(nil).text(8, "wi"), message(nil).text(8, "wj"))
		stored := transpose(w["encoder.layer.0.intermediate.weight"], 6, 4)
		field, typ := typedField(d)
		raw := encodeFloat32(stored, d)
		if typ == protowire.VarintType {
			raw = nil
			for _, v := range encodeHalves(stored, d) {
				raw = protowire.AppendVarint(raw, uint64(v))
			}
		}
		g.inits = g.inits.bytes(5, tensorHeader("wi", d, []int64{4, 6}).bytes(field, raw))
		if d != Float {
			g.nodes = bytes.ReplaceAll(g.nodes, message(nil).text(1, "wi"), message(nil).text(1, "wI"))
			g.nodes = append(message(nil).bytes(1, nodeProto("Cast", "cast", []string{"wi"}, []string{"wI"}, intAttr("to", 1))), g.nodes...)
		}
		path := g.write(t)
		m := recogniseFile(t, path)
		now := load(t, m)
		out := filepath.Join(t.TempDir(), "out.onnx")
		if _, err := Store(m, now, out); err != nil || !bytes.Equal(contents(t, path), contents(t, out)) {
			t.Fatalf("%v: untouched weights change the file: %v", d, err)
		}
		train(now, 8)
		if _, err := Store(m, now, out); err != nil {
			t.Fatal(err)
		}
		again := load(t, recogniseFile(t, out))
		for role, v := range now {
			for i := range v {
				expect := v[i]
				if role == "encoder.layer.0.intermediate.weight" && d == Float16 {
					expect = float16To32(float16From32(expect))
				} else if role == "encoder.layer.0.intermediate.weight" && d == BFloat16 {
					expect = bfloat16To32(bfloat16From32(expect))
				}
				if again[role][i] != expect {
					t.Fatalf("%v: %s: element %d is %v, want %v", d, role, i, again[role][i], expect)
				}
			}
		}
	}
}

func encodeHalves(data []float32, d DataType) []uint16 {
	var out []uint16
	for b := encodeFloat32(data, d); len(b) > 0; b = b[2:] {
		out = append(out, binary.LittleEndian.Uint16(b))
	}
	return out
}

// TestRewriteKeepsTheRest: edits anywhere leave a file that scans, with the other bytes.
func TestRewriteKeepsTheRest(t *testing.T) {
	path := defaultTiny().graph().write(t)
	rapid.Check(t, func(r *rapid.T) {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var edits []edit
		renamed := map[int]string{}
		for i := range f.Nodes {
			n := &f.Nodes[i]
			if len(n.Inputs) > 0 && n.Inputs[0] != "" && rapid.Bool().Draw(r, "rewire") {
				name := "one"
				edits = append(edits, replace(n.inputAt[0].start, n.inputAt[0].end, n.at, message(nil).text(1, name)))
				renamed[i] = name
			}
		}
		size := rapid.IntRange(0, 40000).Draw(r, "size") // lengths of one, two and three bytes
		end := message(nil).bytes(5, tensorProto("extra", Uint8, []int64{int64(size)}, make([]byte, size)))
		g := f.layout.graph
		edits = append(edits, insert(g.end, []span{g}, end))
		c, err := f.rewrite(edits)
		if err != nil {
			t.Fatal(err)
		}
		out := path + ".out"
		var b bytes.Buffer
		if _, err := c.WriteTo(&b); err != nil || int64(b.Len()) != c.size {
			t.Fatalf("%d bytes, planned %d: %v", b.Len(), c.size, err)
		}
		if err := os.WriteFile(out, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		h, err := Open(out)
		if err != nil {
			r.Fatal(err)
		}
		defer h.Close()
		if len(h.Nodes) != len(f.Nodes) || h.Initializer("extra").Len != int64(size) || len(h.Initializers) != len(f.Initializers)+1 {
			r.Fatal("parts are missing")
		}
		for i := range h.Nodes {
			want := slices.Clone(f.Nodes[i].Inputs)
			if name, ok := renamed[i]; ok {
				want[0] = name
			}
			if !slices.Equal(h.Nodes[i].Inputs, want) {
				r.Fatalf("node %d reads %v, want %v", i, h.Nodes[i].Inputs, want)
			}
		}
	})
}
