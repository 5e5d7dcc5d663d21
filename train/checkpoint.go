package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"sift/backend"
	"sift/bert"
	"sift/fault"
)

// A checkpoint file is, little-endian throughout:
//
//	"SIFTCKPT"  u32 format  u32 length of the header
//	header      JSON
//	sections    raw float32 or float64, each starting at a multiple of 64
//	SHA-256     of all that comes before
//
// The header's section offsets count from the start of the file.
const (
	checkpointMagic  = "SIFTCKPT"
	checkpointFormat = 1
	headerStart      = 16
	maxHeader        = 64 << 20
)

// counter counts and hashes what passes.
type counter struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.hash.Write(b[:n])
	c.n += int64(n)
	return n, err
}

func align64(n int64) int64 { return (n + 63) &^ 63 }

// writeCheckpoint writes path atomically. Each of names becomes a section of count
// elements; fill fetches it into the staging buffer just before it is written.
func writeCheckpoint(d disk, path string, h header, staging *values, names []string, fill func(name string) error) error {
	size := int64(4)
	h.Float = backend.F32.String()
	if staging.f64 != nil {
		size, h.Float = 8, backend.F64.String()
	}
	text, start, err := layOut(&h, names, int64(staging.len()), size)
	if err != nil {
		return err
	}
	return replace(d, path, func(w io.Writer) error {
		c := &counter{w: w, hash: sha256.New()}
		head := append([]byte(checkpointMagic), make([]byte, 8)...)
		binary.LittleEndian.PutUint32(head[8:], checkpointFormat)
		binary.LittleEndian.PutUint32(head[12:], uint32(len(text)))
		head = append(head, text...)
		head = append(head, make([]byte, start-int64(len(head)))...)
		if _, err := c.Write(head); err != nil {
			return err
		}
		for _, name := range names {
			if err := fill(name); err != nil {
				return err
			}
			if err := staging.write(c); err != nil {
				return err
			}
			if _, err := c.Write(make([]byte, align64(c.n)-c.n)); err != nil {
				return err
			}
		}
		_, err := w.Write(c.hash.Sum(nil))
		return err
	})
}

// layOut gives the sections their offsets, which depend on the length of the header
// that states them, and returns the header's text and where the sections start.
func layOut(h *header, names []string, count, size int64) ([]byte, int64, error) {
	start := int64(0)
	for {
		h.Sections = h.Sections[:0]
		at := start
		for _, name := range names {
			h.Sections = append(h.Sections, section{name, at, count})
			at = align64(at + count*size)
		}
		text, err := json.Marshal(h)
		if err != nil {
			return nil, 0, fault.New(fault.Internal, "checkpoint header: %w", err)
		}
		if len(text) > maxHeader {
			return nil, 0, fault.New(fault.Internal, "checkpoint header: %d bytes", len(text))
		}
		// Offsets grow with start, so this settles within a few rounds.
		if next := align64(headerStart + int64(len(text))); next > start {
			start = next
			continue
		}
		return text, start, nil
	}
}

// checkpoint is an open file whose hash has been verified.
type checkpoint struct {
	header
	path string
	r    diskReader
	size int64 // of an element
}

func (c *checkpoint) Close() error { return c.r.Close() }

// openCheckpoint reads and verifies path. An error of kind fault.Data says what is
// damaged.
func openCheckpoint(d disk, path string) (*checkpoint, error) {
	r, err := d.Open(path)
	if err != nil {
		return nil, diskError(fault.Missing, path, err)
	}
	c := &checkpoint{path: path, r: r}
	if err := c.verify(); err != nil {
		r.Close()
		var known *fault.Error
		if errors.As(err, &known) {
			return nil, fault.In(path, err)
		}
		return nil, diskError(fault.IO, path, err)
	}
	return c, nil
}

