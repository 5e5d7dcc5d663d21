package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"sift/config"
	"sift/fault"
)

func resolveArgs(t *testing.T, yaml string, args ...string) (*resolved, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addConfigFlags(flags, config.Default(), "model", "train")
	if yaml != "" {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return resolve(flags, config.Default())
}

func TestLaterSourcesWin(t *testing.T) {
	yaml := "train:\n  seed: 3\n  micro_batch: 8\noptimizer:\n  lr: 1e-4\n  decay_exclude: [bias]\n"
	t.Setenv("SIFT_TRAIN_SEED", "4")
	t.Setenv("SIFT_OPTIMIZER_LR", "2e-4")
	r, err := resolveArgs(t, yaml, "--optimizer.lr", "3e-4", "--model", "m.onnx", "--sift.reuse=false", "--sift.log")
	if err != nil {
		t.Fatal(err)
	}
	if r.Train.MicroBatch != 8 || r.Train.Seed != 4 || r.Optimizer.LR != 3e-4 || r.Model.Path != "m.onnx" || r.Sift.Reuse || !r.Sift.Log {
		t.Errorf("resolved to %+v", r.Config)
	}
	if len(r.Optimizer.DecayExclude) != 1 || r.Optimizer.DecayExclude[0] != "bias" {
		t.Errorf("decay_exclude = %q", r.Optimizer.DecayExclude)
	}
	for key, want := range map[string]string{"train.seed": "environment SIFT_TRAIN_SEED", "optimizer.lr": "flag --optimizer.lr",
		"model.path": "flag --model", "train.dropout": "default"} {
		if r.source[key] != want {
			t.Errorf("%s came from %q, want %q", key, r.source[key], want)
		}
	}
	if !strings.HasPrefix(r.source["train.micro_batch"], "file ") {
		t.Errorf("train.micro_batch came from %q", r.source["train.micro_batch"])
	}
}

func TestEveryKeyHasHelpAndKeepsItsDefault(t *testing.T) {
	r, err := resolveArgs(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings() {
		if usage[s.key] == "" {
			t.Errorf("%s has no help", s.key)
		}
		if r.source[s.key] != "default" {
			t.Errorf("%s came from %q", s.key, r.source[s.key])
		}
	}
	if len(usage) != len(settings()) {
		t.Errorf("%d help lines for %d keys", len(usage), len(settings()))
	}
	if d := config.Default(); r.Train != d.Train || r.Sift != d.Sift || r.Task != d.Task || r.Device != d.Device {
		t.Errorf("defaults became %+v", r.Config)
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, yaml, want string
		args             []string
	}{
		{name: "unknown key", yaml: "train:\n  seeed: 1\n", want: "line 2: unknown key train.seeed; did you mean train.seed?"},
		{name: "unknown section", yaml: "trian:\n  seed: 1\n", want: `line 1: unknown section "trian"; did you mean train?`},
		{name: "duplicate key", yaml: "train:\n  seed: 1\n  seed: 2\n", want: "repeats line 2"},
		{name: "duplicate section", yaml: "train:\n  seed: 1\ntrain:\n  dropout: 0\n", want: "repeats line 1"},
		{name: "not a number", yaml: "train:\n  micro_batch: many\n", want: `train.micro_batch: "many" is not a whole number`},
		{name: "fraction", yaml: "train:\n  micro_batch: 1.5\n", want: `train.micro_batch: "1.5" is not a whole number`},
		{name: "negative seed", args: []string{"--train.seed", "-1"}, want: `train.seed: "-1"`},
		{name: "bool", args: []string{"--sift.reuse=perhaps"}, want: `sift.reuse: "perhaps" is neither true nor false`},
		{name: "list for text", yaml: "model:\n  path: [a, b]\n", want: "model.path: must be one text"},
		{name: "scalar section", yaml: "train: 3\n", want: "line 1: train must hold keys"},
		{name: "broken", yaml: "train: [\n", want: "c.yaml: yaml"},
		{name: "list file", yaml: "- a\n", want: "sections such as train: expected"},
		{name: "two documents", yaml: "train:\n  seed: 1\n---\ntrain:\n  seed: 2\n", want: "more than one YAML document"},
		{name: "both names", args: []string{"--model", "a", "--model.path", "b"}, want: "name the same key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := resolveArgs(t, c.yaml, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want one line with %q", err, c.want)
			}
			if k := fault.KindOf(err); k != fault.Config && k != fault.Usage {
				t.Errorf("kind %d", k)
			}
		})
	}
}

func TestMisspeltVariableIsRefused(t *testing.T) {
	t.Setenv("SIFT_TRAIN_SED", "1")
	if _, err := resolveArgs(t, ""); err == nil || !strings.Contains(err.Error(), "did you mean SIFT_TRAIN_SEED?") {
		t.Errorf("got %v", err)
	}
}
