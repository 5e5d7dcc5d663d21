package verify_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sift/backend"
	"sift/bert"
	"sift/bert/berttest"
	"sift/onnx"
	"sift/onnx/eval"
	"sift/text"
	"sift/verify"
	"sift/verify/orttest"
)

// miniLM returns where scripts/minilm has put all-MiniLM-L6-v2, or skips the test if it has
// not. With SIFT_REQUIRE_MINILM=1 that is a failure.
func miniLM(t testing.TB) (model, tokenizer string) {
	t.Helper()
	model, tokenizer = "../build/minilm/model.onnx", "../build/minilm/tokenizer.json"
	for _, path := range []string{model, tokenizer} {
		if _, err := os.Stat(path); err != nil {
			if os.Getenv("SIFT_REQUIRE_MINILM") == "1" {
				t.Fatalf("all-MiniLM-L6-v2 is required: %v", err)
			}
			t.Skip("all-MiniLM-L6-v2 is not in build/minilm: scripts/minilm fetches it")
		}
	}
	return model, tokenizer
}

// reviews tokenises the first n film reviews of the test file, with their labels.
func reviews(t testing.TB, tokenizer string, n int) (list []text.Encoding, labels []int32) {
	t.Helper()
	tok, err := text.Load(tokenizer)
	check(t, err)
	d, err := text.ReadTSV(berttest.Path(t, "labelled", "rt-polarity", "test.tsv"), text.Columns{Text: "sentence", Label: "label"}, nil)
	check(t, err)
	if len(d.Examples) < n {
		t.Fatalf("only %d sentences", len(d.Examples))
	}
	for _, x := range d.Examples[:n] {
		list = append(list, tok.Encode(x.A, "", 128))
		labels = append(labels, x.Label)
	}
	return list, labels
}

// pad puts sentences into one padded batch.
func pad(list []text.Encoding, padding int32) verify.Inputs {
	in := verify.Inputs{Source: "text", Batch: len(list)}
	for _, q := range list {
		in.Length = max(in.Length, len(q.IDs))
	}
	for _, q := range list {
		for i := range in.Length {
			id, valid, kind := padding, int64(0), int32(0)
			if i < len(q.IDs) {
				id, valid, kind = q.IDs[i], 1, q.Types[i]
			}
			in.IDs, in.Mask, in.Types = append(in.IDs, int64(id)), append(in.Mask, valid), append(in.Types, int64(kind))
		}
	}
	return in
}

// TestMiniLMEmbeddings: the token embeddings of 100 real sentences, each run by the engine
// packed and without padding, are those that ONNX Runtime computes from the imported file
// for padded batches of 25.
func TestMiniLMEmbeddings(t *testing.T) {
	path, tokenizer := miniLM(t)
	orttest.Require(t)
	_, m := recognise(t, path)
	w, err := onnx.Load(m)
	check(t, err)
	list, _ := reviews(t, tokenizer, 100)
	p := bert.NewPacker(bert.Limits{})
	for i, q := range list {
		check(t, p.AddSequence(bert.Sequence{IDs: q.IDs, Types: q.Types, SampleID: uint64(i)}))
	}
	b := p.Batch()
	model, err := bert.NewModel(processor(t), m.Config, b.Limits())
	check(t, err)
	defer model.Free()
	check(t, model.SetWeights(w))
	hidden, err := model.Hidden(b, m.Config.Layers, nil)
	check(t, err)
	output := slices.IndexFunc(m.Outputs, func(o onnx.Output) bool { return o.Kind == "hidden" && o.Layer == m.Config.Layers })
	if output < 0 {
		t.Fatalf("no token embeddings among %v", m.Outputs)
	}
	h, done := m.Config.Hidden, 0
	cases := []orttest.Case{}
	for part := range slices.Chunk(list, 25) {
		in := pad(part, 0)
		want := make([]float64, in.Batch*in.Length*h)
		rows := []int{}
		for s, q := range part {
			for i := range q.IDs {
				at := s*in.Length + i
				rows = append(rows, at)
				for k, v := range hidden[(b.First(done+s)+i)*h:][:h] {
					want[at*h+k] = float64(v)
				}
			}
		}
		done += len(part)
		if len(rows) == in.Batch*in.Length {
			t.Error("a batch without padding")
		}
		cases = append(cases, orttest.Case{Name: in.String(), Inputs: feed(t, m, in), Outputs: map[string]orttest.Expected{
			m.Outputs[output].Name: {Tensor: eval.Floats(want, in.Batch, in.Length, h), Rows: rows}}})
	}
	elements, worst := 0, 0.0
	for _, r := range orttest.Check(t, path, 1e-4, 1e-4, cases) {
		for _, o := range r.Outputs {
			elements, worst = elements+o.Elements, max(worst, o.MaxAbs)
		}
	}
	if done != 100 || elements != b.Rows*h || b.Rows < 1500 {
		t.Errorf("compared %d elements of %d sentences with %d tokens", elements, done, b.Rows)
	}
	t.Logf("%d tokens of %d sentences: largest difference %.2g", b.Rows, done, worst)
}

