package cli

import (
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/spf13/cobra"

	"sift/atomicfile"
	"sift/config"
	"sift/fault"
	"sift/onnx"
	"sift/train"
	"sift/verify"
	"sift/verify/cases"
)

func verifyCommand(t *terminal) *cobra.Command {
	var run, checkpoint, certificate, tokenizer, casesFile string
	var tolerance verify.Tolerance
	var budget float64
	var seed uint64
	var nonFinite bool
	cmd := &cobra.Command{
		Use:     "verify A.onnx [B.onnx]",
		GroupID: groupModel,
		Short:   "Prove that an ONNX file computes what the trained model, or another file, computes.",
		Long: `Run an ONNX graph node by node in float64, with no kernel of the engine, and compare every output
with the trained model (--run), with another file, or with the engine running the file's own weights.
Writes certificate.json beside the file. Exit code 1 means that they differ.`,
		Example: `  sift verify model.onnx --run run
  sift verify mine.onnx theirs.onnx --json`,
		Args: arguments(1, 2, "one ONNX file or two"),
	}
	f := cmd.Flags()
	f.StringVar(&run, "run", "", "compare with the trained model of this run `directory`")
	f.StringVar(&checkpoint, "checkpoint", "", "of the run: best, last or a `file` (default best)")
	f.StringVar(&tokenizer, "tokenizer", "", "also try real sentences, with this tokenizer `path`")
	f.StringVar(&certificate, "certificate", "", "`file` to write (default certificate.json beside A.onnx)")
	f.StringVar(&casesFile, "cases", "", "also write the inputs and outputs to this JSON `file`, for scripts/ort/check.mjs")
	f.Float64Var(&tolerance.Absolute, "atol", verify.DefaultTolerance.Absolute, "absolute `tolerance`")
	f.Float64Var(&tolerance.Relative, "rtol", verify.DefaultTolerance.Relative, "relative `tolerance`")
	f.Float64Var(&budget, "budget", verify.DefaultBudget, "most multiply-adds to spend; larger batches are left out")
	f.Uint64Var(&seed, "seed", 1, "seed of random tokens")
	f.BoolVar(&nonFinite, "allow-non-finite", false, "accept weights that are NaN or infinite")
	addDeviceFlags(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 2 && run != "" {
			return fault.New(fault.Usage, "sift verify compares with either B.onnx or --run")
		}
		if math.IsInf(tolerance.Absolute+tolerance.Relative, 0) || !(tolerance.Absolute >= 0) || !(tolerance.Relative >= 0) || !(budget > 0) || tolerance.Absolute+tolerance.Relative == 0 {
			return fault.New(fault.Usage, "--atol, --rtol: must be finite, not negative, and not both 0; --budget: must be above 0")
		}
		r, err := resolve(cmd.Flags(), config.Default())
		if err != nil {
			return err
		}
		if certificate == "" {
			certificate = filepath.Join(filepath.Dir(args[0]), "certificate.json")
		}
		if err := checkCertificate(certificate, append(args, casesFile)...); err != nil {
			return err
		}
		for _, a := range args {
			if casesFile != "" && sameFile(a, casesFile) {
				return fault.New(fault.Usage, "--cases: %s is an input", casesFile)
			}
		}
		opt := verify.Options{Seed: seed, Tolerance: tolerance, Budget: budget, Tool: "sift " + Version}
		if !t.quiet && !t.json && isTerminal(t.err) {
			opt.Progress = func(done, total int, in *verify.Inputs) { t.note("checking %d of %d: %s", done+1, total, in) }
		}
		var tried []cases.Case
		if casesFile != "" {
			opt.Observe = func(c cases.Case) { tried = append(tried, c) }
		}
		var cert *verify.Certificate
		switch {
		case len(args) == 2:
			cert, err = compareFiles(cmd, args[0], args[1], opt)
		case run != "":
			var c *train.Trained
			if c, err = train.Open(run, train.OpenOptions{Checkpoint: checkpoint, Tokenizer: tokenizer,
				Notice: func(s string) { t.note("%s", s) }}); err == nil {
				cert, err = checkAgainst(cmd.Context(), r.Device, deviceUse{}, args[0], ofRun(c), opt)
			}
		default:
			cert, err = checkAlone(cmd, r.Device, args[0], tokenizer, nonFinite, opt)
		}
		if err != nil {
			return err
		}
		if err := verify.Write(certificate, cert); err != nil {
			return err
		}
		if casesFile != "" {
			if err := atomicfile.AtomicWrite(casesFile, func(w io.Writer) error {
				return cases.Write(w, tolerance.Absolute, tolerance.Relative, tried)
			}); err != nil {
				return err
			}
		}
		if t.json {
			if err := t.object(cert); err != nil {
				return err
			}
			return cert.Err()
		}
		if cert.Err() == nil {
			return t.print("%s agrees with %s: %s\ncertificate: %s\n", args[0], cert.Reference.Name, summarise(cert), certificate)
		}
		return cert.Err()
	}
	return cmd
}

// compareFiles compares two ONNX files, recognised or not.
func compareFiles(cmd *cobra.Command, a, b string, opt verify.Options) (*verify.Certificate, error) {
	fa, err := onnx.Open(a)
	if err != nil {
		return nil, err
	}
	defer fa.Close()
	fb, err := onnx.Open(b)
	if err != nil {
		return nil, err
	}
	defer fb.Close()
	opt.Model, opt.Other = fa, fb
	// A graph we do not recognise can still be run; its inputs are then found by name.
	if m, err := onnx.Recognise(fa); err == nil {
		opt.Match = m
	}
	if m, err := onnx.Recognise(fb); err == nil {
		opt.OtherMatch = m
	}
	return verify.Run(cmd.Context(), opt)
}

// summarise says in one line what a certificate holds.
func summarise(c *verify.Certificate) string {
	text := ""
	for _, o := range c.Outputs {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s within %.1e", o.Name, o.MaxAbsolute)
		if o.ArgmaxRows > 0 {
			text += fmt.Sprintf(" (argmax %d of %d)", o.ArgmaxAgree, o.ArgmaxRows)
		}
	}
	tokens := 0
	for _, in := range c.Inputs {
		tokens += in.Tokens
	}
	return fmt.Sprintf("%s over %d batches, %d tokens", text, len(c.Inputs), tokens)
}
