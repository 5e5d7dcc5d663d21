package text

import (
	"os"
	"path/filepath"

	"sift/fault"
)

const manifestName = "manifest.json"

// IsPrepared reports whether path is a directory that Prepare wrote or began to write.
func IsPrepared(path string) bool {
	_, err := os.Stat(filepath.Join(path, manifestName))
	return err == nil
}

// OpenPrepared opens what Prepare wrote with the same tokenizer.
func (t *Tokenizer) OpenPrepared(path string) (*Corpus, error) {
	return nil, fault.New(fault.Internal, "%s: prepared data are not built in", path)
}
