package cli

import (
	"math"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"sift/fault"
	"sift/text"
)

// A prepareSummary is what sift prepare --json prints.
type prepareSummary struct {
	Out       string   `json:"out"`
	Tokenizer string   `json:"tokenizer"`
	Files     int      `json:"files"`
	TextBytes int64    `json:"text_bytes"`
	Documents int      `json:"documents"`
	Sentences int      `json:"sentences"`
	Tokens    int      `json:"tokens"`
	Shards    int      `json:"shards"`
	Bytes     int64    `json:"bytes"`
	Hash      string   `json:"corpus_hash"`
	Seconds   float64  `json:"seconds"`
	Speed     float64  `json:"tokens_per_second"`
	Notes     []string `json:"notes"`
}

func prepareCommand(t *terminal) *cobra.Command {
	var tokenizer, out string
	var threads, shardMB int
	cmd := &cobra.Command{
		Use:     "prepare --tokenizer T --out DIR PATH...",
		GroupID: groupTrain,
		Short:   "Tokenise running text once, for pre-training from a corpus larger than memory.",
		Long: `Tokenise text files, or all .txt files of directories, into a directory of checksummed shards, which
sift pretrain takes as --train or --valid: the shards are mapped, not read into memory, and give the
same examples as the text, in an order of their own in every epoch. They belong to one tokenizer. The
directory must be new or empty, and is finished only once manifest.json is there.`,
		Example: `  sift prepare --tokenizer vocab.txt --out prepared corpus/
  sift pretrain --tokenizer vocab.txt --train prepared --out run`,
		Args: arguments(1, math.MaxInt, "at least one text file or directory"),
	}
	flags := cmd.Flags()
	flags.StringVar(&tokenizer, "tokenizer", "", "`path` of a tokenizer directory, vocab.txt or tokenizer.json")
	flags.StringVar(&out, "out", "", "`directory` to write, new or empty")
	flags.IntVar(&threads, "threads", 0, "threads that tokenise; 0 takes every core, 1 does all the work on one")
	flags.IntVar(&shardMB, "shard-mb", 64, "size of a shard in `MiB`, 1 to 4096; it ends with the document that reaches it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case tokenizer == "":
			return fault.New(fault.Usage, "--tokenizer: a tokenizer is needed; see %s --help", cmd.CommandPath())
		case out == "":
			return fault.New(fault.Usage, "--out: a directory is needed; see %s --help", cmd.CommandPath())
		case threads < 0 || threads > 1024:
			return fault.New(fault.Usage, "--threads: %d: must be from 1 to 1024, or 0 for every core", threads)
		case shardMB < 1 || shardMB > 4096:
			return fault.New(fault.Usage, "--shard-mb: %d: must be from 1 to 4096", shardMB)
		}
		tok, err := text.Load(tokenizer)
		if err != nil {
			return err
		}
		start := time.Now()
		progress, clear := prepareProgress(t, start)
		info, err := tok.Prepare(cmd.Context(), out, text.PrepareOptions{
			Paths: args, ShardBytes: int64(shardMB) << 20, Threads: threads, Progress: progress,
		})
		clear()
		if err != nil {
			return err
		}
		seconds := time.Since(start).Seconds()
		s := prepareSummary{
			Out: out, Tokenizer: tok.Path, Files: len(info.Files), TextBytes: info.TextBytes,
			Documents: info.Documents, Sentences: info.Sentences, Tokens: info.Tokens,
			Shards: info.Shards, Bytes: info.Bytes, Hash: info.Hash,
			Seconds: seconds, Speed: float64(info.Tokens) / seconds, Notes: append([]string{}, info.Notes...),
		}
		for _, note := range info.Notes {
			t.note("%s", note)
		}
		if t.json {
			return t.object(s)
		}
		return t.print("%s, %s and %s of %s (%.1f MB of text) in %.1f s, %.0f tokens/s\nprepared: %s, %s (%.1f MB)\n",
			counted(s.Documents, "document"), counted(s.Sentences, "sentence"), counted(s.Tokens, "token"),
			counted(s.Files, "file"), float64(s.TextBytes)/1e6, s.Seconds, s.Speed, out, counted(s.Shards, "shard"), float64(s.Bytes)/1e6)
	}
	return cmd
}

// prepareProgress returns a receiver of progress, nil when quiet: a bar on a terminal, a
// line now and then elsewhere. clear takes the bar away.
func prepareProgress(t *terminal, start time.Time) (progress func(text.PrepareProgress), clear func()) {
	if t.quiet {
		return nil, func() {}
	}
	if isTerminal(t.err) {
		var bar *progressbar.ProgressBar
		clear = func() {
			if bar != nil {
				_ = bar.Clear()
			}
		}
		return func(p text.PrepareProgress) {
			if bar == nil {
				bar = progressbar.NewOptions64(p.TotalBytes, progressbar.OptionSetWriter(t.err), progressbar.OptionShowBytes(true),
					progressbar.OptionSetWidth(24), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(),
					progressbar.OptionSetDescription("tokenising"))
			}
			_ = bar.Set64(p.Bytes)
		}, clear
	}
	last := start
	return func(p text.PrepareProgress) {
		if time.Since(last) < 10*time.Second {
			return
		}
		last = time.Now()
		elapsed := time.Since(start)
		left := time.Duration(float64(elapsed) * float64(p.TotalBytes-p.Bytes) / float64(max(p.Bytes, 1)))
		t.note("%.1f of %.1f MB  %d documents  %d tokens  %.0f tokens/s  %s left", float64(p.Bytes)/1e6, float64(p.TotalBytes)/1e6,
			p.Documents, p.Tokens, float64(p.Tokens)/elapsed.Seconds(), left.Round(time.Second))
	}, func() {}
}
