package train

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
)

// memDisk is a file system in memory that knows what a crash would leave. Contents last
// once synchronised, names once their directory is.
type memDisk struct {
	names   map[string]*memFile // as a process sees them
	durable map[string]*memFile // as a crash leaves them
	ops     int                 // operations done
	failAt  int                 // the operation that fails, from 1; 0: none
	short   bool                // a failing write writes half
}

type memFile struct{ data, synced []byte }

var errNoSpace = error(syscall.ENOSPC)

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*memFile{}, durable: map[string]*memFile{}}
}

// crash returns the disk as it may be found after a power cut: of every name and every
// file's contents that were not synchronised, the old or the new state, or a part.
func (d *memDisk) crash(r *rand.Rand) *memDisk {
	after := newMemDisk()
	all := map[string]bool{}
	for n := range d.names {
		all[n] = true
	}
	for n := range d.durable {
		all[n] = true
	}
	sorted := make([]string, 0, len(all))
	for n := range all {
		sorted = append(sorted, n)
	}
	sort.Strings(sorted)
	for _, n := range sorted {
		f := d.durable[n]
		if r.IntN(2) == 0 {
			f = d.names[n]
		}
		if f == nil {
			continue
		}
		data := f.synced
		if len(f.data) > len(f.synced) && r.IntN(2) == 0 {
			data = f.data[:len(f.synced)+r.IntN(len(f.data)-len(f.synced)+1)]
		}
		g := &memFile{data: append([]byte{}, data...), synced: append([]byte{}, data...)}
		after.names[n], after.durable[n] = g, g
	}
	return after
}

// dump writes what a process sees under root to a new directory.
func (d *memDisk) dump(t testing.TB, root string) string {
	t.Helper()
	dir := t.TempDir()
	for name, f := range d.names {
		rel, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, f.data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// next counts an operation and reports whether it must fail.
func (d *memDisk) next() bool {
	d.ops++
	return d.ops == d.failAt
}

func (d *memDisk) Mkdir(dir string) error {
	if d.next() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errNoSpace}
	}
	return nil
}

func (d *memDisk) Create(path string) (diskFile, error) {
	if d.next() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoSpace}
	}
	f := &memFile{}
	d.names[path] = f
	return &memHandle{d, f}, nil
}

func (d *memDisk) Append(path string) (diskFile, error) {
	if d.next() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoSpace}
	}
	if d.names[path] == nil {
		d.names[path] = &memFile{}
	}
	return &memHandle{d, d.names[path]}, nil
}

func (d *memDisk) Open(path string) (diskReader, error) {
	f := d.names[path]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return memReader{strings.NewReader(string(f.data))}, nil
}

func (d *memDisk) Truncate(path string, size int64) error {
	if d.next() {
		return &fs.PathError{Op: "truncate", Path: path, Err: syscall.EIO}
	}
	d.names[path].data = d.names[path].data[:size]
	return nil
}

