package train

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"sift/fault"
)

// disk is every operation that a run makes on its directory, so that tests can make
// each of them fail and lose what was not synchronised.
type disk interface {
	Mkdir(dir string) error // with its parents; no error if it exists
	Create(path string) (diskFile, error)
	Append(path string) (diskFile, error) // created if absent
	Open(path string) (diskReader, error) // a regular file
	Truncate(path string, size int64) error
	Rename(from, to string) error
	Remove(path string) error
	List(dir string) ([]string, error) // names, sorted
	SyncDir(dir string) error          // makes creations, renames and removals last
}

type diskFile interface {
	io.Writer
	Sync() error
	Close() error
}

type diskReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// osDisk is the operating system's.
type osDisk struct{}

func (osDisk) Mkdir(dir string) error                 { return os.MkdirAll(dir, 0o777) }
func (osDisk) Truncate(path string, size int64) error { return os.Truncate(path, size) }
func (osDisk) Rename(from, to string) error           { return os.Rename(from, to) }
func (osDisk) Remove(path string) error               { return os.Remove(path) }

func (osDisk) Create(path string) (diskFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
}

func (osDisk) Append(path string) (diskFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
}

func (osDisk) Open(path string) (diskReader, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a FIFO would wait for a writer
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return osReader{f, info.Size()}, nil
}

func (osDisk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	sort.Strings(names)
	return names, nil
}

func (osDisk) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osReader struct {
	*os.File
	size int64
}

func (r osReader) Size() int64 { return r.size }

// temporary is the name under which path is written before it is whole. A run directory
// has one writer, so the name needs no random part and a crash leaves at most one.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// replace gives path the contents that write produces, or leaves it as it was:
// temporary file, write, sync, close, rename, sync of the directory.
func replace(d disk, path string, write func(io.Writer) error) error {
	tmp := temporary(path)
	f, err := d.Create(tmp)
	if err != nil {
		return diskError(fault.CannotWrite, path, err)
	}
	w := bufio.NewWriterSize(f, 1<<18)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = d.Rename(tmp, path)
	}
	if err != nil {
		_ = d.Remove(tmp) // the first error is the one to report
		return diskError(fault.IO, path, err)
	}
	if err := d.SyncDir(filepath.Dir(path)); err != nil {
		return diskError(fault.IO, path, err)
	}
	return nil
}

// readAll reads a file of at most limit bytes.
func readAll(d disk, path string, limit int64) ([]byte, error) {
	r, err := d.Open(path)
	if err != nil {
		return nil, diskError(fault.Missing, path, err)
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, fault.New(fault.Data, "%s: %d bytes, at most %d expected", path, r.Size(), limit)
	}
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, diskError(fault.IO, path, err)
	}
	return b, nil
}

// diskError words an error of the operating system: PATH: CAUSE. An error that has a
// kind keeps it.
func diskError(kind fault.Kind, path string, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	cause := err
	var pathError *fs.PathError
	var linkError *os.LinkError
	if errors.As(err, &pathError) {
		cause = pathError.Err
	} else if errors.As(err, &linkError) {
		cause = linkError.Err
	}
	return &fault.Error{Kind: kind, Text: path + ": " + cause.Error(), Cause: err}
}
