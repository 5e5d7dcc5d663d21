package cli

import (
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"sift/config"
	"sift/fault"
	"sift/train"
)

func planCommand(t *terminal) *cobra.Command {
	var gflops float64
	var measure bool
	cmd := &cobra.Command{
		Use:     "plan [CONFIG]",
		GroupID: groupLook,
		Short:   "Say what a run would come to: operations, memory, time.",
		Long: `Say what a run would come to before anything is trained: parameters, updates, samples, operations
per update with selection and without, device memory, and, for a speed in GFLOP/s, time.

Operations are the necessary ones: two per multiply-add of the linear maps, of attention and of the
heads on labelled rows. Scoring is counted apart, with the prefix reused and in a pass of its own.
Lengths of sequences are those of the data; where the data are not there, those of endless text of
the configured lengths, or for labelled files the longest allowed. Which sequences will be kept is
not known before: their lengths are expected ones.`,
		Example: `  sift plan configs/paper/loss-1.yaml --gflops 300
  sift plan --model model.onnx --tokenizer tokenizer.json --train train.tsv --sift.score loss --json`,
		Args: arguments(0, 1, "at most one configuration file"),
	}
	f := cmd.Flags()
	f.Float64Var(&gflops, "gflops", 0, "`speed` of training in GFLOP/s, scoring included, for the time")
	f.BoolVar(&measure, "measure", false, "time a few micro-batches on this machine, in the run's memory, for the time")
	addConfigFlags(f, config.Default(), "model", "tokenizer", "task", "train", "valid", "device")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !(gflops >= 0) || math.IsInf(gflops, 0) || gflops == 0 && f.Changed("gflops") {
			return fault.New(fault.Usage, "--gflops: %v: must be above 0", gflops)
		}
		if measure && gflops > 0 {
			return fault.New(fault.Usage, "--measure: --gflops gives the speed already")
		}
		if len(args) > 0 {
			if f.Changed("config") {
				return fault.New(fault.Usage, "sift plan %s: --config names a configuration too", args[0])
			}
			if err := f.Set("config", args[0]); err != nil {
				return fault.New(fault.Internal, "--config: %w", err)
			}
		}
		r, err := resolvePlanned(cmd)
		if err != nil {
			return err
		}
		forecast, err := train.NewForecast(cmd.Context(), r.Config)
		if err != nil {
			return err
		}
		out := planned{Forecast: forecast, Precision: r.Train.Precision}
		if measure {
			o, err := openDevice(r.Device, forTraining(r.Train, nil))
			if err != nil {
				return err
			}
			defer o.device.Close()
			if out.Measured, err = forecast.Measure(cmd.Context(), r.Config, o.device); err != nil {
				return err
			}
			gflops = out.Measured.GFLOPS
		}
		if gflops > 0 {
			training, validation := forecast.Seconds(gflops)
			out.GFLOPS = &gflops
			out.TrainSeconds, out.ValidationSeconds = &training, &validation
		}
		if t.json {
			return t.object(out)
		}
		return t.write(out.text(r.Config))
	}
	return cmd
}

// planned is the result of sift plan.
type planned struct {
	*train.Forecast
	Precision         string   `json:"precision"`
	GFLOPS            *float64 `json:"gflops,omitempty"`
	TrainSeconds      *float64 `json:"train_seconds,omitempty"`
	ValidationSeconds *float64 `json:"validation_seconds,omitempty"`

	Measured *train.Measurement `json:"measured,omitempty"`
}

// resolvePlanned resolves a configuration for the command it is meant for. Without
// task.name that is pretrain if it names no model to start from, else finetune.
func resolvePlanned(cmd *cobra.Command) (*resolved, error) {
	r, err := resolve(cmd.Flags(), config.Default())
	if err != nil {
		return nil, err
	}
	named := r.source["task.name"] != "default"
	if named && r.Task.Name != "mlm" || !named && r.Model.Path != "" {
		return r, nil
	}
	return resolve(cmd.Flags(), config.DefaultPretrain())
}

func (p *planned) text(cfg config.Config) string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-16s%s\n", name, fmt.Sprintf(format, args...))
	}
	m := p.Model
	origin := "from scratch"
	if cfg.Model.Path != "" {
		origin = "from " + cfg.Model.Path
	}
	row("task", "%s, %s", p.Task, origin)
	row("model", "%d layers, hidden %d, %d heads, intermediate %d, %d tokens, %d positions", m.Layers, m.Hidden, m.Heads, m.Intermediate, m.Vocab, m.Positions)
	switch cfg.Train.Precision {
	case "bf16":
		row("precision", "bf16: activations take half the memory; weights, sums and the optimiser are float32")
	case "f16":
		row("precision", "f16: operands of matrix products are rounded, memory and operations are those of f32; loss scaling")
	}
	row("parameters", "%d, %d of them trained", p.Parameters, p.Trainable)
	row("lengths", "%s", p.lengths())
	switch {
	case p.Updates == 0:
		row("updates", "unknown without data: train.epochs counts, not train.updates")
	default:
		row("updates", "%d, %d of them warm-up, %d selecting", p.Updates, p.Warmup, p.SelectingUpdates)
		epochs := ""
		if p.Epochs > 0 {
			epochs = fmt.Sprintf(" (%.3g epochs of %d)", p.Epochs, p.Examples)
		}
		row("samples", "%d drawn, %d back-propagated%s", p.SamplesDrawn, p.SamplesBackprop, epochs)
	}
	b.WriteByte('\n')
	p.updateTable(&b, cfg)
	b.WriteByte('\n')
	p.memoryTable(&b)
	if p.Updates > 0 {
		b.WriteByte('\n')
		row("whole run", "%s back-propagated, %s scoring", operations(p.FLOPs), operations(p.ScoreFLOPs))
		if p.Evaluations > 0 {
			row("validation", "%s in %s of %d examples", operations(p.ValidationFLOPs), counted(p.Evaluations, "evaluation"), p.Validated)
		}
		switch {
		case p.GFLOPS == nil:
			row("time", "give --gflops for the time, or --measure to have this machine's speed measured")
		case p.Evaluations > 0:
			row("time", "%s of training and %s of validation at %.4g GFLOP/s", duration(*p.TrainSeconds), duration(*p.ValidationSeconds), *p.GFLOPS)
		default:
			row("time", "%s of training at %.4g GFLOP/s", duration(*p.TrainSeconds), *p.GFLOPS)
		}
	}
	if p.Measured != nil {
		row("measured", "%s", measured(p.Measured))
	}
	return strings.Map(func(r rune) rune {
		if r != '\n' && unsafeRune(r) {
			return '?'
		}
		return r
	}, b.String())
}

