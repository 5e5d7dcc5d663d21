package cli

import (
	"github.com/spf13/cobra"

	"sift/config"
	"sift/train"
)

func pretrainCommand(t *terminal) *cobra.Command {
	var out string
	var resume bool
	cmd := &cobra.Command{
		Use:     "pretrain --tokenizer T --train TEXT --out RUN",
		GroupID: groupTrain,
		Short:   "Pre-train a BERT on running text, from scratch or from a model.",
		Long: `Pre-train a BERT as a masked language model, with next-sentence prediction unless
--data.next_sentence=false, on text files, directories of .txt files, or what sift prepare wrote. With
--model training starts from that ONNX file, else from fresh weights of the sizes in --model.*. A share
of the documents is held out for validation (--data.valid_share), or --valid names other text. A file is
one document unless headings divide it, "= Title =" or "Chapter 1" between blank lines. With
--sift.score each update scores more sequences than it back-propagates and keeps the hardest.`,
		Example: `  sift pretrain --config configs/paper/loss-1.yaml --tokenizer vocab.txt --train corpus/ --out run
  sift pretrain --tokenizer vocab.txt --train corpus/ --model.layers 4 --model.hidden 128 --model.heads 2 \
      --train.updates 10000 --sift.score entropy --sift.exit_layer 1 --out run
  sift pretrain --resume --out run`,
		Args: noArguments,
	}
	cmd.Flags().StringVar(&out, "out", "", "run `directory`, made by this command")
	cmd.Flags().BoolVar(&resume, "resume", false, "continue the run in --out from its last checkpoint")
	addConfigFlags(cmd.Flags(), config.DefaultPretrain(), "model", "tokenizer", "train", "valid", "device")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return trainRun(cmd, t, config.DefaultPretrain(), out, resume, train.Pretrain)
	}
	return cmd
}
