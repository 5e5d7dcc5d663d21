package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"sift/train"
)

// counted writes a number with its noun: "1 thread", "2 threads".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// isTerminal reports whether progress would be seen by a person.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// showProgress returns a receiver of training events: first the device, then a bar on a terminal, a line now
// and then elsewhere, nothing when quiet.
func showProgress(t *terminal, device string) func(train.Event) {
	if t.quiet {
		return func(e train.Event) {
			if n, ok := e.(*train.Notice); ok {
				t.note("%s", n.Text)
			}
		}
	}
	var bar *progressbar.ProgressBar
	clear := func() {
		if bar != nil {
			_ = bar.Clear()
		}
	}
	live := isTerminal(t.err)
	lastLine := time.Now()
	return func(event train.Event) {
		switch e := event.(type) {
		case *train.Planned:
			t.note("%s", device)
			what := fmt.Sprintf("%s, %s and %d labels", counted(e.Examples, "training example"), counted(e.Tokens, "token"), len(e.Labels))
			if e.Documents > 0 {
				what = textPlan(e)
			}
			t.note("%s; %s, drawing %d samples and back-propagating %d", what, counted(e.Updates, "update"), e.Drawn, e.Kept)
			if e.Cut > 0 {
				t.note("%s cut to task.max_length", counted(e.Cut, "example"))
			}
			if e.Done > 0 {
				t.note("resuming after update %d", e.Done)
			}
			if live {
				bar = progressbar.NewOptions(e.Updates, progressbar.OptionSetWriter(t.err), progressbar.OptionShowCount(),
					progressbar.OptionSetWidth(24), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(),
					progressbar.OptionShowIts(), progressbar.OptionSetItsString("updates"))
				_ = bar.Set(e.Done)
			}
		case *train.Updated:
			if bar != nil {
				bar.Describe(fmt.Sprintf("loss %.4f  lr %.2e", e.KeptLoss, e.LearningRate))
				_ = bar.Set(e.Update)
			} else if time.Since(lastLine) > 10*time.Second {
				lastLine = time.Now()
				t.note("update %d of %d  loss %.4f  accuracy %.3f  lr %.2e  %.0f tokens/s  %s left", e.Update, e.Updates, e.KeptLoss,
					e.Accuracy, e.LearningRate, e.TokensPerSecond, e.Remaining.Round(time.Second))
			}
		case *train.Evaluated:
			clear()
			best := ""
			if e.Best {
				best = "  (best so far)"
			}
			if m := e.MaskedEvaluation; m != nil {
				next := ""
				if m.NSPCount > 0 {
					next = fmt.Sprintf("; next sentence: accuracy %.4f, loss %.4f", m.NSPAccuracy, m.NSPLoss)
				}
				t.note("update %d: masked-token accuracy %.4f, loss %.4f on %s%s%s", e.Update, e.Accuracy, m.MLMLoss, counted(e.N, "token"), next, best)
			} else {
				t.note("update %d: validation accuracy %.4f, loss %.4f on %s%s", e.Update, e.Accuracy, e.Loss, counted(e.N, "example"), best)
			}
			lastLine = time.Now()
		case *train.Notice:
			clear()
			t.note("%s", e.Text)
		}
	}
}

// textPlan says what an epoch of running text is made of.
func textPlan(e *train.Planned) string {
	pairs := ""
	if e.Pairs {
		pairs = " of two segments"
	}
	s := fmt.Sprintf("%s, %s, %s%s an epoch", counted(e.Documents, "document"), counted(e.Tokens, "token"), counted(e.Examples, "sequence"), pairs)
	if e.Validated > 0 {
		s += fmt.Sprintf("; %s, %s held out", counted(e.Held, "document"), counted(e.Validated, "sequence"))
	}
	return s
}
