package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sift/backend"
	"sift/bert"
	"sift/fault"
)

// benchSize is the model and batch that a benchmark is about.
type benchSize struct {
	name                                       string
	layers, hidden, heads, intermediate, vocab int
	batch, length                              int
	precision                                  string
}

// presets are the sizes with a name.
var presets = []struct {
	name                                string
	layers, hidden, heads, intermediate int
}{
	{"bert-tiny", 2, 128, 2, 512},
	{"minilm", 6, 384, 12, 1536},
	{"bert-base", 12, 768, 12, 3072},
	{"bert-large", 24, 1024, 16, 4096},
}

func (s *benchSize) add(f *pflag.FlagSet) {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.name
	}
	f.StringVar(&s.name, "preset", "bert-base", "sizes by `name`: "+strings.Join(names, ", ")+"; the flags below replace single ones")
	f.IntVar(&s.layers, "layers", 0, "encoder `layers`")
	f.IntVar(&s.hidden, "hidden", 0, "hidden `size`")
	f.IntVar(&s.heads, "heads", 0, "attention `heads`")
	f.IntVar(&s.intermediate, "intermediate", 0, "intermediate `size` (of a given --hidden: 4 times it)")
	f.IntVar(&s.vocab, "vocab", 30522, "vocabulary `size`")
	f.IntVar(&s.batch, "batch", 8, "`sequences` back-propagated")
	f.IntVar(&s.length, "length", 128, "`tokens` of each sequence")
	f.StringVar(&s.precision, "precision", "f32", "f32, or f16 on vulkan, or bf16 on cuda")
}

// settle fills in what the preset says and refuses what is out of range.
func (s *benchSize) settle(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	found := false
	for _, p := range presets {
		if p.name != s.name {
			continue
		}
		found = true
		if given("hidden") && !given("intermediate") {
			s.intermediate = 4 * s.hidden
		} else if !given("intermediate") {
			s.intermediate = p.intermediate
		}
		for _, v := range []struct {
			flag string
			to   *int
			from int
		}{{"layers", &s.layers, p.layers}, {"hidden", &s.hidden, p.hidden}, {"heads", &s.heads, p.heads}} {
			if !given(v.flag) {
				*v.to = v.from
			}
		}
	}
	if !found {
		return fault.New(fault.Usage, "--preset: %q: unknown; see %s --help", s.name, cmd.CommandPath())
	}
	for _, p := range []struct {
		name        string
		value, most int
	}{{"layers", s.layers, 1000}, {"hidden", s.hidden, 1 << 16}, {"heads", s.heads, 1 << 12}, {"intermediate", s.intermediate, 1 << 18},
		{"vocab", s.vocab, 1 << 24}, {"batch", s.batch, 1 << 16}, {"length", s.length, 1 << 16}} {
		if p.value < 1 || p.value > p.most {
			return fault.New(fault.Usage, "--%s: %d: must be from 1 to %d", p.name, p.value, p.most)
		}
	}
	if s.hidden%s.heads != 0 {
		return fault.New(fault.Usage, "--heads: %d heads do not divide a hidden size of %d", s.heads, s.hidden)
	}
	if s.precision != "f32" && s.precision != "f16" && s.precision != "bf16" {
		return fault.New(fault.Usage, "--precision: %q: must be f32, f16 or bf16", s.precision)
	}
	return nil
}

// config is a BERT for pre-training of this size.
func (s *benchSize) config() bert.Config {
	return bert.Config{Layers: s.layers, Hidden: s.hidden, Heads: s.heads, Intermediate: s.intermediate, Vocab: s.vocab,
		Positions: max(512, s.length), TypeVocab: 2, Activation: backend.GeluErf, Eps: 1e-12,
		HasPooler: true, HasMLM: true, HasNSP: true, TiedDecoder: true}
}