func (c *checkpoint) verify() error {
	total := c.r.Size()
	if total < headerStart+sha256.Size {
		return fault.New(fault.Data, "damaged: %d bytes", total)
	}
	head := make([]byte, headerStart)
	if _, err := c.r.ReadAt(head, 0); err != nil {
		return err
	}
	if string(head[:8]) != checkpointMagic {
		return fault.New(fault.Data, "not a checkpoint")
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(c.r, 0, total-sha256.Size), make([]byte, min(1<<20, total))); err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if _, err := c.r.ReadAt(want, total-sha256.Size); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return fault.New(fault.Data, "damaged: its SHA-256 does not match")
	}
	// From here on the file is what a program wrote; which one is still open.
	if f := binary.LittleEndian.Uint32(head[8:]); f != checkpointFormat {
		return fault.New(fault.Data, "checkpoint format %d; this program reads %d", f, checkpointFormat)
	}
	n := int64(binary.LittleEndian.Uint32(head[12:]))
	if n > maxHeader || headerStart+n > total-sha256.Size {
		return fault.New(fault.Data, "damaged: a header of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := c.r.ReadAt(text, headerStart); err != nil {
		return err
	}
	if err := json.Unmarshal(text, &c.header); err != nil {
		return fault.New(fault.Data, "header: %w", err)
	}
	return c.checkSections(total - sha256.Size)
}

func (c *checkpoint) checkSections(end int64) error {
	switch c.Float {
	case backend.F32.String():
		c.size = 4
	case backend.F64.String():
		c.size = 8
	default:
		return fault.New(fault.Data, "header: elements of type %q", c.Float)
	}
	params, err := bert.Params(c.Model)
	if err != nil {
		return err
	}
	if len(params) != len(c.Params) {
		return fault.New(fault.Data, "header: %d parameters, its model has %d", len(c.Params), len(params))
	}
	for i, p := range params {
		if p != c.Params[i] {
			return fault.New(fault.Data, "header: parameter %s is not where this program keeps it", c.Params[i].Role)
		}
	}
	if c.Model.Classes != len(c.Labels) && !(c.Model.HasMLM && len(c.Labels) == 0) {
		return fault.New(fault.Data, "header: %d labels for a classifier of %d", len(c.Labels), c.Model.Classes)
	}
	count := int64(bert.FlatLen(params))
	for _, s := range c.Sections {
		if s.Count != count || s.Offset < 0 || s.Offset > end || s.Count*c.size > end-s.Offset {
			return fault.New(fault.Data, "header: section %s: %d elements at %d", s.Name, s.Count, s.Offset)
		}
	}
	return nil
}

// read fetches a section into v, which has its length and type.
func (c *checkpoint) read(name string, v *values) error {
	for _, s := range c.Sections {
		if s.Name == name {
			if int64(v.len()) != s.Count || (v.f64 != nil) != (c.size == 8) {
				return fault.New(fault.Data, "%s: section %s: %d elements of %s", c.path, name, s.Count, c.Float)
			}
			if err := v.read(c.r, s.Offset); err != nil {
				return diskError(fault.IO, c.path, err)
			}
			return nil
		}
	}
	return fault.New(fault.Data, "%s: section %s: missing", c.path, name)
}

// weights reads the parameters by role.
func (c *checkpoint) weights() (bert.Weights, error) {
	t := backend.F32
	if c.size == 8 {
		t = backend.F64
	}
	flat := newValues(t, bert.FlatLen(c.Params))
	if err := c.read("params", flat); err != nil {
		return nil, err
	}
	w := make(bert.Weights, len(c.Params))
	for _, p := range c.Params {
		if flat.f32 != nil {
			w[p.Role] = flat.f32[p.Offset : p.Offset+p.Len() : p.Offset+p.Len()]
			continue
		}
		x := make([]float32, p.Len())
		for i := range x {
			x[i] = float32(flat.f64[p.Offset+i])
		}
		w[p.Role] = x
	}
	return w, nil
}

func checkpointName(update int) string { return fmt.Sprintf("step-%08d.ckpt", update) }
