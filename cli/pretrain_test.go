package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/train"
)

// toyText writes a vocabulary and documents of its words.
func toyText(t *testing.T) (dir string, flags []string) {
	t.Helper()
	dir = toyTask(t, len(words))
	for _, name := range []string{"one/a.txt", "one/b.txt", "two/c.txt", "two/d.txt", "e.txt"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for i := range 30 {
			at := i*7 + len(name) + int(name[4])
			for j := range 5 {
				b.WriteString(words[5+(at+j)%11] + " ")
			}
			b.WriteString("\n")
		}
		write(t, path, b.String())
	}
	return dir, []string{"--tokenizer", filepath.Join(dir, "vocab.txt"), "--model.layers", "2", "--model.hidden", "16", "--model.heads", "2",
		"--model.positions", "32", "--task.max_length", "20", "--train.updates", "12", "--train.micro_batch", "4", "--device.threads", "1", "--quiet"}
}

// TestPretrainFromTextToFile goes the way of a user: from text to a verified file, on from
// there as a masked LM, and to a classifier.
func TestPretrainFromTextToFile(t *testing.T) {
	dir, flags := toyText(t)
	out := filepath.Join(dir, "run")
	var s train.Summary
	object(t, &s, append([]string{"pretrain", "--train", filepath.Join(dir, "one"), "--train", filepath.Join(dir, "two"),
		"--valid", filepath.Join(dir, "e.txt"), "--sift.score", "loss", "--sift.exit_layer", "1", "--out", out}, flags...)...)
	if s.Updates != 12 || s.SamplesBackprop != 48 || s.SamplesDrawn <= 80 || s.Best == nil || s.Best.MaskedEvaluation == nil || s.Best.NSPCount == 0 {
		t.Fatalf("%+v", s)
	}
	model := filepath.Join(out, s.Model)
	for _, name := range []string{"certificate.json", "model/vocab.txt", "model/config.json", "config.yaml", "metrics.jsonl"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	var d description
	object(t, &d, "inspect", model)
	if d.Layers != 2 || d.Hidden != 16 || d.Vocab != len(words) || !d.TiedDecoder || strings.Join(d.HeadsFound, " ") == "" {
		t.Errorf("%+v", d)
	}
	if code, stdout, stderr := run("verify", model, "--run", out); code != 0 || !strings.Contains(stdout, "prediction_logits") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	var a, b train.Evaluation
	object(t, &a, "eval", out, filepath.Join(dir, "e.txt"))
	object(t, &b, "eval", model, filepath.Join(dir, "e.txt"), "--max-length", "20")
	if a.N == 0 || a.N != b.N || a.Accuracy != b.Accuracy || a.N != s.Best.N || a.Accuracy != s.Best.Accuracy {
		t.Errorf("run %+v, file %+v, validation %+v", a, b, s.Best)
	}
	exported := filepath.Join(dir, "m.onnx")
	if code, stdout, stderr := run("export", out, "--out", exported); code != 0 || !strings.Contains(stdout, "verified against the trained model") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	if code, _, stderr := run("predict", out, "--say", "good"); code != 65 || !strings.Contains(stderr, "masked LM") {
		t.Errorf("exit %d: %s", code, stderr)
	}

	// Half precision: smaller, verified, and refused where the graph is someone else's.
	small := filepath.Join(dir, "small.onnx")
	if code, _, stderr := run("export", out, "--half", "--out", small, "--certificate", filepath.Join(dir, "small.json")); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	a1, err := os.Stat(exported)
	if err != nil {
		t.Fatal(err)
	}
	a2, err := os.Stat(small)
	if err != nil || a2.Size() >= a1.Size() {
		t.Errorf("%v; %v bytes in half precision, %d in full", err, a2, a1.Size())
	}

	further := filepath.Join(dir, "further")
	s = train.Summary{}
	object(t, &s, append([]string{"finetune", "--task", "mlm", "--model", exported, "--train", filepath.Join(dir, "one"), "--out", further}, flags...)...)
	if s.Updates != 12 {
		t.Errorf("%+v", s)
	}
	if code, _, stderr := run("export", further, "--half", "--out", filepath.Join(dir, "no.onnx")); code != 64 || !strings.Contains(stderr, "go back into this graph") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	task := filepath.Join(dir, "task")
	object(t, &s, append([]string{"finetune", "--model", filepath.Join(further, s.Model), "--train", filepath.Join(dir, "train.tsv"),
		"--valid", filepath.Join(dir, "valid.tsv"), "--out", task}, flags...)...)
	if s.Best == nil || s.Best.ClassEvaluation == nil || s.Best.N != 32 {
		t.Errorf("%+v", s)
	}
}

// TestPretrainResumes continues a finished run with more to do refused, and a run as it was.
func TestPretrainResumes(t *testing.T) {
	dir, flags := toyText(t)
	out := filepath.Join(dir, "run")
	args := append([]string{"pretrain", "--train", filepath.Join(dir, "one"), "--out", out, "--data.valid_share", "0.5"}, flags...)
	if code, _, stderr := run(args...); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, k := range []struct {
		code int
		want string
		args []string
	}{
		{73, "already a run", args},
		{78, "cannot resume with another configuration: train.updates is 13, was 12", append(args, "--resume", "--train.updates", "13")},
		{0, "", []string{"pretrain", "--resume", "--out", out, "--device.threads", "1"}},
	} {
		code, _, stderr := run(k.args...)
		if code != k.code || !strings.Contains(stderr, k.want) {
			t.Errorf("exit %d, want %d with %q: %s", code, k.code, k.want, stderr)
		}
	}
}

func TestPretrainRefuses(t *testing.T) {
	dir, flags := toyText(t)
	binary := filepath.Join(dir, "one", "z.txt")
	for name, k := range map[string]struct {
		code int
		want string
		args []string
	}{
		"no out":            {64, "--out: a run directory is needed; see sift pretrain --help", []string{"--train", dir + "/e.txt"}},
		"no text":           {78, "data.train: not set: must be text files, directories of them, or prepared data", []string{"--out", dir + "/r"}},
		"absent":            {66, "absent.txt: no such file", []string{"--out", dir + "/r", "--train", dir + "/absent.txt"}},
		"one is absent":     {66, "absent: no such file", []string{"--out", dir + "/r", "--train", dir + "/e.txt", "--train", dir + "/absent"}},
		"UTF-16":            {65, "z.txt: is UTF-16", []string{"--out", dir + "/r", "--train", dir + "/one"}},
		"mask share":        {78, "data.mask_probability: 1", []string{"--out", dir + "/r", "--train", dir + "/two", "--data.mask_probability", "1"}},
		"replacement":       {78, "data.mask_replace: [0.5 0.6 0.1]", []string{"--out", dir + "/r", "--train", dir + "/two", "--data.mask_replace", "0.5,0.6,0.1"}},
		"replacement words": {78, `data.mask_replace: "x" is not a number`, []string{"--out", dir + "/r", "--train", dir + "/two", "--data.mask_replace", "x"}},
		"heads":             {78, "model.heads: 3: must divide model.hidden", []string{"--out", dir + "/r", "--train", dir + "/two", "--model.heads", "3"}},
		"too long":          {78, "task.max_length: 40: the model has positions for 32 tokens", []string{"--out", dir + "/r", "--train", dir + "/two", "--task.max_length", "40"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "UTF-16" {
				write(t, binary, "\xff\xfeg\x00o\x00")
				defer os.Remove(binary)
			}
			code, stdout, stderr := run(append(append([]string{"pretrain"}, flags...), k.args...)...)
			if code != k.code || !strings.Contains(stderr, k.want) || stdout != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit %d, want %d with %q:\n%s%s", code, k.code, k.want, stdout, stderr)
			}
			if _, err := os.Stat(filepath.Join(dir, "r")); !os.IsNotExist(err) {
				t.Error("a run directory was left behind")
			}
		})
	}
}

// TestPathsOfConfiguration: one text, a list, repeated flags, a variable; commas are part of
// a name.
func TestPathsOfConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	for name, k := range map[string]struct {
		yaml, env string
		args      []string
		want      []string
	}{
		"one":      {"data:\n  train: a,b.txt\n", "", nil, []string{"a,b.txt"}},
		"list":     {"data:\n  train: [a, b]\n", "", nil, []string{"a", "b"}},
		"flags":    {"data:\n  train: [a, b]\n", "", []string{"--train", "c,d", "--train", "e"}, []string{"c,d", "e"}},
		"variable": {"data:\n  train: a\n", "x,y", nil, []string{"x,y"}},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, file, k.yaml)
			if k.env != "" {
				t.Setenv("SIFT_DATA_TRAIN", k.env)
			}
			var got map[string]struct{ Value any }
			object(t, &got, append([]string{"config", "--config", file}, k.args...)...)
			list, _ := got["data.train"].Value.([]any)
			if len(list) != len(k.want) {
				t.Fatalf("%v, want %v", got["data.train"], k.want)
			}
			for i := range list {
				if list[i] != k.want[i] {
					t.Errorf("%v, want %v", list, k.want)
				}
			}
		})
	}
}
