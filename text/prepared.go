package text

import (
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"sift/fault"
)

// unfinishedName marks a directory that Prepare has begun and not ended.
const unfinishedName = "UNFINISHED"

// IsPrepared reports whether path is a directory that Prepare wrote, or began to write;
// OpenPrepared says what is wrong with it, if anything.
func IsPrepared(path string) bool {
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if isShardName(e.Name()) {
			return true
		}
	}
	return strings.Contains(headOf(filepath.Join(path, manifestName)), `"`+manifestFormat+`"`) ||
		strings.HasPrefix(unfinishedText, headOf(filepath.Join(path, unfinishedName)))
}

// headOf returns the first bytes of a regular file, "-" if it cannot be read.
func headOf(path string) string {
	f, err := openText(path)
	if err != nil {
		return "-"
	}
	defer f.Close()
	head := make([]byte, 64)
	n, _ := io.ReadFull(f, head)
	return string(head[:n])
}

// OpenPrepared opens what Prepare wrote with a tokenizer that gives the same ids. It reads
// every byte once, on all processors, and checks sizes, checksums, that positions ascend and
// stay in range, and that ids are of the vocabulary; anything wrong is an error that
// names the file. Files must not change as long as the corpus is open: then reading it
// panics with an error of kind fault.IO.
//
// Shards are mapped, not read into memory, where the system can; see residency for how
// little of them stays there.
func (t *Tokenizer) OpenPrepared(path string) (*Corpus, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	if _, err := os.Stat(filepath.Join(path, manifestName)); errors.Is(err, fs.ErrNotExist) && IsPrepared(path) {
		return nil, fault.New(fault.Data, "%s: has no %s, so its preparation was interrupted or still runs: remove it and prepare again", path, manifestName)
	}
	m, err := readManifest(path)
	if err != nil {
		return nil, err
	}
	identity := t.identity()
	if m.Tokenizer.Identity != hex.EncodeToString(identity[:]) {
		return nil, fault.New(fault.Data, "%s: was prepared with another tokenizer (%s, %d tokens) than %s (%d tokens): prepare it again with this one",
			path, m.Tokenizer.Path, m.Tokenizer.Vocabulary, t.Path, t.VocabSize())
	}
	listed := make(map[string]bool, len(m.Shards))
	for i := range m.Shards {
		listed[m.Shards[i].Name] = true
	}
	for _, e := range entries {
		if n := e.Name(); isShardName(n) && !listed[n] {
			return nil, fault.New(fault.Data, "%s: is not among the %s of %s", filepath.Join(path, n), plural(len(m.Shards), "shard"), manifestName)
		}
	}
	shards, err := openShards(path, m, identity, t.VocabSize())
	st := newStore(shards)
	st.resident.mapped = canMap && littleEndian
	st.resident.dir = path
	if err != nil {
		st.close()
		return nil, err
	}
	c := newCorpus(st, m.Files)
	if c.Hash() != m.Hash {
		st.close()
		return nil, fault.New(fault.Data, "%s: the documents' digests do not have the hash in %s", path, manifestName)
	}
	return c, nil
}

// openShards opens and checks all shards. After an error, which is that of the first shard
// that has one, some are open.
func openShards(dir string, m *manifest, identity digest, vocabulary int) ([]*shard, error) {
	shards := make([]*shard, len(m.Shards))
	failed := make([]error, len(m.Shards))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(m.Shards)) {
		wg.Go(func() {
			var buf []byte
			for {
				i := int(next.Add(1)) - 1
				if i >= len(m.Shards) {
					return
				}
				if buf == nil {
					buf = make([]byte, checkBytes)
				}
				w := shardWanted{m.Shards[i], i, identity, vocabulary}
				if shards[i], failed[i] = w.open(dir, buf); failed[i] != nil {
					next.Add(int64(len(m.Shards))) // no more
				}
			}
		})
	}
	wg.Wait()
	var opened []*shard
	var first error
	for i := range shards {
		if shards[i] != nil {
			opened = append(opened, shards[i])
		}
		if first == nil && failed[i] != nil {
			first = failed[i]
		}
	}
	return opened, first
}
