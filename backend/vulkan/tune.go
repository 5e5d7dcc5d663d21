package vulkan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sift/atomicfile"
	"sift/fault"
)

// tuning is the choice of kernels for the four forms of a matrix product: op(A) and op(B)
// are the matrices themselves (n) or their transposes (t).
type tuning struct {
	Gemm struct {
		NN string `json:"nn"`
		TN string `json:"tn"`
		NT string `json:"nt"`
		TT string `json:"tt"`
	} `json:"gemm"`
}

// form returns the choice for one form.
func (t *tuning) form(transA, transB bool) *string {
	switch {
	case transA && transB:
		return &t.Gemm.TT
	case transA:
		return &t.Gemm.TN
	case transB:
		return &t.Gemm.NT
	}
	return &t.Gemm.NN
}

// text is the choice as one line of JSON.
func (t *tuning) text() []byte {
	data, err := json.Marshal(t)
	if err != nil {
		return nil // strings can be marshalled
	}
	return data
}

// parseTuning reads what text wrote. check says what is wrong with the name of a kernel.
func parseTuning(text []byte, check func(name string) error) (tuning, error) {
	var t tuning
	r := json.NewDecoder(bytes.NewReader(text))
	r.DisallowUnknownFields()
	if err := r.Decode(&t); err != nil {
		return tuning{}, fault.New(fault.Config, "vulkan: the tuning %.80q is not one: %w", text, err)
	}
	if _, err := r.Token(); !errors.Is(err, io.EOF) {
		return tuning{}, fault.New(fault.Config, "vulkan: the tuning %.80q goes on after its end", text)
	}
	for form := range 4 {
		name := *t.form(form&1 != 0, form&2 != 0)
		if err := check(name); err != nil {
			return tuning{}, fault.New(fault.Config, "vulkan: the tuning %.80q names the matrix product %q: %w", text, name, err)
		}
	}
	return t, nil
}

// tuningFile is what a tuning file holds. Its name says for which device and driver it was
// measured; Shaders is the hash of the kernels.
type tuningFile struct {
	Shaders string          `json:"shaders"`
	Tuning  json.RawMessage `json:"tuning"`
}

// readCached reads a regular file of at most limit bytes. A cache directory may hold
// anything: a pipe would block, and what never ends would fill the memory.
func readCached(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fs.ErrInvalid
	}
	data := make([]byte, info.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}

// readTuning returns the choice in the file at path. It reports false if there is none
// worth having: the file is missing or damaged, of other kernels or names unfit ones.
func readTuning(path, shaders string, check func(name string) error) (tuning, bool) {
	if path == "" {
		return tuning{}, false
	}
	data, err := readCached(path, 1<<20)
	if err != nil {
		return tuning{}, false
	}
	var f tuningFile
	if json.Unmarshal(data, &f) != nil || f.Shaders != shaders {
		return tuning{}, false
	}
	t, err := parseTuning(f.Tuning, check)
	return t, err == nil
}

// writeTuning keeps a choice for later runs. The caller may ignore the error: without the
// file the next run measures again.
func writeTuning(path, shaders string, t tuning) error {
	if path == "" {
		return nil
	}
	data, err := json.Marshal(tuningFile{shaders, t.text()})
	if err != nil {
		return fault.New(fault.Internal, "vulkan: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.New(fault.CannotWrite, "vulkan: %w", err)
	}
	return atomicfile.AtomicWrite(path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}
