// Package train runs the loop around the sifted step: data order, counting, schedules,
// AdamW, validation, checkpoints that a run continues from bit for bit, and the run
// directory.
package train

import (
	"context"

	"sift/backend"
	"sift/config"
	"sift/fault"
)

// RunOptions are what a run needs beside its configuration.
type RunOptions struct {
	Out      string         // the run directory
	Resume   bool           // continue the run in Out
	Device   backend.Device // opened by the caller, who closes it
	Version  string         // of the program, written into checkpoints
	Progress func(Event)    // optional
	// Verify, if given, is called with the finished model file under a temporary name and
	// the classifier it must agree with; an error keeps the file from getting its final
	// name. certificate is where a certificate may be written.
	Verify func(ctx context.Context, model string, c *Classifier, certificate string) error
}

// Finetune trains a classifier as cfg says and leaves everything in opt.Out.
//
// Errors: fault.Config, Data, Missing for the inputs (nothing is left behind then),
// CannotWrite if opt.Out is already a run, IO, Device; Interrupted when ctx was
// cancelled: the update under way was finished and a checkpoint written; Diverged when a
// loss or gradient norm was not finite: that update was not applied.
func Finetune(ctx context.Context, cfg config.Config, opt RunOptions) (*Summary, error) {
	return nil, fault.New(fault.Internal, "train: not written yet")
}

// RunConfig reads the resolved configuration of the run in dir, from which a resumed
// run starts.
func RunConfig(dir string) (config.Config, error) {
	return config.Config{}, fault.New(fault.Internal, "train: not written yet")
}
