package verify_test

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/backend"
	"sift/bert"
	"sift/bert/berttest"
	"sift/onnx"
	"sift/onnx/eval"
	"sift/verify"
	"sift/verify/orttest"
)

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	return b
}

// moved lists the initializers whose parameters a training step changed, as the matcher
// binds them; a tied decoder's copy changes with the embeddings.
func moved(m *onnx.Match, before, after bert.Weights) []string {
	list := []string{}
	for _, b := range m.Roles {
		role := b.Role
		if b.Copy {
			role = bert.RoleWord
		}
		if !slices.Equal(before[role], after[role]) && !slices.Contains(list, b.Initializer) {
			list = append(list, b.Initializer)
		}
	}
	slices.Sort(list)
	return list
}

// TestTrainedPayloadsOnly trains every fixture for a real step, on its own heads or on a
// classifier that is then dropped, stores it, and compares the files field by field: the
// elements of the trained parameters differ, and nothing else but what is listed.
func TestTrainedPayloadsOnly(t *testing.T) {
	dev := processor(t)
	added := 0
	for _, x := range berttest.Fixtures(t) {
		t.Run(x.File, func(t *testing.T) {
			path := filepath.Join(fixtures, x.File)
			_, m := recognise(t, path)
			before, err := onnx.Load(m)
			check(t, err)
			cfg, w := m.Config, before
			if cfg.Classes == 0 && !cfg.HasMLM && !cfg.HasNSP {
				cfg, w = withClassifier(t, cfg, w, 2)
			}
			after := trunkOf(t, m.Config, trainedOnce(t, dev, cfg, w, labelledBatch(t, cfg, 1), 1e-2))
			out := filepath.Join(t.TempDir(), "out.onnx")
			changes, err := onnx.Store(m, after, out)
			check(t, err)
			wireDifference(t, contents(t, path), contents(t, out), changes)
			if len(changes.Nodes)+len(changes.Outputs) > 0 {
				t.Errorf("new nodes %v, outputs %v", changes.Nodes, changes.Outputs)
			}
			added += len(changes.Added)
			want := moved(m, before, after)
			if got := slices.Sorted(slices.Values(changes.Patched)); len(changes.Added) == 0 && !slices.Equal(got, want) {
				t.Errorf("patched %v, trained %v", got, want)
			}
			if len(want) < 10 {
				t.Errorf("the step trained only %v", want)
			}
		})
	}
	if added == 0 {
		t.Error("no fixture needed a new initializer")
	}
}

// TestGraftedFixtures puts a classifier (and a pooler) on every fixture, or one of another
// size in place of its own, trains it for a step, exports it, and holds the file against
// the trained model: in the float64 evaluator and in ONNX Runtime, on padded batches.
func TestGraftedFixtures(t *testing.T) {
	dev := processor(t)
	var opsets, poolers [32]int
	jobs, dir := []orttest.Job{}, t.TempDir()
	for _, x := range berttest.Fixtures(t) {
		t.Run(x.File, func(t *testing.T) {
			path := filepath.Join(fixtures, x.File)
			f, m := recognise(t, path)
			w, err := onnx.Load(m)
			check(t, err)
			cfg, w := withClassifier(t, m.Config, w, 4)
			w = trainedOnce(t, dev, cfg, w, labelledBatch(t, cfg, 2), 1e-2)
			out := filepath.Join(dir, x.File)
			changes, err := onnx.Export(m, cfg, w, out)
			check(t, err)
			resized := []string{}
			if m.Config.Classes > 0 {
				for _, role := range []string{bert.RoleClassWeight, bert.RoleClassBias} {
					b, _ := m.Binding(role)
					resized = append(resized, b.Initializer)
				}
				resized = append(resized, m.Outputs[0].Name)
			} else {
				opsets[f.Opset()]++
				if !m.Config.HasPooler {
					poolers[f.Opset()]++
				}
			}
			wireDifference(t, contents(t, path), contents(t, out), changes, resized...)

			_, again := recognise(t, out)
			stored := map[string]int{}
			for _, b := range again.Roles {
				stored[b.DType.String()]++
			}
			if len(stored) > 1 || stored["float32"] == 0 { // weights were rounded when they were stored
				if w, err = onnx.Load(again); err != nil {
					t.Fatal(err)
				}
			}
			jobs = append(jobs, orttest.Job{Model: out, Atol: 1e-4, Rtol: 1e-4, Cases: agree(t, dev, again, cfg, w)})
		})
	}
	if len(jobs) == len(berttest.Fixtures(t)) { // else -run chose some, or they failed
		for _, opset := range []int{11, 13, 14, 17} {
			if opsets[opset] == 0 {
				t.Errorf("no classifier was grafted at opset %d", opset)
			}
		}
		if poolers[11] == 0 || poolers[13] == 0 || poolers[14] == 0 {
			t.Errorf("poolers grafted by opset: %v", poolers)
		}
	}
	results, err := orttest.Run(orttest.Require(t), t.TempDir(), jobs)
	check(t, err)
	for i, j := range jobs {
		orttest.Report(t, j.Model, results[i])
	}
}

