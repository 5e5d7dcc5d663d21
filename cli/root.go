package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sift/config"
	"sift/fault"
)

// A terminal is where a command writes: results on out, progress and notices on err.
type terminal struct {
	out, err io.Writer
	json     bool // one JSON object on out and nothing else there
	quiet    bool // no progress
}

// note prints a line for people; it goes to err, so that out stays machine-readable.
func (t *terminal) note(format string, args ...any) {
	fmt.Fprintf(t.err, "%s\n", oneLine(fmt.Sprintf(format, args...)))
}

// line writes one JSON object on one line.
func (t *terminal) line(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Internal, "encoding the result: %w", err)
	}
	return t.write(string(data) + "\n")
}

// print writes a result for people; what a file put into it cannot steer their terminal.
func (t *terminal) print(format string, args ...any) error {
	return t.write(strings.Map(func(r rune) rune {
		if r != '\n' && unsafeRune(r) {
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...)))
}

func (t *terminal) write(text string) error {
	if _, err := io.WriteString(t.out, text); err != nil {
		return fault.New(fault.IO, "standard output: %w", err)
	}
	return nil
}

// object writes the one JSON object of --json.
func (t *terminal) object(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fault.New(fault.Internal, "encoding the result: %w", err)
	}
	return t.write(string(data) + "\n")
}

const (
	groupModel = "model"
	groupTrain = "train"
	groupLook  = "look"
)

// execute builds the command tree and runs it. There is no global state: each call has its own.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	t := &terminal{out: stdout, err: stderr}
	root := &cobra.Command{
		Use:   "sift",
		Short: "Train BERT-family encoders from ONNX files, and write them back.",
		Long: `sift imports a BERT checkpoint from an ONNX file, fine-tunes it with selective
back-propagation (SIFT), and exports an ONNX file with proof that it computes the same.`,
		Example: `  sift inspect model.onnx
  sift finetune --model model.onnx --tokenizer tokenizer.json --train train.tsv --valid valid.tsv --out run`,
		Version:       Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(args)
	root.PersistentFlags().BoolVar(&t.json, "json", false, "print one JSON object and nothing else")
	root.PersistentFlags().BoolVarP(&t.quiet, "quiet", "q", false, "no progress")
	root.AddGroup(
		&cobra.Group{ID: groupTrain, Title: "Train and use:"},
		&cobra.Group{ID: groupModel, Title: "ONNX files:"},
		&cobra.Group{ID: groupLook, Title: "Look inside:"},
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommandGroupID(groupLook)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.New(fault.Usage, "%v; see %s --help", err, cmd.CommandPath())
	})
	root.SetUsageFunc(usageText)
	for _, c := range commands(t) {
		root.AddCommand(c)
		completeValues(c)
	}
	err := root.ExecuteContext(ctx)
	if err != nil && !fault.Known(err) && !errors.Is(err, context.Canceled) {
		// What cobra itself says: unknown command, wrong number of arguments.
		err = fault.New(fault.Usage, "%s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return err
}

// completeValues lets a shell complete the values of keys that have few.
func completeValues(cmd *cobra.Command) {
	for key, values := range map[string][]string{
		"device": config.DeviceNames(), "device.name": config.DeviceNames(),
		"device.isa": {"auto", "avx512", "avx2", "portable", "go"}, "device.cublas": {"off", "on", "tf32"}, "precision": {"f32", "bf16", "f16"}, "train.precision": {"f32", "bf16", "f16"},
	} {
		if cmd.Flags().Lookup(key) != nil {
			_ = cmd.RegisterFlagCompletionFunc(key, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only without the flag
		}
	}
	for _, c := range cmd.Commands() {
		completeValues(c)
	}
}

// usageText prints a command's usage with its flags in groups, one per configuration section.
func usageText(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		line = cmd.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(w, "Usage:\n  %s\n", line)
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		printed := map[string]bool{}
		list := func(title, id string) {
			header := false
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() && c.GroupID == id && !printed[c.Name()] {
					if !header {
						fmt.Fprintf(w, "\n%s\n", title)
						header = true
					}
					printed[c.Name()] = true
					fmt.Fprintf(w, "  %-10s %s\n", c.Name(), c.Short)
				}
			}
		}
		for _, g := range cmd.Groups() {
			list(g.Title, g.ID)
		}
		list("Commands:", "")
	}
	groups := map[string]*pflag.FlagSet{}
	var order []string
	group := func(name string) *pflag.FlagSet {
		if groups[name] == nil {
			groups[name] = pflag.NewFlagSet(name, pflag.ContinueOnError)
			groups[name].SortFlags = false
			order = append(order, name)
		}
		return groups[name]
	}
	group("Flags")
	cmd.LocalFlags().SortFlags = false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || cmd.InheritedFlags().Lookup(f.Name) != nil {
			return
		}
		section, _, dotted := strings.Cut(f.Name, ".")
		if !dotted {
			section = "Flags"
		} else {
			section = "Keys of " + section
		}
		group(section).AddFlag(f)
	})
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { group("Flags of every command").AddFlag(f) })
	for _, name := range order {
		if text := groups[name].FlagUsages(); text != "" {
			fmt.Fprintf(w, "\n%s:\n%s", name, text)
		}
	}
	if groups["Keys of train"] != nil {
		fmt.Fprintf(w, "\nEvery key can stand in a --config file or in an environment variable such as %s.\n", envName("train.seed"))
	}
	return nil
}

