package text

import (
	"context"

	"sift/fault"
)

// PrepareOptions says what is prepared and how.
type PrepareOptions struct {
	Paths      []string // files and directories, as of FindCorpus
	ShardBytes int64    // about the size of a file; 0 takes 64 MiB
	Threads    int      // goroutines that tokenise; 0 takes one a processor
	Progress   func(PrepareProgress)
}

// PrepareProgress says how far Prepare has come.
type PrepareProgress struct {
	Bytes, TotalBytes int64 // of text
	Documents         int
	Sentences         int
	Tokens            int
}

// PreparedInfo says what Prepare wrote.
type PreparedInfo struct {
	Files     []CorpusFile
	Notes     []string
	Documents int
	Sentences int
	Tokens    int
	TextBytes int64
	Bytes     int64 // of all shards
	Shards    int
	Hash      string // Corpus.Hash
}

// Prepare tokenises a corpus into a directory of shards that OpenPrepared maps.
func (t *Tokenizer) Prepare(ctx context.Context, out string, o PrepareOptions) (*PreparedInfo, error) {
	return nil, fault.New(fault.Internal, "%s: preparing is not built in", out)
}
