package cli

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Every fixture is taken from file to file: whatever heads, opset, axes, mask constant or
// storage type it has, a classifier is trained on it, exported and read back.
func TestFinetuneEveryFixture(t *testing.T) {
	for _, f := range manifest(t) {
		t.Run(f.File, func(t *testing.T) {
			dir := toyTask(t, f.Vocab)
			in := func(name string) string { return filepath.Join(dir, name) }
			labels := "bad,fine"
			var d description
			object(t, &d, "inspect", fixtures+f.File)
			if d.Classes > 2 { // the file has a classifier of its own: give it data with as many labels
				labels = ""
				for _, name := range []string{"train.tsv", "valid.tsv"} {
					var b strings.Builder
					b.WriteString("text\tlabel\n")
					for i := range 48 {
						b.WriteString("good plot " + words[6+i%10] + "\tclass" + strconv.Itoa(i%d.Classes) + "\n")
					}
					write(t, in(name), b.String())
				}
				for i := range d.Classes {
					labels += ",class" + strconv.Itoa(i)
				}
				labels = labels[1:]
			}
			var summary struct{ Model string }
			object(t, &summary, "finetune", "--model", fixtures+f.File, "--tokenizer", in("vocab.txt"), "--train", in("train.tsv"), "--valid", in("valid.tsv"),
				"--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12", "--train.micro_batch", "8",
				"--train.updates", "4", "--sift.score", "entropy", "--out", in("run"))
			var e, again struct {
				Accuracy, Loss float64
				Labels         []string
			}
			object(t, &e, "eval", in("run"), in("valid.tsv"))
			object(t, &again, "eval", filepath.Join(in("run"), summary.Model), in("valid.tsv"), "--text", "text", "--label", "label", "--labels", labels)
			if tolerance := map[bool]float64{true: 0.05, false: 1e-5}[strings.Contains(f.File, "float16")]; again.Loss-e.Loss > tolerance || e.Loss-again.Loss > tolerance {
				t.Errorf("the run has loss %g, its exported file %g", e.Loss, again.Loss)
			}
		})
	}
}

func TestReplayOfAnotherRunIsRefused(t *testing.T) {
	dir := toyTask(t, 41)
	in := func(name string) string { return filepath.Join(dir, name) }
	task := func(more ...string) []string {
		return append([]string{"finetune", "--quiet", "--model", fixtures + "encoder-op14-fold-dynamic.onnx", "--tokenizer", in("vocab.txt"),
			"--train", in("train.tsv"), "--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12",
			"--train.micro_batch", "8", "--sift.score", "loss"}, more...)
	}
	var first, second struct {
		FinalLoss float64 `json:"final_kept_loss"`
	}
	object(t, &first, task("--train.updates", "6", "--sift.log", "--out", in("a"))...)
	replay := []string{"--sift.replay", filepath.Join(in("a"), "selection.jsonl")}
	object(t, &second, task(append(replay, "--train.updates", "6", "--out", in("b"))...)...)
	if first.FinalLoss != second.FinalLoss {
		t.Errorf("replayed to loss %g, recorded at %g", second.FinalLoss, first.FinalLoss)
	}
	for _, c := range [][2]string{{"--train.seed", "another seed"}, {"--train.updates", "update 7, micro-batch 0: not recorded"}} {
		code, _, stderr := run(task(append(replay, "--train.updates", "6", c[0], "9", "--out", in("c"))...)...)
		if code != 65 || !strings.Contains(stderr, c[1]) {
			t.Errorf("%s 9: exit %d: %s", c[0], code, stderr)
		}
	}
}
