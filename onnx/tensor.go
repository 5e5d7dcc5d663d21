package onnx

import (
	"encoding/binary"
	"io"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"sift/fault"
)

func floatBits(bits uint64) float32 { return math.Float32frombits(uint32(bits)) }

// TensorRef is a tensor in the file: what it is, and where its elements are.
type TensorRef struct {
	Name  string
	DType DataType
	Dims  []int64
	Len   int64 // number of elements

	External *External // set if the elements are in another file

	raw        span             // raw_data, if hasRaw
	hasRaw     bool             //
	typed      protowire.Number // the typed field in use, 0 if none: float_data 4, int32_data 5, ...
	typedBytes int64
	at         []span // the messages around it, outermost first; the last is the TensorProto
}

// External is a reference to data outside the file.
type External struct {
	Location string
	Offset   int64
	Length   int64 // -1 if the file does not say
}

// Bytes returns the size of the tensor's elements, 0 for strings and unknown types.
func (t *TensorRef) Bytes() int64 { return t.Len * int64(t.DType.Size()) }

func (t *TensorRef) where() string {
	if t.Name == "" {
		return "tensor at byte " + itoa(t.at[len(t.at)-1].start)
	}
	return "initializer " + quote(t.Name)
}

// scan reads a TensorProto and checks its sizes against the bytes that are there.
func (t *TensorRef) scan(s *scanner, m span) error {
	location := int64(0)
	var entries []field
	err := s.each(m.body, m.end, func(g field) (err error) {
		switch g.num {
		case 1:
			return s.numbers(g, protowire.VarintType, func(bits uint64) error {
				if len(t.Dims) == maxRank {
					return bad(g.start, "more than %d dimensions", maxRank)
				}
				t.Dims = append(t.Dims, int64(bits))
				return nil
			})
		case 2:
			var n int64
			n, err = g.number()
			t.DType = DataType(n)
		case 3:
			return bad(g.start, "segmented tensors are not supported")
		case 4, 5, 7, 10, 11, 6:
			if t.typed != 0 && t.typed != g.num {
				return bad(g.start, "elements in two typed fields")
			}
			t.typed = g.num
			t.typedBytes += g.end - g.body
		case 8:
			t.Name, err = s.text(g, longestName)
		case 9:
			if t.hasRaw {
				return bad(g.start, "raw_data twice")
			}
			err = g.want(protowire.BytesType)
			t.raw, t.hasRaw = g.span, true
		case 13:
			if len(entries) == 16 {
				return bad(g.start, "too many external data entries")
			}
			entries = append(entries, g)
		case 14:
			location, err = g.number()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := t.count(m.start); err != nil {
		return err
	}
	switch {
	case location == 1:
		if t.hasRaw && t.raw.len() > 0 || t.typed != 0 && t.typedBytes > 0 {
			return bad(m.start, "data both here and external")
		}
		return t.scanExternal(s, entries, m.start)
	case location != 0:
		return bad(m.start, "unknown data location %d", location)
	case len(entries) > 0:
		return bad(m.start, "external data entries, but data location is not external")
	}
	return t.checkBytes(m.start)
}

// count multiplies the dimensions.
func (t *TensorRef) count(at int64) error {
	t.Len = 1
	zero := false
	for _, d := range t.Dims {
		if d < 0 {
			return bad(at, "a negative dimension in %s", dimsString(t.Dims))
		}
		zero = zero || d == 0
	}
	if zero {
		t.Len = 0
		return nil
	}
	const most = math.MaxInt64 / 16 // so that bytes cannot overflow either
	for _, d := range t.Dims {
		if t.Len > most/d {
			return bad(at, "the dimensions %s overflow", dimsString(t.Dims))
		}
		t.Len *= d
	}
	return nil
}

// checkBytes compares the number of elements with the bytes present.
func (t *TensorRef) checkBytes(at int64) error {
	size := int64(t.DType.Size())
	if t.hasRaw && t.typed != 0 && t.typedBytes > 0 {
		if t.raw.len() > 0 {
			return bad(at, "data both as raw_data and as typed elements")
		}
		t.hasRaw = false
	}
	if size == 0 {
		return nil // strings and unknown types cannot be read; the file may still hold them
	}
	if t.hasRaw {
		if t.raw.len() != t.Len*size {
			return bad(at, "raw_data holds %d bytes, %s of %s needs %d", t.raw.len(), dimsString(t.Dims), t.DType, t.Len*size)
		}
		return nil
	}
	if t.typed == 0 {
		if t.Len > 0 {
			return bad(at, "no data for %s of %s", dimsString(t.Dims), t.DType)
		}
		return nil
	}
	field, typ := typedField(t.DType)
	if field != t.typed {
		return bad(at, "elements of %s in the field of another type", t.DType)
	}
	low, high := t.Len, 10*t.Len // a varint has 1 to 10 bytes
	switch typ {
	case protowire.Fixed32Type:
		low, high = 4*t.Len, 4*t.Len
	case protowire.Fixed64Type:
		low, high = 8*t.Len, 8*t.Len
	}
	if t.typedBytes < low || t.typedBytes > high {
		return bad(at, "%d bytes of typed elements cannot be %s of %s", t.typedBytes, dimsString(t.Dims), t.DType)
	}
	return nil
}

// typedField returns the field of TensorProto that holds elements of type d outside
// raw_data, and the wire type of an element.
func typedField(d DataType) (protowire.Number, protowire.Type) {
	switch d {
	case Float, Complex64:
		return 4, protowire.Fixed32Type
	case Double, Complex128:
		return 10, protowire.Fixed64Type
	case Int64:
		return 7, protowire.VarintType
	case Uint32, Uint64:
		return 11, protowire.VarintType
	}
	return 5, protowire.VarintType
}

// scanExternal reads the keys of an external reference; Open checks them against the disk.
func (t *TensorRef) scanExternal(s *scanner, entries []field, at int64) error {
	e := &External{Length: -1}
	located := false
	for _, m := range entries {
		var key, value string
		err := s.inside(m, func(g field) (err error) {
			switch g.num {
			case 1:
				key, err = s.text(g, longestName)
			case 2:
				value, err = s.text(g, longestName)
			}
			return err
		})
		if err != nil {
			return err
		}
		switch key {
		case "location":
			e.Location, located = value, true
		case "offset", "length":
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return bad(m.start, "external data: %s %s is not a number of bytes", key, quote(value))
			}
			if key == "offset" {
				e.Offset = int64(n)
			} else {
				e.Length = int64(n)
			}
		case "checksum":
		default:
			return bad(m.start, "external data: unknown key %s", quote(key))
		}
	}
	if !located {
		return bad(at, "external data without a location")
	}
	if t.DType.Size() == 0 {
		return bad(at, "external data of %s is not supported", t.DType)
	}
	if e.Length >= 0 && e.Length != t.Bytes() {
		return bad(at, "external data: length %d, %s of %s needs %d", e.Length, dimsString(t.Dims), t.DType, t.Bytes())
	}
	t.External = e
	return nil
}

// chunkBytes is how much of a payload is held at a time while it is converted.
const chunkBytes = 1 << 20

// stream hands the tensor's elements to visit, in order, as little-endian bytes in pieces
// of whole elements. The piece is valid only during the call.
func (f *File) stream(t *TensorRef, visit func(piece []byte) error) error {
	size := t.DType.Size()
	if size == 0 {
		return fault.In(t.where(), fault.New(fault.Data, "elements of %s cannot be read", t.DType))
	}
	if f.file == nil {
		return fault.New(fault.Internal, "the file is closed")
	}
	var err error
	switch {
	case t.Len == 0:
	case t.External != nil:
		err = f.streamExternal(t, visit)
	case t.hasRaw:
		err = streamRange(f.file, t.raw.body, t.Bytes(), visit)
	default:
		err = f.streamTyped(t, visit)
	}
	return fault.In(t.where(), err)
}

func streamRange(r io.ReaderAt, at, n int64, visit func([]byte) error) error {
	buf := make([]byte, min(n, chunkBytes))
	for n > 0 {
		b := buf[:min(n, chunkBytes)]
		if got, err := r.ReadAt(b, at); got < len(b) {
			return readError(at, err)
		}
		if err := visit(b); err != nil {
			return err
		}
		at += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}

// streamTyped re-reads the TensorProto and turns typed elements into bytes.
func (f *File) streamTyped(t *TensorRef, visit func([]byte) error) error {
	_, typ := typedField(t.DType)
	size := t.DType.Size()
	if t.DType == Complex64 || t.DType == Complex128 {
		return fault.New(fault.Data, "elements of %s cannot be read", t.DType)
	}
	m := t.at[len(t.at)-1]
	s := newScanner(f.file, f.Size)
	buf := make([]byte, 0, min(t.Bytes(), chunkBytes))
	left := t.Len
	var word [8]byte
	err := s.each(m.body, m.end, func(g field) error {
		if g.num != t.typed {
			return nil
		}
		return s.numbers(g, typ, func(bits uint64) error {
			if left == 0 {
				return bad(g.start, "more elements than %s", dimsString(t.Dims))
			}
			left--
			binary.LittleEndian.PutUint64(word[:], bits)
			buf = append(buf, word[:size]...)
			if len(buf) == cap(buf) {
				err := visit(buf)
				buf = buf[:0]
				return err
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if left > 0 {
		return bad(m.start, "%d of %d elements are missing", left, t.Len)
	}
	if len(buf) > 0 {
		return visit(buf)
	}
	return nil
}

// ReadBytes returns the elements as little-endian bytes.
func (f *File) ReadBytes(t *TensorRef) ([]byte, error) {
	out := make([]byte, 0, t.Bytes())
	err := f.stream(t, func(b []byte) error { out = append(out, b...); return nil })
	return out, err
}

// ReadFloat32 returns the elements of a real numeric tensor as float32, rounded to
// nearest where the type is wider.
func (f *File) ReadFloat32(t *TensorRef) ([]float32, error) {
	out := make([]float32, 0, t.Len)
	err := f.stream(t, func(b []byte) (err error) { out, err = appendFloat32(out, b, t.DType); return err })
	return out, err
}

// ReadFloat64 returns the elements of a real numeric tensor as float64.
func (f *File) ReadFloat64(t *TensorRef) ([]float64, error) {
	out := make([]float64, 0, t.Len)
	err := f.stream(t, func(b []byte) error {
		for i := 0; i < len(b); i += t.DType.Size() {
			v, err := float64At(b[i:], t.DType)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return nil
	})
	return out, err
}

// ReadInt64 returns the elements of an integer or bool tensor as int64.
func (f *File) ReadInt64(t *TensorRef) ([]int64, error) {
	out := make([]int64, 0, t.Len)
	err := f.stream(t, func(b []byte) error {
		for i := 0; i < len(b); i += t.DType.Size() {
			v, err := int64At(b[i:], t.DType)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return nil
	})
	return out, err
}

func appendFloat32(out []float32, b []byte, d DataType) ([]float32, error) {
	le := binary.LittleEndian
	switch d {
	case Float:
		for ; len(b) >= 4; b = b[4:] {
			out = append(out, math.Float32frombits(le.Uint32(b)))
		}
	case Float16:
		for ; len(b) >= 2; b = b[2:] {
			out = append(out, float16To32(le.Uint16(b)))
		}
	case BFloat16:
		for ; len(b) >= 2; b = b[2:] {
			out = append(out, bfloat16To32(le.Uint16(b)))
		}
	default:
		for ; len(b) > 0; b = b[d.Size():] {
			v, err := float64At(b, d)
			if err != nil {
				return out, err
			}
			out = append(out, float32(v))
		}
	}
	return out, nil
}

// putFloat32 writes v as an element of type d.
func putFloat32(b []byte, v float32, d DataType) {
	le := binary.LittleEndian
	switch d {
	case Float:
		le.PutUint32(b, math.Float32bits(v))
	case Double:
		le.PutUint64(b, math.Float64bits(float64(v)))
	case Float16:
		le.PutUint16(b, float16From32(v))
	case BFloat16:
		le.PutUint16(b, bfloat16From32(v))
	default:
		panic("onnx: not a float type")
	}
}

func float64At(b []byte, d DataType) (float64, error) {
	le := binary.LittleEndian
	switch d {
	case Float:
		return float64(math.Float32frombits(le.Uint32(b))), nil
	case Double:
		return math.Float64frombits(le.Uint64(b)), nil
	case Float16:
		return float64(float16To32(le.Uint16(b))), nil
	case BFloat16:
		return float64(bfloat16To32(le.Uint16(b))), nil
	case Uint64:
		return float64(le.Uint64(b)), nil
	}
	v, err := int64At(b, d)
	return float64(v), err
}

func int64At(b []byte, d DataType) (int64, error) {
	le := binary.LittleEndian
	switch d {
	case Int64, Uint64:
		return int64(le.Uint64(b)), nil
	case Int32:
		return int64(int32(le.Uint32(b))), nil
	case Uint32:
		return int64(le.Uint32(b)), nil
	case Int16:
		return int64(int16(le.Uint16(b))), nil
	case Uint16:
		return int64(le.Uint16(b)), nil
	case Int8:
		return int64(int8(b[0])), nil
	case Uint8, Bool:
		return int64(b[0]), nil
	}
	return 0, fault.New(fault.Data, "elements of %s are not the numbers wanted here", d)
}
