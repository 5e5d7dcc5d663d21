package onnx

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
)

// try opens, recognises and loads a file, and returns the first error.
func try(path string) error {
	f, err := Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := Recognise(f)
	if err != nil {
		return err
	}
	_, err = Load(m)
	return err
}

// bounded runs try and checks what every input is promised: no panic, memory in proportion,
// an error of one line with the file first.
func bounded(t *testing.T, path string, size int) error {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := try(path)
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(4<<20+400*size); got > most {
		t.Fatalf("%d bytes allocated for a file of %d: %v", got, size, err)
	}
	oneLine(t, path, err)
	return err
}

func oneLine(t *testing.T, path string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if !strings.HasPrefix(text, path+": ") || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 2000 {
		t.Fatalf("not a line FILE: WHERE: CAUSE: %q", text)
	}
	if k := fault.KindOf(err); k != fault.Data && k != fault.Missing {
		t.Fatalf("kind %d: %v", k, err)
	}
}

func TestTinyIsRecognised(t *testing.T) {
	if err := try(defaultTiny().graph().write(t)); err != nil {
		t.Fatal(err)
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	whole := defaultTiny().graph().bytes()
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	opened := 0
	for n := len(whole) - 1; n >= 0; n-- {
		if err := os.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		if err := bounded(t, path, n); err == nil {
			opened++ // cut between two fields behind the graph
		}
	}
	if opened > 1 {
		t.Errorf("%d truncated files were accepted", opened)
	}
}

// TestEveryBitFlipped flips each bit of a small file with one of everything, and every
// seventh of a whole model.
func TestEveryBitFlipped(t *testing.T) {
	g := newGraph(13).input("ids", Int64, "b", "s").output("x", "b", "s", "2").weight("w", 3, 2).weight("p", 2, 2).floats("g", 1, 2)
	g.ints("i", []int64{0, 1}, 1, 2)
	g.inits = g.inits.bytes(5, tensorHeader("b", Float16, []int64{2}).bytes(5, []byte{1, 2})).
		bytes(5, externalProto("e", Float, []int64{1}, "d", 4, 4))
	g.text(`c = Cast(b) to=1
		t = Gather(w, ids)
		q = Gather(p, i) axis=0
		z = Add(t, q)
		x = LayerNormalization(z, g, c) axis=-1 epsilon=1e-5f
		u = Unsqueeze(x) axes=1,2`)
	t.Run("small", func(t *testing.T) { flipBits(t, g.bytes(), 1) })
	t.Run("model", func(t *testing.T) { flipBits(t, defaultTiny().graph().bytes(), 7) })
}

func flipBits(t *testing.T, whole []byte, step int) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	for name, b := range map[string][]byte{"m.onnx": whole, "d": make([]byte, 8)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tried, refused := 0, 0
	for bit := 0; bit < 8*len(whole); bit += step {
		at := int64(bit / 8)
		if _, err := file.WriteAt([]byte{whole[at] ^ 1<<(bit%8)}, at); err != nil {
			t.Fatal(err)
		}
		err := try(path)
		oneLine(t, path, err)
		tried++
		if err != nil {
			refused++
		}
		if _, err := file.WriteAt(whole[at:at+1], at); err != nil {
			t.Fatal(err)
		}
	}
	if tried < 3000 || refused < tried/4 {
		t.Errorf("only %d of %d flips were noticed", refused, tried)
	}
}

// hostile are models that must be refused; want is part of the message.
func hostile() map[string]struct {
	model []byte
	want  string
} {
	type bad = struct {
		model []byte
		want  string
	}
	with := func(change func(g *testGraph)) []byte {
		g := defaultTiny().graph()
		change(g)
		return g.bytes()
	}
	tensor := func(m message) []byte { return with(func(g *testGraph) { g.inits = g.inits.bytes(5, m) }) }
	nested := func(depth int) []byte { // built from inside: every level only puts a prefix before the last
		var prefixes []message
		inner := 0
		for range depth {
			attr := message(nil).text(1, "body").number(20, int64(AttrGraph))
			attr = protowire.AppendVarint(protowire.AppendTag(attr, 6, protowire.BytesType), uint64(inner))
			node := message(nil).text(2, "o").text(4, "If")
			node = protowire.AppendVarint(protowire.AppendTag(node, 5, protowire.BytesType), uint64(len(attr)+inner))
			p := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(node)+len(attr)+inner))
			p = append(append(p, node...), attr...)
			prefixes = append(prefixes, p)
			inner += len(p)
		}
		return with(func(g *testGraph) {
			for i := len(prefixes) - 1; i >= 0; i-- {
				g.nodes = append(g.nodes, prefixes[i]...)
			}
		})
	}
	huge := strings.Repeat("n", 1<<20)
	raw := make([]byte, 16)
	external := func(entries ...string) message {
		m := message(nil).number(1, 4).number(2, int64(Float)).text(8, "extra")
		for i := 0; i < len(entries); i += 2 {
			m = m.bytes(13, message(nil).text(1, entries[i]).text(2, entries[i+1]))
		}
		return m.number(14, 1)
	}
	cases := map[string]bad{
		"empty":                 {nil, "empty"},
		"text":                  {[]byte("hello, this is not a model\n"), "byte"},
		"no graph":              {message(nil).number(1, 7), "no graph"},
		"two graphs":            {append(defaultTiny().graph().bytes(), message(nil).bytes(7, nil)...), "second graph"},
		"negative dim":          {tensor(tensorProto("extra", Float, []int64{-4}, raw)), "negative dimension"},
		"overflowing dims":      {tensor(tensorProto("extra", Float, []int64{4194305, 4194305, 211106198978564}, raw)), "overflow"},
		"zero hides overflow":   {tensor(tensorProto("extra", Float, []int64{0, 1 << 62, 1 << 62}, raw)), "raw_data holds 16"},
		"raw too short":         {tensor(tensorProto("extra", Float, []int64{5}, raw)), "raw_data holds 16 bytes, [5] of float32 needs 20"},
		"raw too long":          {tensor(tensorProto("extra", Float, []int64{3}, raw)), "needs 12"},
		"raw and typed":         {tensor(tensorProto("extra", Float, []int64{4}, raw).bytes(4, raw)), "both"},
		"typed too short":       {tensor(tensorHeader("extra", Float, []int64{5}).bytes(4, raw)), "cannot be"},
		"typed of another type": {tensor(tensorHeader("extra", Float, []int64{4}).bytes(10, make([]byte, 32))), "another type"},
		"no data":               {tensor(tensorHeader("extra", Float, []int64{1 << 40})), "no data"},
		"two raw":               {tensor(tensorProto("extra", Float, []int64{4}, raw).bytes(9, raw)), "twice"},
		"rank":                  {tensor(tensorProto("extra", Float, make([]int64, 100), nil)), "dimensions"},
		"no name":               {tensor(tensorProto("", Float, []int64{4}, raw)), "no name"},
		"same name":             {tensor(tensorProto("word", Float, []int64{4}, raw)), "second initializer"},
		"megabyte name":         {tensor(tensorProto(huge, Float, []int64{4}, raw)), "string of 1048576 bytes"},
		"control characters":    {tensor(tensorProto("a\x1b[31m\n../../b", Float, []int64{5}, raw)), `a\x1b[31m\n`},
		"written twice":         {with(func(g *testGraph) { g.text("x = Identity(sum)") }), "also written"},
		"initializer written":   {with(func(g *testGraph) { g.text("word = Identity(sum)") }), "also written"},
		"cycle":                 {with(func(g *testGraph) { g.text("a = Identity(b)\nb = Identity(a)") }), "cycle"},
		"own input":             {with(func(g *testGraph) { g.text("a = Identity(a)") }), "cycle"},
		"unknown input":         {with(func(g *testGraph) { g.text("a = Identity(nowhere)") }), "written by nothing"},
		"unknown output":        {with(func(g *testGraph) { g.output("nowhere") }), "written by nothing"},
		"output twice":          {with(func(g *testGraph) { g.output("y") }), "repeated"},
		"input twice":           {with(func(g *testGraph) { g.input("ids", Int64, "b") }), "repeated"},
		"no outputs":            {with(func(g *testGraph) { g.outs = nil }), "no outputs"},
		"no operation":          {with(func(g *testGraph) { g.nodes = g.nodes.bytes(1, message(nil).text(2, "o")) }), "no operation"},
		"nested 100000 deep":    {nested(100000), "nested deeper"},
		"65536 x 65536 edges": {with(func(g *testGraph) {
			n := message(nil).text(4, "Foo")
			for i := range 60000 {
				n = n.text(1, "ids").text(2, "o"+itoa(int64(i)))
			}
			g.nodes = g.nodes.bytes(1, n)
		}), "edges"},
		"group":             {append(defaultTiny().graph().bytes(), 3<<3|3, 3<<3|4), "wire type"},
		"opset 3":           {func() []byte { x := defaultTiny(); x.opset = 3; return x.graph().bytes() }(), "version 3"},
		"opset 9999":        {func() []byte { x := defaultTiny(); x.opset = 9999; return x.graph().bytes() }(), "version 9999"},
		"unknown operation": {func() []byte { x := defaultTiny(); x.softmax = "p = Foo(scores)"; return x.graph().bytes() }(), "found Foo"},
		"unknown domain": {func() []byte {
			x := defaultTiny()
			x.softmax = "p = my.own:Softmax(scores) axis=-1"
			return x.graph().bytes()
		}(), "my.own:Softmax"},
		"external upwards":     {tensor(external("location", "../x")), "relative path"},
		"external nested up":   {tensor(external("location", "a/../../x")), "relative path"},
		"external absolute":    {tensor(external("location", "/etc/passwd")), "relative path"},
		"external empty":       {tensor(external("location", "")), "relative path"},
		"external NUL":         {tensor(external("location", "a\x00b")), "relative path"},
		"external nowhere":     {tensor(external("location", "nothing.bin")), "no such file"},
		"external no location": {tensor(external("offset", "0")), "without a location"},
		"external offset -1":   {tensor(external("location", "d", "offset", "-1")), "not a number"},
		"external offset 1e3":  {tensor(external("location", "d", "offset", "1e3")), "not a number"},
		"external length":      {tensor(external("location", "d", "length", "17")), "length 17"},
		"external unknown key": {tensor(external("location", "d", "__class__", "x")), "unknown key"},
	}
	return cases
}

