package onnx

import (
	"bufio"
	"io"
	"sort"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
)

// edit replaces the bytes [from, to) of the file by size bytes that write produces. around
// are the messages it lies in, outermost first, whose lengths may change.
type edit struct {
	from, to int64
	around   []span
	size     int64
	write    func(w io.Writer) error
}

// insert is an edit that adds bytes at an offset.
func insert(at int64, around []span, b []byte) edit { return replace(at, at, around, b) }

func replace(from, to int64, around []span, b []byte) edit {
	return edit{from, to, around, int64(len(b)), func(w io.Writer) error { _, err := w.Write(b); return err }}
}

// rewritten is a copy of the file with edits.
type rewritten struct {
	f     *File
	edits []edit // in the file's order, lengths of messages included
	size  int64
}

// rewrite plans a copy. Edits may not overlap; those at one offset keep their order.
func (f *File) rewrite(edits []edit) (*rewritten, error) {
	lengths, err := f.newLengths(edits)
	if err != nil {
		return nil, err
	}
	r := &rewritten{f: f, edits: append(append([]edit{}, edits...), lengths...), size: f.Size}
	sort.SliceStable(r.edits, func(i, j int) bool { return r.edits[i].from < r.edits[j].from })
	at := int64(0)
	for _, e := range r.edits {
		if e.from < at || e.to < e.from || e.to > f.Size {
			return nil, fault.New(fault.Internal, "edits overlap at byte %d", e.from)
		}
		at = e.to
		r.size += e.size - (e.to - e.from)
	}
	return r, nil
}

// newLengths makes the edits of the length fields of every message whose size changes.
func (f *File) newLengths(edits []edit) ([]edit, error) {
	type grown struct {
		span
		around []span
		delta  int64
	}
	byStart := map[int64]*grown{}
	var all []*grown
	add := func(around []span, delta int64) {
		for i, s := range around {
			g := byStart[s.start]
			if g == nil {
				g = &grown{span: s, around: around[:i]}
				byStart[s.start] = g
				all = append(all, g)
			}
			g.delta += delta
		}
	}
	for _, e := range edits {
		add(e.around, e.size-(e.to-e.from))
	}
	// Inner messages start later; the width of their length field counts in the outer ones.
	sort.Slice(all, func(i, j int) bool { return all[i].start > all[j].start })
	var out []edit
	for _, g := range all {
		if g.delta == 0 {
			continue
		}
		header := make([]byte, g.body-g.start)
		if n, err := f.file.ReadAt(header, g.start); n < len(header) {
			return nil, readError(g.start, err)
		}
		_, _, tag := protowire.ConsumeTag(header)
		if tag < 0 {
			return nil, fault.New(fault.Missing, "byte %d: the file changed since it was opened", g.start)
		}
		length := protowire.AppendVarint(nil, uint64(g.len()+g.delta))
		e := replace(g.start+int64(tag), g.body, g.around, length)
		add(g.around, e.size-(e.to-e.from))
		out = append(out, e)
	}
	return out, nil
}

// WriteTo writes the copy.
func (r *rewritten) WriteTo(to io.Writer) (int64, error) {
	w := bufio.NewWriterSize(to, 1<<20)
	at := int64(0)
	copyUntil := func(end int64) error {
		n, err := io.Copy(w, io.NewSectionReader(r.f.file, at, end-at))
		if err == nil && n < end-at {
			err = readError(at+n, nil)
		}
		at = end
		return err
	}
	for _, e := range r.edits {
		if err := copyUntil(e.from); err != nil {
			return 0, err
		}
		if err := e.write(w); err != nil {
			return 0, err
		}
		at = e.to
	}
	if err := copyUntil(r.f.Size); err != nil {
		return 0, err
	}
	return r.size, w.Flush()
}
