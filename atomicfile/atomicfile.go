// Package atomicfile replaces files so that a name only ever shows a whole file, the
// old one or the new one, also after a crash.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"sift/fault"
)

// AtomicWrite calls write with a new file in path's directory and gives it the name path when
// all of this succeeded: write, fsync, close, rename, fsync of the directory. The mode is
// 0644 less the umask. On any failure before the rename the new file is removed and what
// path held before stays. An error of write keeps its kind (fault.IO if it has none); one
// of creating the file has kind fault.CannotWrite, the others fault.IO.
func AtomicWrite(path string, write func(io.Writer) error) (err error) {
	f, err := create(path)
	if err != nil {
		return fault.New(fault.CannotWrite, "%s: cannot create: %w", path, reason(err))
	}
	temp := f.Name()
	defer func() {
		if temp != "" {
			f.Close()
			os.Remove(temp)
		}
	}()
	if err := write(f); err != nil {
		return fault.As(fault.IO, err)
	}
	if err := f.Sync(); err != nil {
		return fault.New(fault.IO, "%s: cannot sync: %w", path, reason(err))
	}
	if err := f.Close(); err != nil {
		return fault.New(fault.IO, "%s: cannot close: %w", path, reason(err))
	}
	if err := os.Rename(temp, path); err != nil {
		return fault.New(fault.CannotWrite, "%s: cannot rename: %w", path, reason(err))
	}
	temp = ""
	return SyncDirectory(filepath.Dir(path))
}

// SyncDirectory makes the names in a directory durable.
func SyncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.New(fault.IO, "%s: cannot open: %w", dir, reason(err))
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fault.New(fault.IO, "%s: cannot sync: %w", dir, reason(err))
	}
	return nil
}

// create opens a new file beside path. os.CreateTemp would do but for its mode of 0600,
// which os.Chmod could widen only by ignoring the umask.
func create(path string) (*os.File, error) {
	dir, base := filepath.Split(path)
	if base == "" || base == "." || base == ".." {
		return nil, &os.PathError{Op: "create", Path: path, Err: os.ErrInvalid}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, &os.PathError{Op: "create", Path: path, Err: os.ErrExist}
	}
	const longest = 200 // leaves room in the 255 bytes of a name
	if len(base) > longest {
		base = base[:longest]
	}
	for attempt := 0; ; attempt++ {
		var random [8]byte
		rand.Read(random[:])
		name := filepath.Join(dir, "."+base+"."+hex.EncodeToString(random[:])+".tmp")
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) && attempt < 100 {
			continue
		}
		return f, err
	}
}

// reason drops the temporary name from an error of package os.
func reason(err error) error {
	switch e := err.(type) {
	case *os.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}