func TestHostileFilesAreRefused(t *testing.T) {
	for name, c := range hostile() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.onnx")
			if err := os.WriteFile(path, c.model, 0o644); err != nil {
				t.Fatal(err)
			}
			err := bounded(t, path, len(c.model))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestBombs: graphs that would be large or slow if they were followed naively.
func TestBombs(t *testing.T) {
	twice := func(op string) string {
		var b strings.Builder
		b.WriteString("d0 = " + op + "(one, one)\n")
		for i := 1; i < 3000; i++ {
			prev := "d" + itoa(int64(i-1))
			b.WriteString("d" + itoa(int64(i)) + " = " + op + "(" + prev + ", " + prev + ")\n")
		}
		return b.String()
	}
	for name, change := range map[string]func(x *tiny){
		"sum doubled 3000 times": func(x *tiny) { x.scores = "s0 = MatMul(q4, k4)\n" + twice("Add") + "scores = Div(s0, d2999)" },
		"mask doubled": func(x *tiny) {
			x.mask = "d0 = Unsqueeze(mask, axes12)\n" + strings.TrimPrefix(twice("Mul"), "d0 = Mul(one, one)\n") + "added = Identity(d2999)"
		},
		"embeddings doubled": func(x *tiny) {
			x.embed += "\n" + strings.ReplaceAll(twice("Add"), "one, one", "sum, sum")
			x.norm0 = "x = LayerNormalization(d2999, g0, b0)"
		},
		"activation doubled": func(x *tiny) {
			x.gelu = strings.ReplaceAll(twice("Mul"), "one, one", "mid, mid") + "act = Identity(d2999)"
		},
		"identities 100000 deep": func(x *tiny) { x.softmax = chain("Identity", "scores", 100000, "p") },
		"constant Expand": func(x *tiny) {
			x.mask += "\nbig = Expand(low, hugeshape)\nadded2 = Add(added, big)"
			x.scores = strings.ReplaceAll(x.scores, "s1, added", "s1, added2")
		},
		"ConstantOfShape": func(x *tiny) { x.mask = "added = ConstantOfShape(hugeshape)" },
		"shape arithmetic, deep": func(x *tiny) {
			x.embed = strings.ReplaceAll(x.embed, "length = Gather(shape, one1) axis=0", "l0 = Gather(shape, one1) axis=0\n"+chain("Unsqueeze", "l0", 5000, "length"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := defaultTiny()
			x.more = func(g *testGraph) { g.ints("hugeshape", []int64{1 << 40, 1 << 20}) }
			change(&x)
			path := x.graph().write(t)
			start := time.Now()
			err := bounded(t, path, int(fileSize(t, path)))
			if spent := time.Since(start); spent > 20*time.Second {
				t.Errorf("%v", spent)
			}
			t.Log(err)
		})
	}
}

func chain(op, from string, n int, to string) string {
	var b strings.Builder
	for i := range n - 1 {
		next := to + "_" + itoa(int64(i))
		b.WriteString(next + " = " + op + "(" + from + ")\n")
		from = next
	}
	b.WriteString(to + " = " + op + "(" + from + ")\n")
	return b.String()
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestExternalPlaces: what external data may be, and may not.
func TestExternalPlaces(t *testing.T) {
	data := make([]byte, 16)
	model := func(location string) []byte {
		g := defaultTiny().graph()
		g.inits = g.inits.bytes(5, externalProto("extra", Float, []int64{4}, location, 0, 16))
		return g.bytes()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	base := t.TempDir()
	dir := filepath.Join(base, "model")
	must(os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	outside := filepath.Join(base, "secret")
	must(os.WriteFile(outside, data, 0o644))
	must(os.WriteFile(filepath.Join(dir, "sub", "good"), data, 0o644))
	must(os.WriteFile(filepath.Join(dir, "short"), data[:15], 0o644))
	must(os.Symlink(outside, filepath.Join(dir, "link")))
	must(os.Symlink("sub/good", filepath.Join(dir, "inner")))
	must(os.Symlink(base, filepath.Join(dir, "up")))
	must(os.WriteFile(filepath.Join(dir, "twin"), data, 0o644))
	must(os.Link(filepath.Join(dir, "twin"), filepath.Join(dir, "twin2")))
	makeFIFO(t, filepath.Join(dir, "fifo"))
	for location, want := range map[string]string{
		"sub/good": "", "inner": "", "short": "of a file of 15 bytes", "link": "out of the model's directory",
		"up/secret": "out of the model's directory", "twin": "hard links", "fifo": "regular file", "sub": "regular file", ".": "regular file",
	} {
		path := filepath.Join(dir, "m.onnx")
		must(os.WriteFile(path, model(location), 0o644))
		err := try(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", location, err, want)
		}
		oneLine(t, path, err)
	}

	// The Hugging Face cache: names in a snapshot are links to blobs beside one another.
	blobs, snapshot := filepath.Join(base, "hub", "blobs"), filepath.Join(base, "hub", "snapshots", "abc")
	must(os.MkdirAll(blobs, 0o755))
	must(os.MkdirAll(snapshot, 0o755))
	must(os.WriteFile(filepath.Join(blobs, "11"), model("model.onnx_data"), 0o644))
	must(os.WriteFile(filepath.Join(blobs, "22"), data, 0o644))
	must(os.Symlink("../../blobs/11", filepath.Join(snapshot, "model.onnx")))
	must(os.Symlink("../../blobs/22", filepath.Join(snapshot, "model.onnx_data")))
	if err := try(filepath.Join(snapshot, "model.onnx")); err != nil {
		t.Errorf("cache layout: %v", err)
	}
}

func TestUnreadableModels(t *testing.T) {
	dir := t.TempDir()
	makeFIFO(t, filepath.Join(dir, "fifo"))
	for _, path := range []string{filepath.Join(dir, "none.onnx"), dir, filepath.Join(dir, "fifo"), ""} {
		err := try(path)
		if fault.KindOf(err) != fault.Missing {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestNonFiniteWeights(t *testing.T) {
	path := filepath.Join(fixtureDir, "encoder-op14-fold-dynamic.onnx")
	m := recogniseFile(t, path)
	w := load(t, m)
	nan := float32(0)
	nan /= nan
	role := "encoder.layer.1.attention.key.weight"
	w[role][5] = nan
	out := filepath.Join(t.TempDir(), "nan.onnx")
	if _, err := Store(m, w, out); err != nil {
		t.Fatal(err)
	}
	m = recogniseFile(t, out)
	b, _ := m.Binding(role)
	if _, err := Load(m); err == nil || !strings.Contains(err.Error(), quote(b.Initializer)) || fault.KindOf(err) != fault.Data {
		t.Errorf("got %v", err)
	}
	m.AllowNonFinite = true
	if _, err := Load(m); err != nil {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(defaultTiny().graph().bytes())
	for _, c := range hostile() {
		if len(c.model) < 1<<16 {
			f.Add(c.model)
		}
	}
	small, err := os.ReadFile(filepath.Join(fixtureDir, "encoder-op12-fold-dynamic-nomask.onnx"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	path := filepath.Join(f.TempDir(), "m.onnx")
	f.Fuzz(func(t *testing.T, model []byte) {
		if err := os.WriteFile(path, model, 0o644); err != nil {
			t.Fatal(err)
		}
		oneLine(t, path, try(path))
		file, err := Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		for _, x := range file.Initializers { // whatever opens can be read or refused
			if _, err := file.ReadFloat64(x); err != nil && fault.KindOf(err) != fault.Data && fault.KindOf(err) != fault.Missing {
				t.Fatal(err)
			}
		}
		r, err := file.rewrite(nil)
		if err != nil {
			t.Fatal(err)
		}
		var copied bytes.Buffer
		if _, err := r.WriteTo(&copied); err != nil || !bytes.Equal(copied.Bytes(), model) {
			t.Fatalf("a copy differs: %v", err)
		}
	})
}
