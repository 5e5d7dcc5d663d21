package cli

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/verify"
)

// precisionCase is how a device fine-tunes in a precision: what its certificate notes, how
// far losses may be from the processor's, and what else holds of the run.
type precisionCase struct {
	precision, note string
	tolerance       float64
	also            func(t *testing.T, stdout string, summary map[string]any)
}

// finetuneOn takes a fixture from file to verified file on a device: the run says what it
// ran on, its export is proved like any other, the processor agrees with what it measured,
// and a finished run is taken up again on its device only.
func finetuneOn(t *testing.T, device string, cases []precisionCase) {
	t.Helper()
	kind, _, _ := strings.Cut(device, ":")
	model := fixtures + "encoder-op14-fold-dynamic.onnx"
	var d description
	object(t, &d, "inspect", model)
	dir := toyTask(t, d.Vocab)
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range cases {
		out := in(c.precision)
		read := func(name string, into any) {
			t.Helper()
			data, err := os.ReadFile(filepath.Join(out, name))
			if err == nil {
				err = json.Unmarshal(data, into)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		code, stdout, stderr := run("finetune", "--out", out, "--model", model, "--tokenizer", in("vocab.txt"), "--train", in("train.tsv"), "--valid", in("valid.tsv"),
			"--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12", "--train.micro_batch", "8",
			"--optimizer.lr", "1e-2", "--train.updates", "30", "--sift.score", "loss", "--device", device, "--train.precision", c.precision,
			"--sift.score_precision", c.precision)
		if code != 0 || !strings.Contains(stderr, "device: "+kind) || !strings.Contains(stderr, "export agrees with the trained model") {
			t.Fatalf("%s: exit %d: %s%s", c.precision, code, stdout, stderr)
		}
		var summary struct {
			Best struct{ Accuracy, Loss float64 }
		}
		read("summary.json", &summary)
		if c.also != nil {
			var all map[string]any
			read("summary.json", &all)
			c.also(t, stdout, all)
		}
		var cert verify.Certificate
		read("certificate.json", &cert)
		notes := strings.Join(cert.Notes, " ")
		if cert.Verdict != "agree" || c.note == "" && strings.Contains(notes, "float16") || !strings.Contains(notes, c.note) {
			t.Errorf("%s: certificate %s with notes %q", c.precision, cert.Verdict, cert.Notes)
		}
		exported := filepath.Join(out, "model", "model.onnx")
		for _, on := range []string{"cpu", device} {
			var e struct{ Accuracy, Loss float64 }
			object(t, &e, "eval", exported, in("valid.tsv"), "--device", on, "--text", "text", "--label", "label", "--labels", "bad,fine")
			if off := math.Abs(e.Loss-summary.Best.Loss) / summary.Best.Loss; !(off <= c.tolerance) {
				t.Errorf("%s: the run found loss %g, %s finds %g in its export", c.precision, summary.Best.Loss, on, e.Loss)
			}
		}
		if code, stdout, stderr := run("verify", exported, "--device", device); code != 0 {
			t.Errorf("%s: verify: exit %d: %s%s", c.precision, code, stdout, stderr)
		}
		if code, _, stderr := run("finetune", "--resume", "--out", out); code != 0 {
			t.Errorf("%s: resumed: exit %d: %s", c.precision, code, stderr)
		}
		if code, _, stderr := run("finetune", "--resume", "--out", out, "--device", "cpu"); code != 78 {
			t.Errorf("%s: resumed on the processor: exit %d: %s", c.precision, code, stderr)
		}
	}
}

// exportOf returns what reads the export of the run in out, and what removes the run.
func exportOf(t *testing.T, out string) (final func() string, clean func()) {
	return func() string {
			t.Helper()
			data, err := os.ReadFile(filepath.Join(out, "model", "model.onnx"))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}, func() {
			t.Helper()
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
		}
}

// oneError requires exit code 69 and, beside what an undisturbed run says, one line that
// names the backend. It reports whether they hold.
func oneError(t *testing.T, what, backend string, code int, stderr, undisturbed string) bool {
	t.Helper()
	var lines []string
	for line := range strings.Lines(stderr) {
		if !strings.Contains(undisturbed, line) {
			lines = append(lines, line)
		}
	}
	if code != 69 || len(lines) != 1 || !strings.HasPrefix(lines[0], "error: ") || !strings.Contains(lines[0], backend) {
		t.Errorf("%s: exit %d, %q", what, code, lines)
		return false
	}
	return true
}

// sameEnd requires that a resumed run passed and ended with the bits of an undisturbed one.
func sameEnd(t *testing.T, what string, code int, stderr string, final func() string, want string) {
	t.Helper()
	if code != 0 {
		t.Errorf("%s: resumed: exit %d: %s", what, code, stderr)
	} else if final() != want {
		t.Errorf("%s: the resumed run ends with other bits", what)
	}
}
