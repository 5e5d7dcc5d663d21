package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"sift/atomicfile"
	"sift/config"
	"sift/fault"
	"sift/onnx"
	"sift/text"
	"sift/train"
	"sift/verify"
)

func exportCommand(t *terminal) *cobra.Command {
	var out, checkpoint, certificate string
	var force, half bool
	var budget float64
	cmd := &cobra.Command{
		Use:     "export RUN --out M.onnx",
		GroupID: groupModel,
		Short:   "Write a run's model into the graph it was imported from, and verify it.",
		Long: `Write a run's weights into the ONNX graph they were imported from: same names, opset and inputs, only
tensors change. A model from scratch is built whole, at opset 17. A classifier the graph lacked is added as new nodes with the output "logits". The file
gets its name only after it has been verified against the trained model.`,
		Example: `  sift export run --out model.onnx
  sift export run --checkpoint last --out model.onnx --force`,
		Args: arguments(1, 1, "one run directory"),
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "ONNX `file` to write")
	f.StringVar(&checkpoint, "checkpoint", "", "best, last or a `file` (default best)")
	f.StringVar(&certificate, "certificate", "", "`file` to write (default certificate.json beside --out)")
	f.BoolVar(&force, "force", false, "replace --out if it exists")
	f.BoolVar(&half, "half", false, "store matrices and tables as float16 (of a model built whole)")
	f.Float64Var(&budget, "budget", runEndBudget, "most multiply-adds to spend on verifying; larger batches are left out")
	addDeviceFlags(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out == "" {
			return fault.New(fault.Usage, "--out is needed; see sift export --help")
		}
		if !(budget > 0) {
			return fault.New(fault.Usage, "--budget: %v: must be above 0", budget)
		}
		r, err := resolve(cmd.Flags(), config.Default())
		if err != nil {
			return err
		}
		c, err := train.Open(args[0], train.OpenOptions{Checkpoint: checkpoint, Notice: func(s string) { t.note("%s", s) }})
		if err != nil {
			return err
		}
		if c.Run == "" {
			return fault.New(fault.Usage, "%s: is an ONNX file; sift export takes a run directory", args[0])
		}
		if c.Import != "" && sameFile(c.Import, out) {
			return fault.New(fault.Usage, "--out: %s is the imported model", out)
		}
		if inside(out, c.Run) {
			return fault.New(fault.Usage, "--out: %s is inside the run directory, which already holds the exported model", out)
		}
		if err := checkOutput("--out", out, force); err != nil {
			return err
		}
		if certificate == "" {
			certificate = filepath.Join(filepath.Dir(out), "certificate.json")
		}
		if err := checkCertificate(certificate, given(c.Import, out)...); err != nil {
			return err
		}
		cert, changes, err := exportVerified(cmd, t, r.Device, c, out, half, budget)
		if err != nil {
			return err
		}
		if err := verify.Write(certificate, cert); err != nil {
			return err
		}
		if t.json {
			return t.object(map[string]any{"out": out, "certificate": certificate, "patched": len(changes.Patched), "added": changes.Added,
				"new_outputs": changes.Outputs, "update": c.Update, "outputs": cert.Outputs, "verdict": cert.Verdict})
		}
		what := fmt.Sprintf("%d tensors changed, %d added", len(changes.Patched), len(changes.Added))
		if len(changes.Patched) == 0 {
			what = fmt.Sprintf("built whole, %d tensors", len(changes.Added))
		}
		if err := t.print("%s: %s, verified against the trained model (update %d): %s\n", out, what, c.Update, summarise(cert)); err != nil {
			return err
		}
		for _, o := range changes.Outputs {
			if err := t.print("new output: %s\n", o); err != nil {
				return err
			}
		}
		return t.print("certificate: %s\n", certificate)
	}
	return cmd
}

// exportVerified writes the model into a directory of its own beside out, verifies it
// there, and moves it to its name.
func exportVerified(cmd *cobra.Command, t *terminal, d config.Device, c *train.Trained, out string, half bool, budget float64) (*verify.Certificate, *onnx.Changes, error) {
	aside, err := os.MkdirTemp(filepath.Dir(out), ".sift-export-")
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		return nil, nil, fault.New(fault.CannotWrite, "%s: %v", out, err)
	}
	defer os.RemoveAll(aside)
	temporary := filepath.Join(aside, filepath.Base(out))
	changes, err := c.Export(temporary, onnx.BuildOptions{Half: half, Version: Version})
	if err != nil {
		return nil, nil, err
	}
	if !t.quiet && !t.json {
		t.note("verifying")
	}
	cert, err := checkAgainst(cmd.Context(), d, deviceUse{}, temporary, ofRun(c), verify.Options{Seed: 1, Budget: budget})
	if err != nil {
		return nil, nil, err
	}
	if err := cert.Err(); err != nil {
		return nil, nil, err
	}
	for _, name := range append(changes.DataFiles, out) { // the model last: it refers to the others
		name = filepath.Base(name)
		if err := os.Rename(filepath.Join(aside, name), filepath.Join(filepath.Dir(out), name)); err != nil {
			return nil, nil, fault.New(fault.IO, "%s: %v", out, err)
		}
	}
	return cert, changes, atomicfile.SyncDirectory(filepath.Dir(out))
}

// checkAlone compares a file with the engine running that file's own weights.
func checkAlone(cmd *cobra.Command, d config.Device, path, tokenizer string, nonFinite bool, opt verify.Options) (*verify.Certificate, error) {
	var tok *text.Tokenizer
	if tokenizer != "" {
		var err error
		if tok, err = text.Load(tokenizer); err != nil {
			return nil, err
		}
	}
	return checkAgainst(cmd.Context(), d, deviceUse{}, path, trained{tokenizer: tok, nonFinite: nonFinite}, opt)
}

// given lists the paths that are not empty.
func given(paths ...string) []string {
	return slices.DeleteFunc(paths, func(p string) bool { return p == "" })
}
