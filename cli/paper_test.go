package cli

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"sift/config"
	"sift/train"
)

// paperRecipes are the files of configs/paper: score and exit layer by name.
func paperRecipes(t *testing.T) map[string]config.Sift {
	t.Helper()
	want := map[string]config.Sift{"baseline": {Score: "none"}}
	for _, score := range []string{"loss", "entropy"} {
		for _, exit := range []int{1, 2, 3, 6, 12} {
			want[score+"-"+strconv.Itoa(exit)] = config.Sift{Score: score, ExitLayer: exit}
		}
	}
	files, err := filepath.Glob("configs/paper/*.yaml")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d recipes, %v; want %d", len(files), err, len(want))
	}
	return want
}

// readRecipe resolves a recipe as sift config would.
func readRecipe(t *testing.T, name string) config.Config {
	t.Helper()
	var c config.Config
	var values map[string]struct{ Value any }
	object(t, &values, "config", "--config", "configs/paper/"+name+".yaml")
	for key, v := range values {
		data, err := json.Marshal(v.Value)
		if err != nil {
			t.Fatal(err)
		}
		section, field, _ := strings.Cut(key, ".")
		if err := yaml.Unmarshal([]byte(section+": {"+field+": "+string(data)+"}"), &c); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	return c
}

// The recipes are the paper's (arXiv:2402.07052, section 7), and one another's but for
// the selection.
func TestPaperRecipes(t *testing.T) {
	t.Chdir("..")
	baseline := readRecipe(t, "baseline")
	m, o, tr := baseline.Model, baseline.Optimizer, baseline.Train
	for key, ok := range map[string]bool{
		"model":     m.Layers == 12 && m.Hidden == 768 && m.Heads == 12 && m.Intermediate == 3072 && m.Vocab == 30522 && m.Path == "",
		"task":      baseline.Task.Name == "mlm" && baseline.Task.MaxLength == 512,
		"data":      baseline.Data.MaskProbability == 0.15 && baseline.Data.NextSentence,
		"train":     tr.Updates == 800000 && tr.MicroBatch == 32 && tr.Accumulate == 8 && tr.Dropout == 0.1 && tr.AttentionDropout == 0.1,
		"optimizer": o.Name == "adamw" && o.LR == 1e-4 && o.Beta1 == 0.9 && o.Beta2 == 0.999 && o.WeightDecay == 0.01 && o.Schedule == "linear" && o.Warmup == 0.002,
	} {
		if !ok {
			t.Errorf("baseline: %s: %+v", key, baseline)
		}
	}
	for name, want := range paperRecipes(t) {
		c := readRecipe(t, name)
		s := c.Sift
		if s.Score != want.Score || s.Score != "none" && (s.ExitLayer != want.ExitLayer || s.Start != 20000 || s.End != 0 || s.Keep != 0.5) {
			t.Errorf("%s: %+v", name, s)
		}
		c.Sift = baseline.Sift
		if a, b := asYAML(t, c), asYAML(t, baseline); a != b {
			t.Errorf("%s differs from the baseline in more than its selection:\n%s\n%s", name, a, b)
		}
		checkComments(t, "configs/paper/"+name+".yaml")
	}
}

func asYAML(t *testing.T, v any) string {
	t.Helper()
	data, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// checkComments requires of every line with a value that it says whether the paper or an
// assumption gives it, and of every key that it is there.
func checkComments(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	for i, line := range strings.Split(string(data), "\n") {
		if !strings.HasPrefix(line, "  ") {
			continue
		}
		keys++
		_, comment, _ := strings.Cut(line, "  # ")
		if !strings.HasPrefix(comment, "paper, section ") && !strings.HasPrefix(comment, "assumption: ") {
			t.Errorf("%s: line %d: neither the paper nor an assumption: %s", path, i+1, line)
		}
	}
	want := len(settings()) - 3                   // the columns of labelled files
	if strings.HasSuffix(path, "baseline.yaml") { // selects nothing: sift.score alone
		want -= len(asMap(t, config.Config{}.Sift)) - 1
	}
	if keys != want {
		t.Errorf("%s: %d keys, there are %d", path, keys, want)
	}
}

func asMap(t *testing.T, v any) (m map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(asYAML(t, v)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A plan of each recipe has BERT-base's parameters, and the operations worked out by hand:
// per sequence and layer 2 (4 H^2 + 2 H F) n + 4 n^2 H, the same again twice backward.
func TestPaperPlans(t *testing.T) {
	t.Chdir("..")
	for name, want := range paperRecipes(t) {
		var p struct {
			planned
			Seconds float64 `json:"train_seconds"`
		}
		updates := 40000 // an update costs the same however many there are
		if name == "loss-1" {
			updates = 800000
		}
		object(t, &p, "plan", "configs/paper/"+name+".yaml", "--gflops", "1000", "--data.short_share", "0", "--data.train", "absent",
			"--train.updates", strconv.Itoa(updates))
		if p.Parameters != 110106428 || p.Trainable != p.Parameters {
			t.Errorf("%s: %d parameters, %d of them trained; BERT-base with both heads has 110106428", name, p.Parameters, p.Trainable)
		}
		if p.Plain.Kept != 256 || p.Updates != updates || p.Warmup != updates/500 || p.SamplesBackprop != 256*updates {
			t.Errorf("%s: %+v", name, p.Forecast)
		}
		// All sequences have 512 tokens, 76 of 509 masked.
		layer := 512*2*(4*768*768+2*768*3072) + 4*512*512*768.0
		head := 76 * (2*768*768 + 2*768*30522.0)
		sequence := 3 * (12*layer + head + 2*768*768 + 2*768*2)
		if math.Abs(p.Plain.FLOPs-256*sequence) > 1e-9*p.Plain.FLOPs {
			t.Errorf("%s: %g operations an update, by hand %g", name, p.Plain.FLOPs, 256*sequence)
		}
		total := float64(updates) * 256 * sequence
		if want.Score != "none" {
			naive := 512 * (float64(want.ExitLayer)*layer + head)
			reuse := naive - 256*float64(want.ExitLayer)*layer
			s := p.Selecting
			if s.Drawn != 512 || s.Kept != 256 || p.SelectingUpdates != updates-20000 ||
				math.Abs(s.ScoreNaive-naive) > 1e-9*naive || math.Abs(s.ScoreReuse-reuse) > 1e-9*reuse || s.ScoreFLOPs != s.ScoreReuse {
				t.Errorf("%s: %+v, by hand %g and %g", name, s, reuse, naive)
			}
			total += float64(updates-20000) * reuse
		}
		if math.Abs(p.Seconds-total/1e12) > 1e-9*p.Seconds {
			t.Errorf("%s: %g s at 1000 GFLOP/s, by hand %g", name, p.Seconds, total/1e12)
		}
	}
}

// Every recipe trains: 20 updates of a thin model of 12 layers on the texts in the
// repository, of which the last 15 select.
func TestPaperRecipesTrain(t *testing.T) {
	if testing.Short() {
		t.Skip("trains eleven models")
	}
	t.Chdir("..")
	for name, want := range paperRecipes(t) {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "run")
			code, _, stderr := run("pretrain", "--config", "configs/paper/"+name+".yaml", "--out", out, "--quiet",
				"--data.train", "testdata/corpora", "--task.max_length", "16", "--model.hidden", "16", "--model.heads", "2", "--model.intermediate", "32",
				"--model.positions", "16", "--train.micro_batch", "4", "--train.accumulate", "2", "--train.updates", "20", "--sift.start", "5")
			if code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			c, err := train.RunConfig(out)
			if err != nil {
				t.Fatal(err)
			}
			if c.Model.Layers != 12 || c.Sift.Score != want.Score || want.Score != "none" && c.Sift.ExitLayer != want.ExitLayer {
				t.Errorf("the run has %d layers and %+v", c.Model.Layers, c.Sift)
			}
			checkRecipeRun(t, out, want.Score != "none")
		})
	}
}

// checkRecipeRun reads a run's metrics: 20 finite updates, half of what was drawn kept
// wherever one selects.
func checkRecipeRun(t *testing.T, out string, selects bool) {
	t.Helper()
	f, err := os.Open(filepath.Join(out, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	updates, drawn, kept := 0, 0, 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m train.Metrics
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind != "update" {
			continue
		}
		updates++
		selecting := selects && updates > 5
		keeps := 8
		draws := 8
		if selecting {
			draws = 16
		}
		if m.Update != updates || m.Selecting != selecting || m.SamplesDrawn-drawn != draws || m.SamplesBackprop-kept != keeps {
			t.Errorf("update %d: %+v", updates, m)
		}
		drawn, kept = m.SamplesDrawn, m.SamplesBackprop
		if !(m.KeptLoss > 0) || math.IsInf(m.KeptLoss, 0) || !(m.GradNorm > 0) || (m.ScoredLoss != nil) != selecting || selecting && !(*m.ScoredLoss > 0) {
			t.Errorf("update %d: losses %v and %v, gradient %v", updates, m.KeptLoss, m.ScoredLoss, m.GradNorm)
		}
		if (m.ScoreFLOPs > 0) != selecting || !(m.FLOPs > 0) {
			t.Errorf("update %d: %g and %g operations", updates, m.FLOPs, m.ScoreFLOPs)
		}
	}
	if updates != 20 {
		t.Errorf("%d updates", updates)
	}
}