// keyValue is a flag for a configuration key: any text, checked when the configuration is resolved.
// Its types are not pflag's own names, which viper would convert by itself, and laxly.
type keyValue struct {
	text, kind string
	paths, set bool
}

func (k *keyValue) String() string { return k.text }
func (k *keyValue) Type() string   { return k.kind }

// Set replaces the text, or adds a path to those given before.
func (k *keyValue) Set(s string) error {
	if k.paths && k.set {
		s = k.text + pathSeparator + s
	}
	k.text, k.set = s, true
	return nil
}

// pathSeparator stands between the paths of a flag that was repeated: no path holds it.
const pathSeparator = "\x00"

// addConfigFlags declares --section.key for every key, the aliases asked for, and --config.
func addConfigFlags(flags *pflag.FlagSet, base config.Config, short ...string) {
	flags.String("config", "", "YAML `file` with configuration keys")
	all := settings()
	for _, a := range short {
		for _, s := range all {
			if s.key == aliases[a] {
				addConfigFlag(flags, a, s, base)
			}
		}
	}
	for _, s := range all {
		addConfigFlag(flags, s.key, s, base)
	}
}

// addConfigFlag declares one flag for a key, under the key's own name or an alias.
func addConfigFlag(flags *pflag.FlagSet, name string, s setting, base config.Config) {
	value := reflect.ValueOf(base).FieldByIndex(s.index)
	kv := &keyValue{kind: map[reflect.Kind]string{reflect.Int: "n", reflect.Uint64: "n", reflect.Float64: "x",
		reflect.Bool: "true|false", reflect.Slice: "list"}[s.typ.Kind()]}
	if kv.kind == "" {
		kv.kind = "text"
	}
	if _, kv.paths = value.Interface().(config.Paths); kv.paths {
		kv.kind = "path"
	}
	flag := flags.VarPF(kv, name, "", usage[s.key])
	if s.typ.Kind() == reflect.Bool {
		flag.NoOptDefVal = "true"
	}
	if !value.IsZero() && !(value.Kind() == reflect.Slice && value.Len() == 0) {
		flag.DefValue = display(value.Interface())
	}
}

// display writes a key's value as a flag takes it.
func display(value any) string {
	switch x := value.(type) {
	case []string:
		return strings.Join(x, ",")
	case []float64:
		return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(x), "[]")), ",")
	}
	return fmt.Sprint(value)
}
