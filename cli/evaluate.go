package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sift/config"
	"sift/fault"
	"sift/train"
)

// useFlags are the flags shared by the commands that apply a trained classifier.
type useFlags struct {
	tokenizer, labels, checkpoint string
	text, pair, label             string
	maxLength, batch              int
}

func (u *useFlags) add(flags *pflag.FlagSet, labelled bool) {
	flags.StringVar(&u.tokenizer, "tokenizer", "", "tokenizer `path` (default: the run's, or beside the ONNX file)")
	flags.StringVar(&u.labels, "labels", "", "label names in class order, separated by `commas` (of an ONNX file; default: config.json beside it, or 0, 1, ...)")
	flags.StringVar(&u.checkpoint, "checkpoint", "", "of a run: best, last or a `file` (default best)")
	flags.StringVar(&u.text, "text", "", "`column` of the text, by name or number from 1 (default: the run's)")
	flags.StringVar(&u.pair, "text-pair", "", "`column` of the second text (default: the run's)")
	if labelled {
		flags.StringVar(&u.label, "label", "", "`column` of the label (default: the run's)")
	}
	flags.IntVar(&u.maxLength, "max-length", 0, "longest input in `tokens` (default: the run's)")
	flags.IntVar(&u.batch, "batch", 32, "sequences at a time")
	addDeviceFlags(flags)
}

// open reads the classifier and the task, with what the flags override.
func (u *useFlags) open(t *terminal, path string) (*train.Trained, config.Task, error) {
	opt := train.OpenOptions{Checkpoint: u.checkpoint, Tokenizer: u.tokenizer, Notice: func(s string) { t.note("%s", s) }}
	if u.labels != "" {
		opt.Labels = strings.Split(u.labels, ",")
	}
	if u.batch < 1 {
		return nil, config.Task{}, fault.New(fault.Usage, "--batch: %d: must be at least 1", u.batch)
	}
	if u.maxLength < 0 || u.maxLength == 1 || u.maxLength == 2 {
		return nil, config.Task{}, fault.New(fault.Usage, "--max-length: %d: must be at least 3: [CLS], a token and [SEP]", u.maxLength)
	}
	c, err := train.Open(path, opt)
	if err != nil {
		return nil, config.Task{}, err
	}
	task := c.Task
	for _, o := range []struct {
		from string
		to   *string
	}{{u.text, &task.TextColumn}, {u.pair, &task.TextPairColumn}, {u.label, &task.LabelColumn}} {
		if o.from != "" {
			*o.to = o.from
		}
	}
	if u.maxLength > 0 {
		task.MaxLength = u.maxLength
	}
	return c, task, nil
}

// start opens the classifier and the device it runs on, which the caller closes.
func (u *useFlags) start(cmd *cobra.Command, t *terminal, path string) (*train.Trained, train.ReadOptions, error) {
	r, err := resolve(cmd.Flags(), config.Default())
	if err != nil {
		return nil, train.ReadOptions{}, err
	}
	c, task, err := u.open(t, path)
	if err != nil {
		return nil, train.ReadOptions{}, err
	}
	o, err := openDevice(r.Device, deviceUse{})
	if err != nil {
		return nil, train.ReadOptions{}, err
	}
	return c, train.ReadOptions{Device: o.device, Task: task, BatchSize: u.batch}, nil
}

