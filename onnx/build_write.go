package onnx

import (
	"bufio"
	"io"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/atomicfile"
	"sift/fault"
)

// What a built file says of itself.
const (
	builtIR      = 8
	builtOpset   = 17
	builtBy      = "sift"
	smallestData = 1024 // bytes of a tensor that goes to a data file, if there is one
)

// bytes returns the size of the elements in the file.
func (t *initializer) bytes() int64 {
	if t.raw != nil {
		return int64(len(t.raw))
	}
	return int64(len(t.data)) * int64(t.dtype.Size())
}

// write writes the elements, converted a block at a time.
func (t *initializer) write(w io.Writer) error {
	if t.raw != nil {
		_, err := w.Write(t.raw)
		return err
	}
	const block = 16 << 10
	buffer := make([]byte, min(block, len(t.data))*t.dtype.Size())
	for data := t.data; len(data) > 0; {
		n := min(block, len(data))
		b := buffer[:n*t.dtype.Size()]
		for i, v := range data[:n] {
			putFloat32(b[i*t.dtype.Size():], v, t.dtype)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// piece of a model file: encoded bytes, then the elements of a tensor, if one is given.
type piece struct {
	head   []byte
	tensor *initializer
}

// field begins a length-delimited field of n bytes.
func (m message) field(num protowire.Number, n int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, num, protowire.BytesType), uint64(n))
}

// pieces lays out the model, with the tensors that external names in a file of that name.
func (b *graphBuilder) pieces(location string, external []placed) (list []piece, total int64) {
	at := map[*initializer]int64{}
	for _, p := range external {
		at[p.initializer] = p.at
	}
	head := b.nodes.text(2, "bert")
	add := func(t *initializer) {
		list = append(list, piece{head, t})
		total += int64(len(head))
		if t != nil {
			total += t.bytes()
		}
		head = nil
	}
	for i := range b.tensors {
		t := &b.tensors[i]
		if offset, ok := at[t]; ok {
			head = head.bytes(5, externalProto(t.name, t.dtype, t.dims, location, offset, t.bytes()))
			continue
		}
		m := tensorHeader(t.name, t.dtype, t.dims).field(9, t.bytes())
		head = append(head.field(5, int64(len(m))+t.bytes()), m...)
		add(t)
	}
	for _, name := range []string{"input_ids", "attention_mask", "token_type_ids"} {
		if name != "token_type_ids" || b.cfg.TypeVocab > 0 {
			head = head.bytes(11, valueProto(name, Int64, []Dim{batchDim, sequenceDim}))
		}
	}
	head = append(append(head, b.outputs...), b.shapes...)
	add(nil)

	start := message(nil).number(1, builtIR).text(2, builtBy)
	if b.opt.Version != "" {
		start = start.text(3, b.opt.Version)
	}
	start = start.field(7, total)
	end := message(nil).bytes(8, message(nil).text(1, "").number(2, builtOpset))
	list = append(append([]piece{{start, nil}}, list...), piece{end, nil})
	return list, total + int64(len(start)+len(end))
}

// write makes the files, the model last: what it refers to is there when it appears.
func (b *graphBuilder) write(path string, largest int64) error {
	list, total := b.pieces("", nil)
	if total > largest {
		location := filepath.Base(path) + ".data"
		parts := b.external()
		if list, total = b.pieces(location, parts); total > largest {
			return inFile(path, fault.New(fault.CannotWrite, "the graph without its weights has %d bytes; a model ends at %d", total, largest))
		}
		data := filepath.Join(filepath.Dir(path), location)
		if err := atomicfile.AtomicWrite(data, func(w io.Writer) error { return writeParts(w, parts) }); err != nil {
			return err
		}
		b.changes.DataFiles = append(b.changes.DataFiles, data)
	}
	return atomicfile.AtomicWrite(path, func(to io.Writer) error {
		w := bufio.NewWriterSize(to, 1<<20)
		for _, p := range list {
			if _, err := w.Write(p.head); err != nil {
				return err
			}
			if p.tensor != nil {
				if err := p.tensor.write(w); err != nil {
					return err
				}
			}
		}
		return w.Flush()
	})
}

// placed is a tensor in a data file.
type placed struct {
	*initializer
	at int64
}

// external lays out the tensors that leave the model.
func (b *graphBuilder) external() (list []placed) {
	at := int64(0)
	for i := range b.tensors {
		if t := &b.tensors[i]; t.bytes() >= smallestData {
			list = append(list, placed{t, at})
			at += (t.bytes() + dataAlignment - 1) / dataAlignment * dataAlignment
		}
	}
	return list
}

// writeParts writes a data file.
func writeParts(to io.Writer, parts []placed) error {
	w := bufio.NewWriterSize(to, 1<<20)
	at := int64(0)
	for _, p := range parts {
		if _, err := w.Write(make([]byte, p.at-at)); err != nil {
			return err
		}
		if err := p.write(w); err != nil {
			return err
		}
		at = p.at + p.bytes()
	}
	return w.Flush()
}
