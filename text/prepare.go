package text

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"sift/atomicfile"
	"sift/fault"
)

// PrepareOptions says what is prepared and how.
type PrepareOptions struct {
	Paths      []string // files and directories, as of FindCorpus
	ShardBytes int64    // of a file, which ends with the document that reaches it; 0 takes 64 MiB
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

const (
	shardBytes     = 64 << 20
	mostShardBytes = 4 << 30 // so that positions within a shard have 32 bits, see mostTokens
)

// Prepare tokenises a corpus into the directory out, from which OpenPrepared makes the
// corpus that ReadCorpus would make of the same paths: files named shard-00000.sift and so
// on (see shardHeader), and manifest.json. Neither the number of threads nor the size of shards
// changes what the corpus is.
//
// out must be new, in a directory that exists, or empty. Its files are written under other
// names, synchronised and renamed, the manifest last: a directory without it is not finished.
// When ctx ends (kind fault.Interrupted) or anything fails, all that was written is
// removed; after a crash the directory stays, and neither Prepare nor OpenPrepared takes
// it.
//
// Memory does not grow with the text, but for what the manifest says of each source file and
// 36 bytes a document of one shard.
func (t *Tokenizer) Prepare(ctx context.Context, out string, o PrepareOptions) (info *PreparedInfo, err error) {
	if o.ShardBytes == 0 {
		o.ShardBytes = shardBytes
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.ShardBytes < 1 || o.ShardBytes > mostShardBytes {
		return nil, fault.New(fault.Config, "shards of %d bytes: must be from 1 to %d", o.ShardBytes, int64(mostShardBytes))
	}
	if o.Threads < 0 {
		return nil, fault.New(fault.Config, "%d threads: must be at least 1, or 0 for one a processor", o.Threads)
	}
	files, err := FindCorpus(o.Paths)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, path := range files {
		if f, err := os.Stat(path); err == nil {
			total += f.Size()
		}
	}
	if err := checkEmpty(out); err != nil {
		return nil, err
	}
	undo, err := beginDirectory(out)
	if err != nil {
		return nil, err
	}
	w := shardWriter{dir: out, limit: o.ShardBytes, vocabulary: t.VocabSize(), identity: t.identity()}
	defer func() {
		if err == nil {
			return
		}
		w.remove()
		undo()
		if fault.KindOf(err) == fault.Interrupted {
			err = fault.New(fault.Interrupted, "%s: interrupted before it was whole, so nothing of it was kept", out)
		}
	}()

	a := newAssembly(&w)
	found, err := t.tokeniseFiles(ctx, files, o.Threads, a, func(bytes int64) {
		if o.Progress != nil {
			o.Progress(PrepareProgress{bytes, max(total, bytes), a.documents, a.sentences, a.tokens})
		}
	})
	if err != nil {
		return nil, err
	}
	if a.documents == 0 {
		return nil, noText(o.Paths)
	}
	if err := w.endShard(); err != nil {
		return nil, err
	}
	m := manifest{
		Tokenizer: manifestTokenizer{hex.EncodeToString(w.identity[:]), w.vocabulary, t.Path},
		Hash:      a.hash(), Documents: a.documents, Sentences: a.sentences, Tokens: a.tokens,
		Shards: w.shards, Files: found,
	}
	info = &PreparedInfo{Files: found, Documents: a.documents, Sentences: a.sentences, Tokens: a.tokens, Shards: len(w.shards), Hash: m.Hash}
	for i := range found {
		m.TextBytes += found[i].Bytes
		info.Notes = append(info.Notes, found[i].Notes...)
	}
	for i := range w.shards {
		info.Bytes += w.shards[i].Bytes
	}
	info.TextBytes = m.TextBytes
	if err := atomicfile.SyncDirectory(out); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, interrupted()
	}
	if err := m.write(out); err != nil {
		return nil, err
	}
	// The directory is whole; the mark is only for one that is not.
	_ = os.Remove(filepath.Join(out, unfinishedName))
	return info, nil
}

// checkEmpty refuses a directory that holds anything.
func checkEmpty(out string) error {
	entries, err := os.ReadDir(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.New(fault.CannotWrite, "%s: %v", out, cause(err))
	case len(entries) == 0:
		return nil
	}
	if _, err := os.Stat(filepath.Join(out, manifestName)); err != nil && IsPrepared(out) {
		return fault.New(fault.CannotWrite, "%s: holds a preparation that was interrupted or still runs: remove it first", out)
	}
	return fault.New(fault.CannotWrite, "%s: exists and is not empty", out)
}

// unfinishedText is for people who look into such a directory.
const unfinishedText = "sift prepare is writing this directory, or was interrupted. If it no longer runs, remove the directory.\n"

// beginDirectory makes out if it is not there and marks it as unfinished. undo takes both
// back.
func beginDirectory(out string) (undo func(), err error) {
	err = os.Mkdir(out, 0o777)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fault.New(fault.CannotWrite, "%s: cannot create: %v", out, cause(err))
	}
	path := filepath.Join(out, unfinishedName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fault.New(fault.CannotWrite, "%s: another preparation is writing there", out)
	}
	undo = func() {
		_ = os.Remove(path)
		if made {
			_ = os.Remove(out)
		}
	}
	if err == nil {
		_, err = f.WriteString(unfinishedText)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		undo()
		return nil, fault.New(fault.CannotWrite, "%s: %v", path, cause(err))
	}
	return undo, nil
}