func evalCommand(t *terminal) *cobra.Command {
	var u useFlags
	cmd := &cobra.Command{
		Use:     "eval RUN|MODEL.onnx FILE",
		GroupID: groupTrain,
		Short:   "Measure a run or an ONNX file on a labelled file, or a masked LM on text.",
		Long: `Measure a run or an ONNX classifier on a labelled TSV file: accuracy, F1, Matthews correlation,
loss, and the confusion matrix, beside the share of the most frequent label. A masked LM is measured
on a text file, a directory of them, or prepared data, with masks that are the same every time.`,
		Example: `  sift eval run test.tsv
  sift eval model.onnx test.tsv --tokenizer tokenizer.json --text sentence --label label --json`,
		Args: arguments(2, 2, "a run or ONNX file, and a labelled file or text"),
	}
	u.add(cmd.Flags(), true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, opt, err := u.start(cmd, t, args[0])
		if err != nil {
			return err
		}
		defer opt.Device.Close()
		if c.MaskedLM() {
			return evaluateText(cmd.Context(), t, c, args[1], opt)
		}
		e, err := c.Evaluate(cmd.Context(), args[1], opt)
		if err != nil {
			return err
		}
		if t.json {
			return t.object(e)
		}
		if err := t.print("accuracy %.4f (95%% interval %.4f to %.4f)  F1 %.4f  MCC %.4f  loss %.4f  on %d examples (most frequent label %q: %.4f)\n",
			e.Accuracy, e.Low, e.High, e.F1, e.MCC, e.Loss, e.N, e.Majority, e.MajorityShare); err != nil {
			return err
		}
		var b strings.Builder
		b.WriteString("true label: predicted")
		for _, l := range e.Labels {
			b.WriteString("  " + oneLine(l))
		}
		b.WriteString("\n")
		for i, l := range e.Labels {
			b.WriteString("  " + oneLine(l) + ":")
			for _, n := range e.Confusion[i] {
				b.WriteString("  " + strconv.FormatInt(n, 10))
			}
			b.WriteString("\n")
		}
		return t.print("%s", b.String())
	}
	return cmd
}

func evaluateText(ctx context.Context, t *terminal, c *train.Trained, path string, opt train.ReadOptions) error {
	opt.Notice = func(s string) { t.note("%s", s) }
	e, err := c.EvaluateText(ctx, config.Paths{path}, opt)
	if err != nil {
		return err
	}
	if t.json {
		return t.object(e)
	}
	m := e.MaskedEvaluation
	if err := t.print("masked-token accuracy %.4f  loss %.4f  on %d tokens of %s\n", e.Accuracy, m.MLMLoss, e.N, counted(m.Sequences, "sequence")); err != nil {
		return err
	}
	if m.NSPCount == 0 {
		return nil
	}
	return t.print("next-sentence accuracy %.4f  loss %.4f  on %d pairs\n", m.NSPAccuracy, m.NSPLoss, m.NSPCount)
}

func predictCommand(t *terminal) *cobra.Command {
	var u useFlags
	var texts []string
	cmd := &cobra.Command{
		Use:     "predict RUN|MODEL.onnx [FILE]",
		GroupID: groupTrain,
		Short:   "Predict labels for a file of texts, as JSON lines.",
		Long: `Predict labels with a run or an ONNX classifier, for a TSV file or for texts given as --say.
Each line of output is one JSON object with the text, the label, and every label's probability.`,
		Example: `  sift predict run texts.tsv > predictions.jsonl
  sift predict model.onnx --tokenizer tokenizer.json --say "a quiet triumph" --say "two hours too long"`,
		Args: arguments(1, 2, "a run or ONNX file, and a file or --say"),
	}
	u.add(cmd.Flags(), false)
	cmd.Flags().StringArrayVar(&texts, "say", nil, "a `text` to label; can be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 2) == (len(texts) > 0) {
			return fault.New(fault.Usage, "sift predict needs either a file or --say")
		}
		c, opt, err := u.start(cmd, t, args[0])
		if err != nil {
			return err
		}
		defer opt.Device.Close()
		if len(texts) > 0 {
			predictions, err := c.PredictTexts(cmd.Context(), texts, nil, opt)
			if err != nil {
				return err
			}
			if t.json {
				return t.object(map[string]any{"predictions": predictions})
			}
			for _, p := range predictions {
				if err := t.line(p); err != nil {
					return err
				}
			}
			return nil
		}
		if t.json {
			var lines bytes.Buffer
			if _, err := c.Predict(cmd.Context(), args[1], &lines, opt); err != nil {
				return err
			}
			predictions := []json.RawMessage{}
			for line := range bytes.Lines(lines.Bytes()) {
				predictions = append(predictions, bytes.TrimSpace(line))
			}
			return t.object(map[string]any{"predictions": predictions})
		}
		w := bufio.NewWriter(t.out)
		n, err := c.Predict(cmd.Context(), args[1], w, opt)
		if flushErr := w.Flush(); err == nil && flushErr != nil {
			err = fault.New(fault.IO, "standard output: %w", flushErr)
		}
		if err != nil {
			return err
		}
		if !t.quiet {
			t.note("%s", counted(n, "prediction"))
		}
		return nil
	}
	return cmd
}