func (p *planned) lengths() string {
	mean := fmt.Sprintf("%.1f tokens", p.MeanTokens)
	if p.MeanLabels > 0 {
		mean += fmt.Sprintf(" and %.1f labels", p.MeanLabels)
	}
	switch p.Lengths {
	case "data":
		return "of the data: " + mean + " an example"
	case "sample":
		return "of a part of the data: " + mean + " an example; " + p.Why
	}
	if p.Task == "classification" {
		return "the longest allowed, " + mean + ", since " + p.Why
	}
	return "expected: " + mean + " an example, as of endless text, since " + p.Why
}

// updateTable shows one update without selection beside one with it.
func (p *planned) updateTable(b *strings.Builder, cfg config.Config) {
	u, s := p.Plain, p.Selecting
	if s == nil {
		fmt.Fprintf(b, "an update\n")
		fmt.Fprintf(b, "  sequences     %12d\n  tokens        %12.0f\n  operations    %12s\n", u.Kept, u.TokensKept, operations(u.FLOPs))
		return
	}
	used := map[bool]string{true: "  (this run)"}
	fmt.Fprintf(b, "%-20s%20s%24s\n", "an update", "not selecting", "selecting")
	fmt.Fprintf(b, "  %-18s%20d%24d\n", "sequences drawn", u.Drawn, s.Drawn)
	fmt.Fprintf(b, "  %-18s%20d%24d\n", "back-propagated", u.Kept, s.Kept)
	fmt.Fprintf(b, "  %-18s%20.0f%24.0f\n", "tokens drawn", u.TokensDrawn, s.TokensDrawn)
	fmt.Fprintf(b, "  %-18s%20.0f%24.0f\n", "back-propagated", u.TokensKept, s.TokensKept)
	fmt.Fprintf(b, "  %-18s%20s%24s\n", "operations", operations(u.FLOPs), operations(s.FLOPs))
	share := func(x float64) string { return fmt.Sprintf("%s = %.1f%%", operations(x), 100*x/s.FLOPs) }
	fmt.Fprintf(b, "  %-18s%20s%24s%s\n", "scoring, reused", "", share(s.ScoreReuse), used[cfg.Sift.Reuse])
	fmt.Fprintf(b, "  %-18s%20s%24s%s\n", "scoring, naive", "", share(s.ScoreNaive), used[!cfg.Sift.Reuse])
}

func (p *planned) memoryTable(b *strings.Builder) {
	l, m := p.Limits, p.Memory
	fmt.Fprintf(b, "device memory, for micro-batches of up to %d sequences and %d tokens\n", l.Seqs, l.Rows)
	for _, x := range []struct {
		name  string
		bytes int64
	}{
		{"parameters", m.Parameters}, {"gradients", m.Gradients}, {"AdamW's moments", m.Moments},
		{"kept sequences", m.Kept}, {"reused prefix", m.Prefix}, {"forward passes", m.Forward}, {"heads", m.Heads}, {"in all", m.Total},
	} {
		fmt.Fprintf(b, "  %-18s%15.1f MB\n", x.name, float64(x.bytes)/1e6)
	}
}

// operations writes a number of operations with a prefix of the SI.
func operations(n float64) string {
	units := []string{"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"}
	i := 0
	for ; n >= 999.95 && i+1 < len(units); i++ {
		n /= 1000
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// duration writes a time of any size: seconds, minutes, hours, days or years.
func duration(seconds float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{365.25 * 86400, "years"}, {86400, "days"}, {3600, "hours"}, {60, "minutes"}} {
		if seconds >= 2*u.size {
			return fmt.Sprintf("%.1f %s", seconds/u.size, u.name)
		}
	}
	if seconds < 10 {
		return fmt.Sprintf("%.3f seconds", seconds)
	}
	return fmt.Sprintf("%.1f seconds", seconds)
}

// measured says what updates took.
func measured(m *train.Measurement) string {
	s := duration(m.PlainSeconds) + " an update"
	if m.SelectingSeconds > 0 {
		s += ", " + duration(m.SelectingSeconds) + " one that selects"
	}
	return s + fmt.Sprintf(", %.4g GFLOP/s in all", m.GFLOPS)
}
