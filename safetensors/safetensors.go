// Package safetensors reads and writes the safetensors format: eight bytes with the
// little-endian length of a JSON header, the header, and the tensors' bytes. The header
// maps each name to its dtype, shape and byte range, and "__metadata__" to texts.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"sort"

	"sift/fault"
)

// maxHeader bounds the header, as the format's own reader does.
const maxHeader = 100 << 20

// Tensor is one float32 or float64 tensor, row-major. Exactly one of the two slices is set.
type Tensor struct {
	Shape []int
	F32   []float32
	F64   []float64
}

// File is a set of named tensors and texts.
type File struct {
	Tensors  map[string]Tensor
	Metadata map[string]string
}

type entry struct {
	DType   string    `json:"dtype"`
	Shape   []int     `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

// Write writes f in order of names, so that equal files have equal bytes.
func Write(w io.Writer, f File) error {
	names := make([]string, 0, len(f.Tensors))
	for name := range f.Tensors {
		names = append(names, name)
	}
	sort.Strings(names)
	header := map[string]any{}
	if len(f.Metadata) > 0 {
		header["__metadata__"] = f.Metadata
	}
	var end uint64
	for _, name := range names {
		t := f.Tensors[name]
		e := entry{DType: "F32", Shape: t.Shape, Offsets: [2]uint64{end, end + 4*uint64(len(t.F32))}}
		if t.F64 != nil {
			e.DType, e.Offsets[1] = "F64", end+8*uint64(len(t.F64))
		}
		if e.Shape == nil {
			e.Shape = []int{}
		}
		if n, ok := elements(e.Shape); !ok || n != uint64(len(t.F32)+len(t.F64)) {
			return fault.New(fault.Internal, "safetensors: %s: shape %v does not hold %d values", name, t.Shape, len(t.F32)+len(t.F64))
		}
		header[name] = e
		end = e.Offsets[1]
	}
	text, err := json.Marshal(header) // keys sorted
	if err != nil {
		return fault.New(fault.Internal, "safetensors: %w", err)
	}
	for (len(text)+8)%8 != 0 { // the format aligns the tensors by spaces
		text = append(text, ' ')
	}
	if err := binary.Write(w, binary.LittleEndian, uint64(len(text))); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, name := range names {
		t := f.Tensors[name]
		var data any = t.F32
		if t.F64 != nil {
			data = t.F64
		}
		if err := binary.Write(w, binary.LittleEndian, data); err != nil {
			return err
		}
	}
	return nil
}

// Read reads a file of float32 and float64 tensors. Errors are of kind fault.Missing
// and fault.Data and name the file and the tensor.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fault.New(fault.Missing, "%v", err)
	}
	if len(data) < 8 {
		return File{}, fault.New(fault.Data, "%s: header: the file has %d bytes", path, len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader || n > uint64(len(data)-8) {
		return File{}, fault.New(fault.Data, "%s: header: %d bytes announced, %d present", path, n, len(data)-8)
	}
	raw := map[string]json.RawMessage{}
	if err := json.Unmarshal(bytes.TrimRight(data[8:8+n], " "), &raw); err != nil {
		return File{}, fault.New(fault.Data, "%s: header: %v", path, err)
	}
	body := data[8+n:]
	f := File{Tensors: map[string]Tensor{}, Metadata: map[string]string{}}
	for name, text := range raw {
		if name == "__metadata__" {
			if err := json.Unmarshal(text, &f.Metadata); err != nil {
				return File{}, fault.New(fault.Data, "%s: metadata: %v", path, err)
			}
			continue
		}
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return File{}, fault.New(fault.Data, "%s: %q: %v", path, name, err)
		}
		size := map[string]uint64{"F32": 4, "F64": 8}[e.DType]
		if size == 0 {
			return File{}, fault.New(fault.Data, "%s: %q: dtype %s; F32 and F64 are read", path, name, e.DType)
		}
		count, ok := elements(e.Shape)
		if !ok || e.Offsets[0] > e.Offsets[1] || e.Offsets[1] > uint64(len(body)) || e.Offsets[1]-e.Offsets[0] != count*size {
			return File{}, fault.New(fault.Data, "%s: %q: shape %v and bytes %d to %d of %d do not agree", path, name, e.Shape, e.Offsets[0], e.Offsets[1], len(body))
		}
		t := Tensor{Shape: e.Shape}
		b := body[e.Offsets[0]:e.Offsets[1]]
		if size == 4 {
			t.F32 = make([]float32, count)
			for i := range t.F32 {
				t.F32[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			}
		} else {
			t.F64 = make([]float64, count)
			for i := range t.F64 {
				t.F64[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		f.Tensors[name] = t
	}
	return f, nil
}

// elements multiplies a shape, refusing negative dimensions and anything near overflow.
func elements(shape []int) (uint64, bool) {
	n := uint64(1)
	for _, d := range shape {
		if d < 0 || (d > 0 && n > (1<<48)/uint64(d)) {
			return 0, false
		}
		n *= uint64(d)
	}
	return n, true
}
