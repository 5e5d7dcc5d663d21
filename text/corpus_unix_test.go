//go:build unix

package text

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sift/fault"
)

// TestCorpusPipe: a pipe is refused, not waited for, however it is reached.
func TestCorpusPipe(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "pipe.txt")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir} {
		_, err := load(t).ReadCorpus(t.Context(), path)
		if fault.KindOf(err) != fault.Missing || !strings.HasPrefix(err.Error(), fifo+": is not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := ReadCorpusFile(fifo, nil); fault.KindOf(err) != fault.Missing {
		t.Error(err)
	}
}
