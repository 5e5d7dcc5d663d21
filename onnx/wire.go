package onnx

import (
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
)

// span is a length-delimited field in the file: its tag stands at start, its content is
// [body, end). All are offsets in bytes from the start of the file.
type span struct{ start, body, end int64 }

func (s span) len() int64 { return s.end - s.body }

// field is one protobuf field. For numbers, value holds the bits; for length-delimited
// fields, span holds the place of the content.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	value uint64
	span
}

// scanner reads protobuf fields from a file through a small window, so that payloads are
// passed over without being read. It keeps count of the memory that its callers keep.
type scanner struct {
	r      io.ReaderAt
	size   int64
	window []byte // holds [at, at+len(window)) of the file
	at     int64
	buffer []byte
	budget int64 // bytes of tables that may still be kept
}

const windowBytes = 16 << 10

func newScanner(r io.ReaderAt, size int64) *scanner {
	const most = 512 << 20
	budget := 1<<20 + 64*min(size, most)
	return &scanner{r: r, size: size, buffer: make([]byte, windowBytes), budget: min(budget, most)}
}

// keep accounts for n bytes of tables made from the field at offset at.
func (s *scanner) keep(at, n int64) error {
	s.budget -= n
	if s.budget < 0 {
		return bad(at, "the graph's tables would take more memory than a file of %d bytes justifies", s.size)
	}
	return nil
}

// bad is a fault of kind Data at an offset.
func bad(at int64, format string, args ...any) error {
	return fault.In("byte "+itoa(at), fault.New(fault.Data, format, args...))
}

// peek returns the bytes [at, at+n) of the file, fewer only at its end. n <= windowBytes;
// the bytes are valid until the next call.
func (s *scanner) peek(at int64, n int) ([]byte, error) {
	if left := s.size - at; int64(n) > left {
		n = int(max(left, 0))
	}
	if at < s.at || at+int64(n) > s.at+int64(len(s.window)) {
		m := int(min(windowBytes, s.size-at))
		if m <= 0 {
			return nil, nil
		}
		got, err := s.r.ReadAt(s.buffer[:m], at)
		if got < m {
			s.window = nil
			return nil, readError(at, err)
		}
		s.window, s.at = s.buffer[:m], at
	}
	from := at - s.at
	return s.window[from : from+int64(n)], nil
}

// next reads the field at offset at of a message that ends at end, and returns the
// offset of the one after it.
func (s *scanner) next(at, end int64) (f field, after int64, err error) {
	b, err := s.peek(at, int(min(20, end-at))) // a tag and a length have at most 10 bytes each
	if err != nil {
		return f, 0, err
	}
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, 0, bad(at, "no protobuf field here: %s", wireCause(n))
	}
	f.num, f.typ, f.start = num, typ, at
	b = b[n:]
	f.body = at + int64(n)
	switch typ {
	case protowire.VarintType:
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return f, 0, bad(at, "field %d: %s", num, wireCause(n))
		}
		f.value, f.end = v, f.body+int64(n)
	case protowire.Fixed32Type:
		v, n := protowire.ConsumeFixed32(b)
		if n < 0 {
			return f, 0, bad(at, "field %d: %s", num, wireCause(n))
		}
		f.value, f.end = uint64(v), f.body+4
	case protowire.Fixed64Type:
		v, n := protowire.ConsumeFixed64(b)
		if n < 0 {
			return f, 0, bad(at, "field %d: %s", num, wireCause(n))
		}
		f.value, f.end = v, f.body+8
	case protowire.BytesType:
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return f, 0, bad(at, "field %d: length: %s", num, wireCause(n))
		}
		f.body += int64(n)
		if v > uint64(end-f.body) {
			return f, 0, bad(at, "field %d claims %d bytes, %d are left", num, v, end-f.body)
		}
		f.end = f.body + int64(v)
	default:
		return f, 0, bad(at, "field %d has wire type %d, which ONNX does not use", num, typ)
	}
	return f, f.end, nil
}

func wireCause(n int) string {
	if err := protowire.ParseError(n); err == io.ErrUnexpectedEOF {
		return "truncated"
	}
	return "malformed"
}

// each calls visit for every field of the message [from, to).
func (s *scanner) each(from, to int64, visit func(f field) error) error {
	for at := from; at < to; {
		f, after, err := s.next(at, to)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		at = after
	}
	return nil
}

// want returns an error unless f has the wire type typ.
func (f field) want(typ protowire.Type) error {
	if f.typ != typ {
		return bad(f.start, "field %d has wire type %d, want %d", f.num, f.typ, typ)
	}
	return nil
}

// Longest strings that are kept. Names beyond this are no exporter's.
const (
	longestName  = 64 << 10
	longestValue = 16 << 20 // string attributes and metadata
)

// text reads the content of a string field of at most most bytes.
func (s *scanner) text(f field, most int64) (string, error) {
	if err := f.want(protowire.BytesType); err != nil {
		return "", err
	}
	n := f.len()
	if n > most {
		return "", bad(f.start, "a string of %d bytes, at most %d are allowed", n, most)
	}
	if err := s.keep(f.start, n); err != nil {
		return "", err
	}
	if n <= windowBytes {
		b, err := s.peek(f.body, int(n))
		return string(b), err
	}
	b := make([]byte, n)
	if got, err := s.r.ReadAt(b, f.body); int64(got) < n {
		return "", readError(f.body, err)
	}
	return string(b), nil
}

// number returns the value of an integer field.
func (f field) number() (int64, error) {
	if err := f.want(protowire.VarintType); err != nil {
		return 0, err
	}
	return int64(f.value), nil
}

// numbers appends the value or, packed, the values of a repeated number field whose
// elements have wire type typ.
func (s *scanner) numbers(f field, typ protowire.Type, add func(bits uint64) error) error {
	if f.typ == typ {
		return add(f.value)
	}
	if err := f.want(protowire.BytesType); err != nil {
		return err
	}
	for at := f.body; at < f.end; {
		b, err := s.peek(at, int(min(10, f.end-at)))
		if err != nil {
			return err
		}
		var v uint64
		var n int
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var w uint32
			w, n = protowire.ConsumeFixed32(b)
			v = uint64(w)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(b)
		}
		if n < 0 {
			return bad(at, "packed field %d: %s", f.num, wireCause(n))
		}
		if err := add(v); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func readError(at int64, err error) error {
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return fault.New(fault.Missing, "byte %d: the file became shorter while it was read", at)
	}
	return fault.New(fault.IO, "byte %d: cannot read: %w", at, osReason(err))
}