// TestMiniLMExport takes the real model through all that can become of it: stored as it
// was, the same bytes; trained for a step on real sentences, only payloads that differ;
// with a classifier grafted on, a file that the evaluator and ONNX Runtime agree with the
// trained model about.
func TestMiniLMExport(t *testing.T) {
	path, tokenizer := miniLM(t)
	_, m := recognise(t, path)
	before, err := onnx.Load(m)
	check(t, err)
	imported := contents(t, path)
	dir := t.TempDir()

	untouched := filepath.Join(dir, "untouched.onnx")
	changes, err := onnx.Store(m, before, untouched)
	check(t, err)
	if len(changes.Patched)+len(changes.Added) > 0 || !bytes.Equal(imported, contents(t, untouched)) {
		t.Errorf("stored as it was it is another file: %+v", changes)
	}

	dev := processor(t)
	cfg, w := withClassifier(t, m.Config, before, 2)
	list, labels := reviews(t, tokenizer, 12)
	p := bert.NewPacker(bert.Limits{})
	p.Classification = true
	for i, q := range list {
		check(t, p.AddSequence(bert.Sequence{IDs: q.IDs, Types: q.Types, Label: labels[i], SampleID: uint64(i)}))
	}
	after := trainedOnce(t, dev, cfg, w, p.Batch(), 1e-4)

	trained := filepath.Join(dir, "trained.onnx")
	trunk := trunkOf(t, m.Config, after)
	changes, err = onnx.Store(m, trunk, trained)
	check(t, err)
	wireDifference(t, imported, contents(t, trained), changes)
	if want := moved(m, before, trunk); len(changes.Added) > 0 || !slices.Equal(slices.Sorted(slices.Values(changes.Patched)), want) {
		t.Errorf("changes %+v, trained %v", changes, want)
	}
	if len(changes.Patched) < 100 { // 6 layers of 16, and 5 below them
		t.Errorf("only %d initializers were trained", len(changes.Patched))
	}

	grafted := filepath.Join(dir, "grafted.onnx")
	changes, err = onnx.Export(m, cfg, after, grafted)
	check(t, err)
	wireDifference(t, imported, contents(t, grafted), changes)
	if len(changes.Outputs) != 1 || len(changes.Nodes) != 1 || len(changes.Added) != 2 {
		t.Errorf("grafted %+v", changes)
	}
	_, again := recognise(t, grafted)
	agreeLarge(t, dev, again, cfg, after, list)
}

// agreeLarge is agree for a model of ordinary size: the evaluator takes two small batches,
// and ONNX Runtime compares token embeddings on the smaller ones only.
func agreeLarge(t *testing.T, dev backend.Device, m *onnx.Match, cfg bert.Config, w bert.Weights, list []text.Encoding) {
	t.Helper()
	e, err := verify.NewModelEngine(dev, cfg, w, m)
	check(t, err)
	defer e.Close()
	c, err := verify.Run(context.Background(), verify.Options{Model: m.File, Match: m, Engine: e.Run, EngineName: "the trained model",
		Batches: []int{1, 3}, Lengths: []int{1, 17}})
	check(t, err)
	check(t, c.Err())
	orttest.Require(t)
	cases := []orttest.Case{ortCase(t, e, m, pad(list, 0))}
	for _, s := range sizes(m) {
		in := padded(m, s.Batch, s.Length, 4)
		if s.Batch*s.Length <= 256 {
			cases = append(cases, ortCase(t, e, m, in))
		} else {
			cases = append(cases, ortCase(t, e, m, in, "logits", "pooled"))
		}
	}
	if len(cases) != 13 {
		t.Errorf("only %d batches", len(cases))
	}
	spread(t, m, cases)
	orttest.Check(t, m.File.Path, 1e-4, 1e-4, cases)
}
