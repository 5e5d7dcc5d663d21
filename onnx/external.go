package onnx

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sift/fault"
)

// openRegular opens a file that must be a regular one. O_NONBLOCK keeps a FIFO from
// hanging the program.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, nil, inFile(path, fault.New(fault.Missing, "cannot open: %w", osReason(err)))
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		file.Close()
		return nil, nil, inFile(path, fault.New(fault.Missing, "not a regular file"))
	}
	if err != nil {
		file.Close()
		return nil, nil, inFile(path, fault.New(fault.Missing, "cannot read: %w", osReason(err)))
	}
	return file, info, nil
}

// checkExternal tests every external reference before anything is read: the place, the
// kind of file, and that offset and length lie within it.
func (f *File) checkExternal() error {
	sizes := map[string]int64{}
	for _, t := range f.tensors() {
		e := t.External
		if e == nil {
			continue
		}
		size, known := sizes[e.Location]
		if !known {
			file, n, err := f.openExternal(e.Location)
			if err != nil {
				return fault.In(t.where(), err)
			}
			file.Close()
			size = n
			sizes[e.Location] = size
		}
		if e.Offset > size || t.Bytes() > size-e.Offset {
			return fault.In(t.where(), fault.New(fault.Data, "external data %s: bytes %d to %d of a file of %d bytes", quote(e.Location), e.Offset, e.Offset+t.Bytes(), size))
		}
	}
	return nil
}

// tensors lists initializers and the tensors of attributes.
func (f *File) tensors() []*TensorRef {
	all := append([]*TensorRef{}, f.Initializers...)
	for i := range f.Nodes {
		attrs := f.Nodes[i].Attrs
		for _, name := range slices.Sorted(maps.Keys(attrs)) {
			a := attrs[name]
			if a.T != nil {
				all = append(all, a.T)
			}
			all = append(all, a.Tensors...)
		}
	}
	return all
}

// openExternal opens the file that location names. It must be a plain relative path that
// stays, once links are followed, inside the model's directory or the directory that holds
// the model itself when its name is a link (the layout of the Hugging Face cache), and be a
// regular file with no second name: a hard link could otherwise bring any file of the
// user's into a model.
func (f *File) openExternal(location string) (*os.File, int64, error) {
	fail := func(format string, args ...any) (*os.File, int64, error) {
		return nil, 0, fault.In("external data "+quote(location), fault.New(fault.Data, format, args...))
	}
	if location == "" || strings.ContainsRune(location, 0) || strings.Contains(location, `\`) || !filepath.IsLocal(location) {
		return fail("the location is not a relative path inside the model's directory")
	}
	for _, part := range strings.Split(location, "/") {
		if part == ".." {
			return fail("the location contains ..")
		}
	}
	logical := filepath.Dir(f.Path)
	real, err := filepath.EvalSymlinks(filepath.Join(logical, location))
	if err != nil {
		if os.IsNotExist(err) {
			return nil, 0, fault.In("external data "+quote(location), fault.New(fault.Missing, "no such file beside the model"))
		}
		return fail("cannot open: %w", osReason(err))
	}
	allowed := make([]string, 0, 2)
	if dir, err := filepath.EvalSymlinks(logical); err == nil {
		allowed = append(allowed, dir)
	}
	if model, err := filepath.EvalSymlinks(f.Path); err == nil {
		allowed = append(allowed, filepath.Dir(model))
	}
	for _, dir := range allowed {
		rel, err := filepath.Rel(dir, real)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		// os.Root keeps the path inside even if it is changed at this moment.
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		defer root.Close()
		file, err := root.OpenFile(rel, os.O_RDONLY|nonblock, 0)
		if err != nil {
			return fail("cannot open: %w", osReason(err))
		}
		info, err := file.Stat()
		if err != nil || !info.Mode().IsRegular() {
			file.Close()
			return fail("not a regular file")
		}
		if n := links(info); n > 1 {
			file.Close()
			return fail("the file has %d names (hard links); copy it instead", n)
		}
		return file, info.Size(), nil
	}
	return fail("a link leads out of the model's directory")
}

func (f *File) streamExternal(t *TensorRef, visit func([]byte) error) error {
	file, _, err := f.openExternal(t.External.Location)
	if err != nil {
		return err
	}
	defer file.Close()
	return streamRange(file, t.External.Offset, t.Bytes(), visit)
}
