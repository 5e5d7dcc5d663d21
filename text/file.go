package text

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"sift/fault"
)

// readFile returns the bytes of a regular file as a string, and their SHA-256 in hex. A
// file of more than limit bytes is refused; limit 0 sets none. Devices and pipes are
// refused, since they may never end.
func readFile(path string, limit int64) (content, hash string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", "", fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	if info.IsDir() {
		return "", "", fault.New(fault.Missing, "%s: is a directory", path)
	}
	if !info.Mode().IsRegular() {
		return "", "", fault.New(fault.Missing, "%s: is not a regular file", path)
	}
	if limit > 0 && info.Size() > limit {
		return "", "", fault.New(fault.Data, "%s: has %d bytes, more than the %d of any vocabulary", path, info.Size(), limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	defer f.Close()
	var b strings.Builder
	b.Grow(int(info.Size()))
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(&b, sum), f); err != nil {
		return "", "", fault.New(fault.IO, "%s: %v", path, cause(err))
	}
	return b.String(), hex.EncodeToString(sum.Sum(nil)), nil
}

// cause returns an error of package os without the operation and the path.
func cause(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
