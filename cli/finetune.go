package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"sift/config"
	"sift/fault"
	"sift/train"
)

func finetuneCommand(t *terminal) *cobra.Command {
	var out string
	var resume bool
	cmd := &cobra.Command{
		Use:     "finetune --model M.onnx --tokenizer T --train F --valid F --out RUN",
		GroupID: groupTrain,
		Short:   "Fine-tune an imported encoder on labelled texts.",
		Long: `Fine-tune an imported encoder on labelled texts, one or a pair a line of a TSV file. A model
without a classifier gets a fresh one. With --task mlm the encoder is trained further on running text
instead, as sift pretrain --model does. With --sift.score each update scores more sequences than it
back-propagates and keeps the hardest. The run directory holds metrics, checkpoints and the exported model.`,
		Example: `  sift finetune --model model.onnx --tokenizer tokenizer.json --train train.tsv --valid valid.tsv \
      --task.text_column sentence --task.label_column label --sift.score loss --sift.exit_layer 1 --out run
  sift finetune --resume --out run`,
		Args: noArguments,
	}
	cmd.Flags().StringVar(&out, "out", "", "run `directory`, made by this command")
	cmd.Flags().BoolVar(&resume, "resume", false, "continue the run in --out from its last checkpoint")
	addConfigFlags(cmd.Flags(), config.Default(), "model", "tokenizer", "task", "train", "valid", "device")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return trainRun(cmd, t, config.Default(), out, resume, train.Finetune)
	}
	return cmd
}

// trainRun resolves the configuration, runs the training that work stands for and prints
// what came of it.
func trainRun(cmd *cobra.Command, t *terminal, base config.Config, out string, resume bool,
	work func(context.Context, config.Config, train.RunOptions) (*train.Summary, error)) error {
	if out == "" {
		return fault.New(fault.Usage, "--out: a run directory is needed; see %s --help", cmd.CommandPath())
	}
	var tuning []byte
	if resume {
		var err error
		if base, err = train.RunConfig(out); err != nil {
			return err
		}
		if tuning, err = train.RunTuning(out); err != nil {
			return err
		}
	}
	r, err := resolve(cmd.Flags(), base)
	if err != nil {
		return err
	}
	if err := r.Validate(); err != nil {
		return err
	}
	o, err := openDevice(r.Device, forTraining(r.Train, tuning))
	if err != nil {
		return err
	}
	defer o.device.Close()
	device := o.line()
	if r.Device.CuBLAS != "off" {
		device += "; a row's last bits may depend on how many rows there are"
	}
	summary, err := work(cmd.Context(), r.Config, train.RunOptions{
		Out: out, Resume: resume, Device: o.device, Version: Version, Progress: showProgress(t, device),
		Verify: certify(t, r.Config, pinned(o.device)),
	})
	if err != nil {
		return err
	}
	if t.json {
		return t.object(summary)
	}
	best := summary.Best
	if best == nil {
		best = summary.Last
	}
	if best != nil {
		if err := t.print("%s\n", outcome(best, summary.BestUpdate)); err != nil {
			return err
		}
	}
	if summary.LossScale > 0 {
		if err := t.print("%s skipped because the scaled gradient overflowed float16; the loss scale ended at %.0f\n",
			counted(summary.SkippedUpdates, "update"), summary.LossScale); err != nil {
			return err
		}
	}
	return t.print("%s, %d samples drawn, %d back-propagated, %.1f s training (%.1f s of it scoring), %.1f s validating\nmodel: %s\n",
		counted(summary.Updates, "update"), summary.SamplesDrawn, summary.SamplesBackprop, summary.TrainSeconds, summary.ScoreSeconds,
		summary.EvaluateSeconds, filepath.Join(out, summary.Model))
}

// outcome says what the best evaluation found.
func outcome(e *train.Evaluation, update int) string {
	if m := e.MaskedEvaluation; m != nil {
		s := fmt.Sprintf("masked-token accuracy %.4f (loss %.4f) on %d held-out tokens at update %d", e.Accuracy, m.MLMLoss, e.N, update)
		if m.NSPCount > 0 {
			s += fmt.Sprintf("; next-sentence accuracy %.4f (loss %.4f) on %d pairs", m.NSPAccuracy, m.NSPLoss, m.NSPCount)
		}
		return s
	}
	return fmt.Sprintf("validation accuracy %.4f (F1 %.4f, MCC %.4f, loss %.4f) on %d examples at update %d; the most frequent label alone gets %.4f",
		e.Accuracy, e.F1, e.MCC, e.Loss, e.N, update, e.MajorityShare)
}
