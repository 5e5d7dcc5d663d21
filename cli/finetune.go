package cli

import (
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
without a classifier gets a fresh one. With --sift.score each update scores more sequences than it
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
		if out == "" {
			return fault.New(fault.Usage, "--out: a run directory is needed; see sift finetune --help")
		}
		base := config.Default()
		if resume {
			var err error
			if base, err = train.RunConfig(out); err != nil {
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
		device, err := openDevice(r.Device)
		if err != nil {
			return err
		}
		defer device.Close()
		summary, err := train.Finetune(cmd.Context(), r.Config, train.RunOptions{
			Out: out, Resume: resume, Device: device, Version: Version, Progress: showProgress(t, chosen(r.Device.Name, device.Info())),
			Verify: certify(t, r.Device),
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
			if err := t.print("validation accuracy %.4f (F1 %.4f, MCC %.4f, loss %.4f) on %d examples at update %d; the most frequent label alone gets %.4f\n",
				best.Accuracy, best.F1, best.MCC, best.Loss, best.N, summary.BestUpdate, best.MajorityShare); err != nil {
				return err
			}
		}
		return t.print("%s, %d samples drawn, %d back-propagated, %.1f s training (%.1f s of it scoring), %.1f s validating\nmodel: %s\n",
			counted(summary.Updates, "update"), summary.SamplesDrawn, summary.SamplesBackprop, summary.TrainSeconds, summary.ScoreSeconds,
			summary.EvaluateSeconds, filepath.Join(out, summary.Model))
	}
	return cmd
}
