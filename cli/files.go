package cli

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sift/fault"
	"sift/verify"
)

// readRegular reads a regular file of at most limit bytes; a pipe or a device could
// block or never end.
func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, missing(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Missing, "%s: not a regular file", path)
	}
	if info.Size() > limit {
		return nil, fault.New(fault.Data, "%s: %d bytes, at most %d are read", path, info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, missing(path, err)
	}
	return data, nil
}

// missing words an error of opening or reading an input.
func missing(path string, err error) error {
	cause := err
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		cause = pathError.Err
	}
	return fault.New(fault.Missing, "%s: %v", path, cause)
}

// checkOutput refuses a file to be written that is there already, unless force says to
// replace it, and whatever is no regular file: it would be replaced by one.
func checkOutput(flag, path string, force bool) error {
	if path == "" {
		return fault.New(fault.Usage, "%s: is empty; it names the file to write", flag)
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil // writing it says what is wrong, if anything is
	case info.IsDir():
		return fault.New(fault.CannotWrite, "%s: is a directory; %s names a file", path, flag)
	case !info.Mode().IsRegular():
		return fault.New(fault.CannotWrite, "%s: is no regular file; %s names one", path, flag)
	case !force:
		return fault.New(fault.CannotWrite, "%s: exists; --force replaces it", path)
	}
	return nil
}

// sameFile reports whether two paths name one file, which need not exist.
func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(x, y)
	}
	return real(a) == real(b)
}

// real is the absolute path with links resolved, as far as it exists.
func real(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// inside reports whether path lies in directory dir.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(real(dir), real(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// checkCertificate refuses to write a certificate over an input or output of the
// command, or over any file that is not a certificate.
func checkCertificate(path string, others ...string) error {
	for _, o := range others {
		if sameFile(path, o) {
			return fault.New(fault.Usage, "--certificate: %s is another file of this command", path)
		}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.New(fault.CannotWrite, "%v", missing(path, err))
	}
	defer f.Close()
	info, err := f.Stat()
	var c verify.Certificate
	if err == nil && info.Mode().IsRegular() && info.Size() < 1<<24 {
		data, err := io.ReadAll(f)
		if err == nil && json.Unmarshal(data, &c) == nil && c.Verdict != "" && c.Tool != "" {
			return nil
		}
	}
	return fault.New(fault.CannotWrite, "%s: exists and is no certificate; choose another with --certificate", path)
}
