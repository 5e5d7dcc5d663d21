package cli

import (
	"github.com/spf13/cobra"

	"sift/train"
)

func compareCommand(t *terminal) *cobra.Command {
	var u useFlags
	cmd := &cobra.Command{
		Use:     "compare A B FILE",
		GroupID: groupTrain,
		Short:   "Compare two classifiers on the same labelled file, with an interval.",
		Long: `Compare two classifiers, runs or ONNX files, on the same labelled TSV file: both accuracies, the
difference A - B with its 95% interval for paired samples, and the exact McNemar test. Columns are A's
unless flags name others.`,
		Example: `  sift compare run frozen test.tsv
  sift compare run model.onnx test.tsv --json`,
		Args: arguments(3, 3, "two runs or ONNX files and a labelled file"),
	}
	u.add(cmd.Flags(), true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, opt, err := u.start(cmd, t, args[0])
		if err != nil {
			return err
		}
		defer opt.Device.Close()
		b, task, err := u.open(t, args[1])
		if err != nil {
			return err
		}
		if u.maxLength > 0 {
			a.Task.MaxLength, b.Task.MaxLength = u.maxLength, task.MaxLength
		}
		c, err := train.Compare(cmd.Context(), a, b, args[2], opt)
		if err != nil {
			return err
		}
		if t.json {
			return t.object(c)
		}
		return t.print("%s: %.4f\n%s: %.4f\ndifference %+.4f, 95%% interval %+.4f to %+.4f, on %d examples (%d only A has right, %d only B; McNemar p = %.2g)\n",
			args[0], c.A, args[1], c.B, c.Difference, c.Low, c.High, c.N, c.OnlyA, c.OnlyB, c.Probability)
	}
	return cmd
}