// agree holds a file against a model in the float64 evaluator, every output. It returns
// what ONNX Runtime must give, at batch 1, 3 and 8, and lengths 1, 17, 128 or as long as
// the model allows.
func agree(t *testing.T, dev backend.Device, m *onnx.Match, cfg bert.Config, w bert.Weights) []orttest.Case {
	t.Helper()
	e, err := verify.NewModelEngine(dev, cfg, w, m)
	check(t, err)
	defer e.Close()
	c, err := verify.Run(context.Background(), verify.Options{Model: m.File, Match: m, Engine: e.Run, EngineName: "the trained model", Seed: 9})
	check(t, err)
	check(t, c.Err())
	if !slices.ContainsFunc(c.Outputs, func(f verify.Figures) bool { return f.Kind == "logits" && f.Elements > 0 }) {
		t.Errorf("the logits were not compared: %+v", c.Outputs)
	}
	cases := []orttest.Case{}
	for _, s := range sizes(m) {
		cases = append(cases, ortCase(t, e, m, padded(m, s.Batch, s.Length, 4)))
	}
	spread(t, m, cases)
	return cases
}

// sizes lists the batches to try: what a static graph prescribes, or batch 1, 3 and 8 by
// length 1, 17, 128 and the longest.
func sizes(m *onnx.Match) []verify.Shape {
	batches, lengths := []int{1, 3, 8}, []int{}
	for _, v := range m.File.Inputs {
		if v.Name == m.Inputs.IDs && v.Dims[0].Param == "" && v.Dims[1].Param == "" {
			return []verify.Shape{{Batch: int(v.Dims[0].Value), Length: int(v.Dims[1].Value)}}
		}
	}
	for _, l := range []int{1, 17, 128, m.Config.MaxTokens()} {
		if l = min(l, m.Config.MaxTokens()); !slices.Contains(lengths, l) {
			lengths = append(lengths, l)
		}
	}
	list := []verify.Shape{}
	for _, b := range batches {
		for _, l := range lengths {
			list = append(list, verify.Shape{Batch: b, Length: l})
		}
	}
	return list
}

