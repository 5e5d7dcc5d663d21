package onnx

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"sort"

	"sift/atomicfile"
	"sift/fault"
)

// dataFile is an external data file to write: tensors at offsets, or with copyOf set a copy
// of an imported one in which the patched tensors are replaced.
type dataFile struct {
	path   string
	copyOf string // the location of the imported file, "" if this one is new
	parts  []part // in order of offset
}

type part struct {
	t  *TensorRef
	at int64
}

// alignment of tensors in new data files.
const dataAlignment = 64

// externalFiles plans the data files of a model that has external data: a copy of each
// under its own name if nothing in it changes and the name is free beside path, or if the
// name belongs to path (PATH.data); else all in one new file PATH.data. A changed copy under
// a foreign name could end up over the imported model's data.
func (s *storing) externalFiles(path string) ([]*dataFile, error) {
	var tensors []*TensorRef
	byLocation := map[string][]part{}
	var locations []string
	for _, t := range s.f.tensors() {
		if t.External == nil || t.Len == 0 || s.gone[t] {
			continue
		}
		tensors = append(tensors, t)
		l := t.External.Location
		if byLocation[l] == nil {
			locations = append(locations, l)
		}
		if s.patches[t] != nil || byLocation[l] == nil {
			byLocation[l] = append(byLocation[l], part{t, t.External.Offset})
		}
	}
	if len(tensors) == 0 {
		return nil, nil
	}
	dir := filepath.Dir(path)
	var copies []*dataFile
	inPlace := true
	for _, l := range locations {
		source, _, err := s.f.openExternal(l)
		if err != nil {
			return nil, err
		}
		from, err := source.Stat()
		source.Close()
		if err != nil {
			return nil, fault.As(fault.IO, err)
		}
		target := filepath.Join(dir, l)
		d := &dataFile{path: target, copyOf: l}
		for _, p := range byLocation[l] {
			if s.patches[p.t] != nil {
				d.parts = append(d.parts, p)
			}
		}
		to, err := os.Stat(target)
		switch {
		case err == nil && os.SameFile(from, to):
			if len(d.parts) == 0 {
				continue // the new model may refer to the same untouched file
			}
			inPlace = false
		case (err == nil || len(d.parts) > 0) && l != filepath.Base(path)+".data", overlap(d.parts):
			inPlace = false
		}
		copies = append(copies, d)
	}
	if inPlace {
		return copies, nil
	}
	d, err := s.newDataFile(path, tensors)
	if err != nil {
		return nil, err
	}
	return []*dataFile{d}, nil
}

// overlap reports whether patched tensors share bytes.
func overlap(parts []part) bool {
	sort.Slice(parts, func(i, j int) bool { return parts[i].at < parts[j].at })
	for i := 1; i < len(parts); i++ {
		if parts[i-1].at+parts[i-1].t.Bytes() > parts[i].at {
			return true
		}
	}
	return false
}

// newDataFile lays tensors out in one new file beside path and makes them refer to it.
func (s *storing) newDataFile(path string, tensors []*TensorRef) (*dataFile, error) {
	location := filepath.Base(path) + ".data"
	for i := 1; s.isSource(filepath.Join(filepath.Dir(path), location)); i++ {
		location = filepath.Base(path) + "." + itoa(int64(i)) + ".data"
	}
	d := &dataFile{path: filepath.Join(filepath.Dir(path), location)}
	at := int64(0)
	for _, t := range tensors {
		d.parts = append(d.parts, part{t, at})
		m := t.at[len(t.at)-1]
		now := externalProto(t.Name, t.DType, t.Dims, location, at, t.Bytes())
		s.edits = append(s.edits, replace(m.body, m.end, t.at, now))
		at += (t.Bytes() + dataAlignment - 1) / dataAlignment * dataAlignment
	}
	return d, nil
}

// isSource reports whether path is a data file of the imported model.
func (s *storing) isSource(path string) bool {
	at, err := os.Stat(path)
	if err != nil {
		return false
	}
	seen := map[string]bool{}
	for _, t := range s.f.tensors() {
		if t.External == nil || seen[t.External.Location] {
			continue
		}
		seen[t.External.Location] = true
		file, _, err := s.f.openExternal(t.External.Location)
		if err != nil {
			continue
		}
		info, err := file.Stat()
		file.Close()
		if err == nil && os.SameFile(info, at) {
			return true
		}
	}
	return false
}

// externalise moves the large initializers of a model out of it.
func (s *storing) externalise(path string, data []*dataFile) (*dataFile, error) {
	if len(data) > 0 {
		return nil, fault.New(fault.CannotWrite, "too large for one message although it has external data")
	}
	const smallest = 1024
	var tensors []*TensorRef
	moved := map[int64]bool{}
	for _, t := range s.f.Initializers {
		if t.External == nil && t.Bytes() >= smallest && !s.gone[t] {
			tensors = append(tensors, t)
			moved[t.at[len(t.at)-1].start] = true
		}
	}
	// The message goes as a whole: drop the edits inside it.
	kept := s.edits[:0:0]
	for _, e := range s.edits {
		if len(e.around) == 0 || !moved[e.around[len(e.around)-1].start] {
			kept = append(kept, e)
		}
	}
	s.edits = kept
	return s.newDataFile(path, tensors)
}

// write makes the file.
func (d *dataFile) write(s *storing) error {
	if dir := filepath.Dir(d.path); d.copyOf != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return inFile(dir, fault.New(fault.CannotWrite, "cannot create: %w", osReason(err)))
		}
	}
	return atomicfile.AtomicWrite(d.path, func(to io.Writer) error {
		w := bufio.NewWriterSize(to, 1<<20)
		at := int64(0)
		if d.copyOf != "" {
			source, size, err := s.f.openExternal(d.copyOf)
			if err != nil {
				return inFile(s.f.Path, err)
			}
			defer source.Close()
			for _, p := range d.parts {
				if err := copyRange(w, source, at, p.at); err != nil {
					return err
				}
				if err := s.writeTensor(w, p.t); err != nil {
					return err
				}
				at = p.at + p.t.Bytes()
			}
			if err := copyRange(w, source, at, size); err != nil {
				return err
			}
			return w.Flush()
		}
		for _, p := range d.parts {
			if _, err := w.Write(make([]byte, p.at-at)); err != nil {
				return err
			}
			if err := s.writeTensor(w, p.t); err != nil {
				return err
			}
			at = p.at + p.t.Bytes()
		}
		return w.Flush()
	})
}

func copyRange(w io.Writer, r io.ReaderAt, from, to int64) error {
	n, err := io.Copy(w, io.NewSectionReader(r, from, to-from))
	if err == nil && n < to-from {
		err = readError(from+n, nil)
	}
	return err
}

// writeTensor writes a tensor's elements, patched if they are.
func (s *storing) writeTensor(w io.Writer, t *TensorRef) error {
	data := s.patches[t]
	if data == nil {
		return s.f.stream(t, func(b []byte) error { _, err := w.Write(b); return err })
	}
	r, at, done, err := s.f.payload(t)
	if err != nil {
		return err
	}
	defer done()
	return patched(w, r, at, t.DType, data)
}
