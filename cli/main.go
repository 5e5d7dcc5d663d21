// Package cli is the command line: commands, configuration, progress and exit codes.
// It is the only package that prints, opens devices or decides an exit code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"sift/fault"
)

// Version is the program's version, recorded in certificates and run directories.
const Version = "0.1.0"

// exitCode maps the kind of an error to the codes of sysexits.h.
func exitCode(err error) int {
	switch fault.KindOf(err) {
	case fault.Answer:
		return 1
	case fault.Usage:
		return 64
	case fault.Data:
		return 65
	case fault.Missing:
		return 66
	case fault.Device:
		return 69
	case fault.CannotWrite:
		return 73
	case fault.IO:
		return 74
	case fault.Interrupted:
		return 75
	case fault.Config:
		return 78
	case fault.Diverged:
		return 80
	}
	return 70
}

// Main runs one command line and returns the exit code of the process.
//
// The first SIGINT, SIGTERM or SIGHUP asks the command to stop at the next safe point; a
// second one ends the process at once with code 75.
func Main(args []string, stdout, stderr io.Writer) (code int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// A closed standard output is an error of the write, not a death by signal.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		fmt.Fprintln(stderr, "stopping as soon as it is safe; interrupt again to stop at once")
		cancel()
		<-signals
		fmt.Fprintln(stderr, "error: "+stoppedText(args))
		os.Exit(75)
	}()

	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(stderr, "error: internal error: %s\n", oneLine(fmt.Sprint(r)))
			if os.Getenv("SIFT_DEBUG") != "" {
				fmt.Fprintf(stderr, "%s", debug.Stack())
			}
			code = 70
		}
	}()
	out := &watched{Writer: stdout}
	err := execute(ctx, args, out, stderr)
	if err == nil && out.err != nil {
		// cobra prints help and version without looking at errors.
		err = fault.New(fault.IO, "standard output: %w", out.err)
	}
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) && !fault.Known(err) {
		err = fault.New(fault.Interrupted, "interrupted")
	}
	fmt.Fprintf(stderr, "error: %s\n", oneLine(err.Error()))
	return exitCode(err)
}

// stoppedText is said when a command is stopped at once. Its name is the first argument
// that is no flag: the flags before it take no values.
func stoppedText(args []string) string {
	i := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if i >= 0 && (args[i] == "finetune" || args[i] == "pretrain") {
		return "stopped at once; the run continues from its last checkpoint with --resume"
	}
	return "stopped at once"
}

// oneLine keeps a message on one line and free of control characters, whatever a file name holds.
func oneLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unsafeRune(r):
			return '?'
		}
		return r
	}, s)
}

// unsafeRune reports whether a terminal might obey r instead of showing it: control
// characters, and those that change the direction of text.
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// watched remembers the first failed write.
type watched struct {
	io.Writer
	err error
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}