func (d *memDisk) Rename(from, to string) error {
	if d.next() {
		return &fs.PathError{Op: "rename", Path: from, Err: syscall.EIO}
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *memDisk) Remove(path string) error {
	if d.next() {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.EIO}
	}
	if d.names[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	delete(d.names, path)
	return nil
}

func (d *memDisk) List(dir string) ([]string, error) {
	var names []string
	for n := range d.names {
		if filepath.Dir(n) == dir {
			names = append(names, filepath.Base(n))
		}
	}
	sort.Strings(names)
	return names, nil
}

func (d *memDisk) SyncDir(dir string) error {
	if d.next() {
		return &fs.PathError{Op: "sync", Path: dir, Err: syscall.EIO}
	}
	for n := range d.durable {
		if filepath.Dir(n) == dir && d.names[n] == nil {
			delete(d.durable, n)
		}
	}
	for n, f := range d.names {
		if filepath.Dir(n) == dir {
			d.durable[n] = f
		}
	}
	return nil
}

type memHandle struct {
	d *memDisk
	f *memFile
}

func (h *memHandle) Write(b []byte) (int, error) {
	if h.d.next() {
		n := 0
		if h.d.short {
			n = len(b) / 2
		}
		h.f.data = append(h.f.data, b[:n]...)
		return n, errNoSpace
	}
	h.f.data = append(h.f.data, b...)
	return len(b), nil
}

func (h *memHandle) Sync() error {
	if h.d.next() {
		return syscall.EIO
	}
	h.f.synced = append([]byte{}, h.f.data...)
	return nil
}

func (h *memHandle) Close() error {
	if h.d.next() {
		return syscall.EIO
	}
	return nil
}

type memReader struct{ *strings.Reader }

func (memReader) Close() error { return nil }

// faultyDisk is the operating system's disk with one operation that fails.
type faultyDisk struct {
	osDisk
	ops, failAt int
}

var errInjected = errors.New("injected fault")

func (d *faultyDisk) next() bool {
	d.ops++
	return d.ops == d.failAt
}

func (d *faultyDisk) Mkdir(dir string) error {
	if d.next() {
		return errInjected
	}
	return d.osDisk.Mkdir(dir)
}

func (d *faultyDisk) Create(path string) (diskFile, error) {
	if d.next() {
		return nil, errInjected
	}
	f, err := d.osDisk.Create(path)
	return &faultyFile{f, d}, err
}

func (d *faultyDisk) Append(path string) (diskFile, error) {
	if d.next() {
		return nil, errInjected
	}
	f, err := d.osDisk.Append(path)
	return &faultyFile{f, d}, err
}

func (d *faultyDisk) Rename(from, to string) error {
	if d.next() {
		return errInjected
	}
	return d.osDisk.Rename(from, to)
}

func (d *faultyDisk) Remove(path string) error {
	if d.next() {
		return errInjected
	}
	return d.osDisk.Remove(path)
}

func (d *faultyDisk) SyncDir(dir string) error {
	if d.next() {
		return errInjected
	}
	return d.osDisk.SyncDir(dir)
}

type faultyFile struct {
	diskFile
	d *faultyDisk
}

func (f *faultyFile) Write(b []byte) (int, error) {
	if f.d.next() {
		return 0, errInjected
	}
	return f.diskFile.Write(b)
}

func (f *faultyFile) Sync() error {
	if f.d.next() {
		return errInjected
	}
	return f.diskFile.Sync()
}

func (f *faultyFile) Close() error {
	err := f.diskFile.Close()
	if f.d.next() {
		return errInjected
	}
	return err
}

// cutDisk stops the process, by panic, when a number of operations have been done.
type cutDisk struct {
	*memDisk
	at   int
	stop any
}

func (d *cutDisk) check() {
	if d.memDisk.ops >= d.at {
		panic(d.stop)
	}
}

func (d *cutDisk) Create(path string) (diskFile, error) {
	d.check()
	f, err := d.memDisk.Create(path)
	return &cutFile{f, d}, err
}

func (d *cutDisk) Append(path string) (diskFile, error) {
	d.check()
	f, err := d.memDisk.Append(path)
	return &cutFile{f, d}, err
}
func (d *cutDisk) Rename(from, to string) error { d.check(); return d.memDisk.Rename(from, to) }
func (d *cutDisk) Remove(path string) error     { d.check(); return d.memDisk.Remove(path) }
func (d *cutDisk) SyncDir(dir string) error     { d.check(); return d.memDisk.SyncDir(dir) }

type cutFile struct {
	diskFile
	d *cutDisk
}

func (f *cutFile) Write(b []byte) (int, error) { f.d.check(); return f.diskFile.Write(b) }
func (f *cutFile) Sync() error                 { f.d.check(); return f.diskFile.Sync() }
func (f *cutFile) Close() error                { f.d.check(); return f.diskFile.Close() }
