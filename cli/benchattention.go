package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sift/fault"
)

func benchAttentionCommand(t *terminal) *cobra.Command {
	var of benchSize
	cmd := &cobra.Command{
		Use:   "attention",
		Short: "Time attention of a BERT layer, forward and backward.",
		Long: `Time attention of a BERT layer with dropout over sequences of one length, forward and backward. Only
necessary operations count: two products forward, four backward. The median of several runs is
shown, as a share of the peak that sift bench gemm names.`,
		Example: `  sift bench attention --preset bert-base --batch 8 --length 128
  sift bench attention --device cuda --precision bf16 --batch 32 --length 512`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	of.add(flags)
	addDeviceFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := of.settle(cmd); err != nil {
			return err
		}
		if of.heads < 1 || of.hidden%of.heads != 0 {
			return fault.New(fault.Usage, "--heads: %d: must divide --hidden, which is %d", of.heads, of.hidden)
		}
		o, peak, err := benchDevice(cmd, of.precision)
		if err != nil {
			return err
		}
		defer o.device.Close()
		if !t.json {
			if err := t.print("%s\n", o.peakLine(peak)); err != nil {
				return err
			}
		}
		type result struct {
			Op        string `json:"op"`
			Shape     string `json:"shape"`
			Precision string `json:"precision"`
			timing
			GFLOPS      float64 `json:"gflops"`
			ShareOfPeak float64 `json:"share_of_peak"` // 0: not known
		}
		var results []result
		lengths, d := times(of.batch, of.length), of.hidden/of.heads
		for _, c := range []kernelCase{attentionKernel(lengths, of.heads, d, false), attentionBackwardKernel(lengths, of.heads, d, false)} {
			if err := cmd.Context().Err(); err != nil {
				return fault.New(fault.Interrupted, "bench attention: interrupted")
			}
			r := result{Op: c.op, Shape: c.shape, Precision: of.precision}
			if r.timing, err = c.time(o.device, time.Second); err != nil {
				return err
			}
			r.GFLOPS = c.operations / r.Seconds / 1e9
			share := ""
			if peak > 0 {
				r.ShareOfPeak = r.GFLOPS / peak
				share = fmt.Sprintf("  %5.1f%% of peak", 100*r.ShareOfPeak)
			}
			results = append(results, r)
			if !t.json {
				if err := t.print("%-20s %-34s  %9.3f ms  %8.1f GFLOP/s%s\n", r.Op, r.Shape, r.Seconds*1e3, r.GFLOPS, share); err != nil {
					return err
				}
			}
		}
		if t.json {
			return t.object(map[string]any{"device": o.device.Info().Name, "peak_gflops": peak, "results": results})
		}
		return nil
	}
	return cmd
}
