package train

import (
	"encoding/json"
	"errors"
	"io/fs"

	"sift/fault"
)

// lines is a file of JSON objects, one a line, that grows while a run goes on.
type lines struct {
	path string
	f    diskFile
	size int64
	buf  []byte
}

// openLines opens path for appending after its first size bytes; what follows them was
// written after the checkpoint that a run continues from.
func openLines(d disk, path string, size int64) (*lines, error) {
	r, err := d.Open(path)
	have := int64(0)
	switch {
	case err == nil:
		have = r.Size()
		r.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, diskError(fault.IO, path, err)
	}
	if have < size {
		return nil, fault.New(fault.Data, "%s: %d bytes, but the checkpoint was written after %d", path, have, size)
	}
	if have > size {
		if err := d.Truncate(path, size); err != nil {
			return nil, diskError(fault.IO, path, err)
		}
	}
	f, err := d.Append(path)
	if err != nil {
		return nil, diskError(fault.CannotWrite, path, err)
	}
	return &lines{path: path, f: f, size: size}, nil
}

func (l *lines) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Internal, "%s: %w", l.path, err)
	}
	l.buf = append(append(l.buf[:0], text...), '\n')
	_, err = l.Write(l.buf)
	return err
}

// Write appends whole lines.
func (l *lines) Write(b []byte) (int, error) {
	n, err := l.f.Write(b)
	l.size += int64(n)
	if err != nil {
		return n, diskError(fault.IO, l.path, err)
	}
	return n, nil
}

// sync makes everything written so far last.
func (l *lines) sync() error {
	if err := l.f.Sync(); err != nil {
		return diskError(fault.IO, l.path, err)
	}
	return nil
}

func (l *lines) Close() error { return l.f.Close() }
