package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sift/backend/cpu"
	"sift/bert"
	"sift/fault"
	"sift/onnx"
	"sift/verify"
)

const fixtures = "../testdata/onnx"

// engineFixtures have a head that the engine computes.
func engineFixtures(t *testing.T) []string {
	paths, _ := filepath.Glob(filepath.Join(fixtures, "*.onnx"))
	list := []string{}
	for _, p := range paths {
		name := filepath.Base(p)
		if name == "quantised.onnx" || strings.HasPrefix(name, "token_") || strings.HasPrefix(name, "question_") {
			continue
		}
		list = append(list, p)
	}
	if len(list) < 15 {
		t.Fatalf("only %d fixtures", len(list))
	}
	return list
}

func recognise(t *testing.T, path string) (*onnx.File, *onnx.Match) {
	t.Helper()
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := onnx.Recognise(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, m
}

func engine(t *testing.T, cfg bert.Config, w bert.Weights, m *onnx.Match) verify.Engine {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	e, err := verify.NewModelEngine(dev, cfg, w, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e.Run
}

// TestEngineAgreesWithGraphs is the proof itself on every fixture: the graph in float64
// and the engine in float32 from the weights that were imported.
func TestEngineAgreesWithGraphs(t *testing.T) {
	for _, path := range engineFixtures(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f, m := recognise(t, path)
			w, err := onnx.Load(m)
			if err != nil {
				t.Fatal(err)
			}
			c, err := verify.Run(context.Background(), verify.Options{
				Model: f, Match: m, Engine: engine(t, m.Config, w, m), Seed: 1,
				Texts: []verify.Sequence{{IDs: []int32{1, 2, 3}}, {IDs: []int32{4}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Err(); err != nil {
				t.Fatal(err)
			}
			if len(c.Unchecked) > 0 {
				t.Errorf("not compared: %v", c.Unchecked)
			}
			// {1,3,8} x {1,17,24} and a batch of texts, or two where there is no mask for padding.
			if n := len(c.Inputs); strings.Contains(path, "dynamic") && n != 10 && !(n == 11 && m.Inputs.Mask == "") {
				t.Errorf("inputs tried: %+v", c.Inputs)
			}
			for _, o := range c.Outputs {
				if o.Elements == 0 || !(o.MaxAbsolute < 2e-5) {
					t.Errorf("%s: %d elements, largest difference %g", o.Name, o.Elements, o.MaxAbsolute)
				}
				if o.ArgmaxAgree != o.ArgmaxRows {
					t.Errorf("%s: %d of %d predictions agree", o.Name, o.ArgmaxAgree, o.ArgmaxRows)
				}
				t.Logf("%s: largest difference %.2g, relative %.2g over %d elements", o.Name, o.MaxAbsolute, o.MaxRelative, o.Elements)
			}
		})
	}
}

// TestDifferenceIsFound changes single weights by a little and expects the answer no.
func TestDifferenceIsFound(t *testing.T) {
	f, m := recognise(t, filepath.Join(fixtures, "pretraining-op13-fold-dynamic.onnx"))
	for _, role := range []string{
		"embeddings.word.weight", "embeddings.token_type.weight", "encoder.layer.1.attention.key.weight",
		"encoder.layer.0.output.norm.bias", "pooler.bias", "mlm.decoder.bias", "nsp.weight",
	} {
		w, err := onnx.Load(m)
		if err != nil {
			t.Fatal(err)
		}
		if len(w[role]) == 0 {
			t.Fatalf("no weight %s", role)
		}
		for i := range w[role] {
			if i%3 == 0 {
				w[role][i] += 0.01
			}
		}
		c, err := verify.Run(context.Background(), verify.Options{Model: f, Match: m, Engine: engine(t, m.Config, w, m), EngineName: "changed"})
		if err != nil {
			t.Fatal(err)
		}
		if c.Agrees() || fault.KindOf(c.Err()) != fault.Answer {
			t.Errorf("%s changed, and the verdict is %q, %v", role, c.Verdict, c.Err())
		}
	}
}

// TestNotANumber: a model that gives NaN agrees with nothing, not even itself.
func TestNotANumber(t *testing.T) {
	f, m := recognise(t, filepath.Join(fixtures, "sequence_classification-op14-fold-dynamic.onnx"))
	w, err := onnx.Load(m)
	if err != nil {
		t.Fatal(err)
	}
	good := engine(t, m.Config, w, m)
	bad := func(in verify.Inputs) (map[string][]float64, error) {
		out, err := good(in)
		for _, v := range out {
			zero := 0.0
			v[0] = zero / zero
		}
		return out, err
	}
	c, err := verify.Run(context.Background(), verify.Options{Model: f, Match: m, Engine: bad})
	if err != nil {
		t.Fatal(err)
	}
	if c.Agrees() || c.Outputs[0].NotFinite == 0 || c.Err() == nil {
		t.Errorf("%+v", c)
	}
	if err := verify.Write(filepath.Join(t.TempDir(), "certificate.json"), c); err != nil {
		t.Errorf("a certificate with figures that are not numbers: %v", err)
	}
}

// TestTwoFiles compares graphs with each other, also where they are not recognised.
func TestTwoFiles(t *testing.T) {
	const a, b = "pretraining-op11-nofold-dynamic.onnx", "pretraining-op13-fold-dynamic.onnx" // one model, two exports
	for _, c := range []struct {
		name, a, b string
		match      bool
		agrees     bool
	}{
		{"two exports", a, b, true, true},
		{"two exports, by input names", a, b, false, true},
		{"static axes decide", b, "pretraining-op14-fold-static-tanh.onnx", true, false}, // another GELU
		{"other weights", b, "pretraining-op13-nofold-dynamic-fresh.onnx", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fa, ma := recognise(t, filepath.Join(fixtures, c.a))
			fb, mb := recognise(t, filepath.Join(fixtures, c.b))
			if !c.match {
				ma, mb = nil, nil
			}
			cert, err := verify.Run(context.Background(), verify.Options{Model: fa, Match: ma, Other: fb, OtherMatch: mb, Lengths: []int{1, 9}})
			if err != nil {
				t.Fatal(err)
			}
			if cert.Agrees() != c.agrees || (cert.Err() == nil) != c.agrees {
				t.Errorf("verdict %q: %v", cert.Verdict, cert.Err())
			}
			if strings.HasPrefix(c.name, "static") && (len(cert.Inputs) != 1 || cert.Inputs[0].Shape != verify.Shape{Batch: 2, Length: 7}) {
				t.Errorf("inputs tried: %+v", cert.Inputs)
			}
			for _, o := range cert.Outputs {
				t.Logf("%s: %+v", cert.Verdict, o)
			}
		})
	}
}

// TestCertificate: the same comparison gives the same bytes, and they say what was done.
func TestCertificate(t *testing.T) {
	var files [2][]byte
	for i := range files {
		f, m := recognise(t, filepath.Join(fixtures, "sequence_classification-op14-fold-dynamic-external.onnx"))
		w, err := onnx.Load(m)
		if err != nil {
			t.Fatal(err)
		}
		c, err := verify.Run(context.Background(), verify.Options{
			Model: f, Match: m, Engine: engine(t, m.Config, w, m), EngineName: "imported weights", Seed: 7, Tool: "sift 1", Budget: 1e6,
		})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "certificate.json")
		if err := verify.Write(path, c); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Errorf("two certificates differ:\n%s\n%s", files[0], files[1])
	}
	var c verify.Certificate
	if err := json.Unmarshal(files[0], &c); err != nil {
		t.Fatal(err)
	}
	if c.Verdict != "agree" || c.Tool != "sift 1" || c.Seed != 7 || len(c.Model.SHA256) != 64 || c.Reference.Name != "imported weights" ||
		len(c.External) != 1 || len(c.Outputs) != 1 || len(c.NotTried) == 0 || c.Date != "" {
		t.Errorf("%s", files[0])
	}
}

func TestRefuses(t *testing.T) {
	f, m := recognise(t, filepath.Join(fixtures, "sequence_classification-op14-fold-dynamic.onnx"))
	nothing := func(verify.Inputs) (map[string][]float64, error) { return nil, nil }
	short := func(verify.Inputs) (map[string][]float64, error) {
		return map[string][]float64{f.Outputs[0].Name: {1}}, nil
	}
	broken := fault.New(fault.Device, "lost")
	failing := func(verify.Inputs) (map[string][]float64, error) { return nil, broken }
	for name, c := range map[string]struct {
		engine verify.Engine
		kind   fault.Kind
		says   string
	}{
		"no common output": {nothing, fault.Data, "none of its outputs"},
		"another shape":    {short, fault.Data, "elements"},
		"a failing engine": {failing, fault.Device, "lost"},
	} {
		_, err := verify.Run(context.Background(), verify.Options{Model: f, Match: m, Engine: c.engine, Batches: []int{3}})
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := verify.Run(ctx, verify.Options{Model: f, Match: m, Engine: nothing}); err == nil {
		t.Error("a cancelled run gave a certificate")
	}
	long := verify.Options{Model: f, Match: m, Engine: nothing, Texts: []verify.Sequence{{IDs: slices.Repeat([]int32{1 << 30}, 3)}}}
	if _, err := verify.Run(context.Background(), long); err == nil || !strings.Contains(err.Error(), "vocabulary") {
		t.Errorf("a token out of range: %v", err)
	}
}
