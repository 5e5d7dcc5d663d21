package cli

import (
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"sift/fault"
	"sift/sifting"
	"sift/train"
)

func benchStepCommand(t *terminal) *cobra.Command {
	var size benchSize
	var runs, exit int
	var score string
	var dropout, keep float64
	var naive, profile bool
	cmd := &cobra.Command{
		Use:   "step",
		Short: "Time whole training steps of a BERT with random data.",
		Long: `Time whole training steps of a BERT with random data: masked-LM and next-sentence loss with 15% of
the tokens labelled, backward pass, clipping and AdamW. The operations counted are the necessary ones
of the sequences back-propagated; the share is of the multiply-add peak of the processor measured
just before, where it is the processor that computes, or of the peak that follows from a GPU's data. With --profile a table says which kernels of the
device an update spends its time in, and how much goes to recording, submitting and waiting.`,
		Example: `  sift bench step --preset bert-base --batch 8 --length 128
  sift bench step --preset bert-tiny --device vulkan --profile
  sift bench step --layers 6 --hidden 384 --heads 12 --batch 32 --length 64 --score loss --exit 1`,
		Args: noArguments,
	}
	f := cmd.Flags()
	size.add(f)
	f.Float64Var(&dropout, "dropout", 0.1, "dropout `probability`, attention's too")
	f.StringVar(&score, "score", "none", "selection: none, loss, entropy or random")
	f.IntVar(&exit, "exit", 1, "exit `layer` of the selection")
	f.Float64Var(&keep, "keep", 0.5, "`share` kept by the selection")
	f.BoolVar(&naive, "naive", false, "score in a pass of its own instead of reusing the prefix")
	f.BoolVar(&profile, "profile", false, "then run the steps again with every kernel timed, on a device that can")
	f.IntVar(&runs, "runs", 5, "timed `steps`, the median counts")
	addDeviceFlags(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := size.settle(cmd); err != nil {
			return err
		}
		if runs < 1 || runs > 1000 {
			return fault.New(fault.Usage, "--runs: %d: must be from 1 to 1000", runs)
		}
		if !(keep > 0 && keep <= 1) {
			return fault.New(fault.Usage, "--keep: %v: must be above 0 and at most 1", keep)
		}
		if !(dropout >= 0 && dropout < 1) {
			return fault.New(fault.Usage, "--dropout: %v: must be at least 0 and below 1", dropout)
		}
		kinds := map[string]sifting.Score{"none": sifting.None, "loss": sifting.Loss, "entropy": sifting.Entropy, "random": sifting.Random}
		kind, ok := kinds[score]
		if !ok {
			return fault.New(fault.Usage, "--score: %q: must be none, loss, entropy or random", score)
		}
		cfg := size.config()
		if err := cfg.Validate(); err != nil {
			return fault.New(fault.Usage, "%v", err)
		}
		o, peak, err := benchDevice(cmd, size.precision)
		if err != nil {
			return err
		}
		device := o.device
		defer device.Close()
		result, err := train.BenchStep(cmd.Context(), train.BenchOptions{
			Device: device, Profile: profile, Model: cfg, Seqs: size.batch, Length: size.length, Warmup: 2, Runs: runs, Seed: 1,
			Sift: sifting.Options{Score: kind, ExitLayer: exit, Keep: keep, Reuse: !naive, ScoringDropout: true,
				Dropout: dropout, AttentionDropout: dropout},
		})
		if err != nil {
			return err
		}
		seconds := median(result.StepSeconds)
		out := struct {
			TokensPerSecond  float64 `json:"tokens_per_second"`
			StepSeconds      float64 `json:"step_seconds"`
			ScoreSeconds     float64 `json:"score_seconds"`
			OptimizerSeconds float64 `json:"optimizer_seconds"`
			QueuedSeconds    float64 `json:"queued_seconds,omitempty"` // of an update that is enqueued before the last has reported
			GFLOPS           float64 `json:"gflops"`
			PeakGFLOPS       float64 `json:"peak_gflops"`
			ShareOfPeak      float64 `json:"share_of_peak"`
			PeakMemoryBytes  int64   `json:"peak_memory_bytes"`
			DeviceBytes      int64   `json:"device_bytes"`
			Layers           int     `json:"layers"`
			Hidden           int     `json:"hidden"`
			Heads            int     `json:"heads"`
			Intermediate     int     `json:"intermediate"`
			Vocab            int     `json:"vocab"`
			Batch            int     `json:"batch"`
			Length           int     `json:"length"`
			Precision        string  `json:"precision"`
			Parameters       int     `json:"parameters"`
			Drawn            int     `json:"drawn"`
			Kept             int     `json:"kept"`
			ISA              string  `json:"isa"`
			Threads          int     `json:"threads"`
			Device           string  `json:"device"`

			Profile *profileReport `json:"profile,omitempty"`
		}{float64(result.KeptRows) / seconds, seconds, median(result.ScoreSeconds), median(result.OptimizerSeconds), 0,
			result.FLOPs / seconds / 1e9, peak, 0, peakMemory(), result.DeviceBytes,
			size.layers, size.hidden, size.heads, size.intermediate, size.vocab, size.batch, size.length, size.precision, result.Parameters, result.Drawn, result.Kept, device.Info().ISA, device.Info().Threads, device.Info().Name, nil}
		if result.QueuedSeconds != nil {
			// A run queues, so this is its pace.
			out.QueuedSeconds = median(result.QueuedSeconds)
			out.TokensPerSecond, out.GFLOPS = float64(result.KeptRows)/out.QueuedSeconds, result.FLOPs/out.QueuedSeconds/1e9
		}
		if profile {
			out.Profile = newProfileReport(result.Profile)
		}
		if peak > 0 {
			out.ShareOfPeak = out.GFLOPS / peak
		}
		if t.json {
			return t.object(out)
		}
		share, table, queued := "", "", ""
		if peak > 0 {
			share = fmt.Sprintf(", %.1f%% of the peak of %.1f GFLOP/s", 100*out.ShareOfPeak, peak)
			if o.rated != "" {
				share = fmt.Sprintf(", %.1f%% of the nominal %.1f GFLOP/s (%s)", 100*out.ShareOfPeak, peak, o.rated)
			}
		}
		if out.QueuedSeconds > 0 {
			queued = fmt.Sprintf("\nqueued    %8.1f ms an update that begins before the last has reported, as in a run: what tokens/s and work are of", out.QueuedSeconds*1e3)
		}
		if out.Profile != nil {
			table = out.Profile.text()
		}
		return t.print(`%d layers, hidden %d, %d heads, %d x %d tokens, %d parameters
%s
step      %8.1f ms (optimiser %.1f ms, scoring %.1f ms), %.0f tokens/s back-propagated%s
work      %8.1f GFLOP/s%s
memory    %8.1f MB at the peak of the process, %.1f MB of tensors on the device
%s`, size.layers, size.hidden, size.heads, size.batch, size.length, out.Parameters, o.line(),
			seconds*1e3, out.OptimizerSeconds*1e3, out.ScoreSeconds*1e3, out.TokensPerSecond, queued,
			out.GFLOPS, share, float64(out.PeakMemoryBytes)/1e6, float64(out.DeviceBytes)/1e6, table)
	}
	return cmd
}

// peakMemory returns the largest resident size of the process so far, in bytes.
func peakMemory() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Maxrss * 1024 // Linux counts in KiB
}
