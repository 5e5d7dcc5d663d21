package cli

import (
	"reflect"

	"github.com/spf13/cobra"

	"sift/config"
	"sift/fault"
)

// commands lists every command of the program.
func commands(t *terminal) []*cobra.Command {
	return []*cobra.Command{
		finetuneCommand(t), pretrainCommand(t), prepareCommand(t), evalCommand(t), compareCommand(t), predictCommand(t),
		inspectCommand(t), exportCommand(t), verifyCommand(t),
		planCommand(t), devicesCommand(t), benchCommand(t), debugCommand(t), configCommand(t),
	}
}

func configCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		GroupID: groupLook,
		Short:   "Show every configuration value and where it came from.",
		Long: `Show every configuration value after defaults, the --config file, SIFT_* environment
variables and flags have been merged, and where each came from.`,
		Example: `  sift config --config run.yaml --train.seed 7
  SIFT_OPTIMIZER_LR=3e-5 sift config --json`,
		Args: noArguments,
	}
	addConfigFlags(cmd.Flags(), config.Default(), "model", "tokenizer", "task", "train", "valid", "device")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := resolve(cmd.Flags(), config.Default())
		if err != nil {
			return err
		}
		type entry struct {
			Value  any    `json:"value"`
			Source string `json:"source"`
		}
		values := map[string]entry{}
		for _, s := range settings() {
			value := reflect.ValueOf(r.Config).FieldByIndex(s.index).Interface()
			values[s.key] = entry{value, r.source[s.key]}
			if t.json {
				continue
			}
			if err := t.print("%-24s %-24s %s\n", s.key, display(value), r.source[s.key]); err != nil {
				return err
			}
		}
		if t.json {
			if err := t.object(values); err != nil {
				return err
			}
		}
		return r.Validate()
	}
	return cmd
}

// noArguments refuses positional arguments with the usage code.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fault.New(fault.Usage, "%s takes no argument, got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// arguments requires between least and most positional arguments, named for the message.
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fault.New(fault.Usage, "%s needs %s; see %s --help", cmd.CommandPath(), names, cmd.CommandPath())
		}
		return nil
	}
}