// ortCase runs the engine on a batch: what ONNX Runtime must give for it, wherever the
// mask is not zero. With outputs given, only these.
func ortCase(t testing.TB, e *verify.ModelEngine, m *onnx.Match, in verify.Inputs, outputs ...string) orttest.Case {
	t.Helper()
	got, err := e.Run(in)
	check(t, err)
	want := map[string]orttest.Expected{}
	for _, o := range m.Outputs {
		y, ok := got[o.Name]
		if !ok || len(outputs) > 0 && !slices.Contains(outputs, o.Kind) {
			continue
		}
		rows := in.Batch
		x := orttest.Expected{}
		if o.Kind == "hidden" || o.Kind == "mlm" {
			rows *= in.Length
			x.Rows = []int{}
			for row, valid := range in.Mask {
				if valid != 0 {
					x.Rows = append(x.Rows, row)
				}
			}
			x.Tensor = eval.Floats(y, in.Batch, in.Length, len(y)/rows)
		} else {
			x.Tensor = eval.Floats(y, in.Batch, len(y)/rows)
		}
		want[o.Name] = x
	}
	if len(want) == 0 {
		t.Fatalf("the engine gives none of %v", m.Outputs)
	}
	return orttest.Case{Name: in.String(), Inputs: feed(t, m, in), Outputs: want}
}

// spread requires that the logits differ between sequences by more than any tolerance.
func spread(t testing.TB, m *onnx.Match, cases []orttest.Case) {
	t.Helper()
	i := slices.IndexFunc(m.Outputs, func(o onnx.Output) bool { return o.Kind == "logits" })
	if i < 0 {
		t.Fatalf("no logits among %v", m.Outputs)
	}
	lowest, highest := math.Inf(1), math.Inf(-1)
	for _, c := range cases {
		y := c.Outputs[m.Outputs[i].Name]
		for k := 0; k < len(y.F); k += y.Dims[1] {
			lowest, highest = min(lowest, y.F[k]), max(highest, y.F[k])
		}
	}
	if !(highest-lowest > 0.05) {
		t.Errorf("the first class has logits from %g to %g: too alike to tell one sequence from another", lowest, highest)
	}
}

// TestWireDifferenceFinds: the comparison itself can say no.
func TestWireDifferenceFinds(t *testing.T) {
	path := filepath.Join(fixtures, "encoder-op14-fold-dynamic.onnx")
	_, m := recognise(t, path)
	w, err := onnx.Load(m)
	check(t, err)
	w[bert.RolePoolerBias][1] += 0.5
	out := filepath.Join(t.TempDir(), "out.onnx")
	changes, err := onnx.Store(m, w, out)
	check(t, err)
	good, before := contents(t, out), contents(t, path)
	if len(changes.Patched) != 1 {
		t.Fatalf("patched %v", changes.Patched)
	}
	name := changes.Patched[0]
	other := slices.IndexFunc(m.Roles, func(b onnx.Binding) bool { return b.Initializer != name })
	for what, c := range map[string]struct {
		after   []byte
		changes onnx.Changes
		says    string
	}{
		"a payload that is not listed": {good, onnx.Changes{}, "payloads that differ"},
		"a payload that is as it was":  {before, *changes, "payloads that differ"},
		"an initializer that is new":   {good, onnx.Changes{Patched: changes.Patched, Added: []string{"x"}}, "new initializers"},
		"an operation":                 {bytes.Replace(good, []byte("Softmax"), []byte("Hardmax"), 1), *changes, "node"},
		"a name":                       {bytes.Replace(good, []byte(m.Roles[other].Initializer), bytes.Repeat([]byte("x"), len(m.Roles[other].Initializer)), 1), *changes, "differs"},
		"the producer":                 {bytes.Replace(good, []byte("pytorch"), []byte("pyt0rch"), 1), *changes, "of the model differs"},
		"a dimension of the graph":     {bytes.Replace(good, []byte("batch"), []byte("botch"), 1), *changes, "of the graph differs"},
	} {
		said := &recorder{TB: t}
		func() {
			defer func() {
				if r := recover(); r != nil && r != said {
					panic(r)
				}
			}()
			wireDifference(said, before, c.after, &c.changes)
		}()
		if !strings.Contains(strings.Join(said.lines, "\n"), c.says) {
			t.Errorf("%s: said %q", what, said.lines)
		}
	}
	said := &recorder{TB: t}
	wireDifference(said, before, good, changes)
	if len(said.lines) > 0 {
		t.Errorf("said %q of a good file", said.lines)
	}
}
