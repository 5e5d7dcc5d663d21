package onnx

import (
	"bytes"
	"io"
	"math"

	"sift/bert"
	"sift/fault"
)

// Binding says which tensor of the file holds a parameter.
type Binding struct {
	Role        string
	Initializer string // its name, or the output of the Constant node that holds it
	Shape       []int  // of the parameter: [out,in], or [n] for vectors
	Transposed  bool   // stored [in,out]
	DType       DataType
	Copy        bool   // a tied decoder: holds the word embedding once more, or is it
	Slice       *Slice // set if the tensor holds other parameters too

	tensor *TensorRef
	repeat int     // the file holds this many copies of the parameter, one after the other; 0 for one
	at     use     // where the graph reads it
	asRead []int64 // its dimensions there
	asType DataType
	// readTransposed: the graph reads the transpose of what is stored.
	readTransposed bool
}

// Slice says that a parameter is columns [Start, Start+Len) of the stored matrix [in,out],
// or elements [Start, Start+Len) of the stored vector.
type Slice struct{ Start, Len int }

// Binding returns where a parameter is; ok is false if the file has none of that role.
func (m *Match) Binding(role string) (b Binding, ok bool) {
	i, ok := m.byRole[role]
	if !ok {
		return b, false
	}
	return m.Roles[i], true
}

// bindAll collects every parameter's tensor into r.Roles, in the order of the graph's layers.
func (t *trunk) bindAll(r *Match) error {
	b := &binder{m: t.m, r: r}
	e := &t.embed
	b.table(bert.RoleWord, e.word, 0)
	b.table(bert.RolePosition, e.position, e.repeat)
	if e.types != nil {
		b.table(bert.RoleTokenType, *e.types, e.typeRepeat)
	}
	b.norm(bert.RoleEmbeddingsGamma, bert.RoleEmbeddingsBeta, e.norm)
	for i := range t.layers {
		l := &t.layers[i]
		part := func(name string, x *linear) {
			b.linear(bert.RoleLayer(i, name, false), bert.RoleLayer(i, name, true), x)
		}
		part(bert.PartQuery, &l.attention.q)
		part(bert.PartKey, &l.attention.k)
		part(bert.PartValue, &l.attention.v)
		part(bert.PartAttentionOutput, &l.attended)
		b.norm(bert.RoleLayer(i, bert.PartAttentionNorm, false), bert.RoleLayer(i, bert.PartAttentionNorm, true), l.norm1)
		part(bert.PartIntermediate, &l.intermediate)
		part(bert.PartOutput, &l.output)
		b.norm(bert.RoleLayer(i, bert.PartOutputNorm, false), bert.RoleLayer(i, bert.PartOutputNorm, true), l.norm2)
	}
	if t.pooler != nil {
		b.linear(bert.RolePoolerWeight, bert.RolePoolerBias, t.pooler)
	}
	if t.mlm != nil {
		b.linear(bert.RoleTransformWeight, bert.RoleTransformBias, &t.mlm.transform)
		b.norm(bert.RoleMLMGamma, bert.RoleMLMBeta, t.mlm.norm)
		b.linear(bert.RoleDecoderWeight, bert.RoleDecoderBias, &t.mlm.decoder)
	}
	for _, h := range []struct {
		l            *linear
		weight, bias string
	}{
		{t.nsp, bert.RoleNSPWeight, bert.RoleNSPBias}, {t.classifier, bert.RoleClassWeight, bert.RoleClassBias},
		{t.token, bert.RoleTokenWeight, bert.RoleTokenBias}, {t.qa, bert.RoleQAWeight, bert.RoleQABias},
	} {
		if h.l != nil {
			b.linear(h.weight, h.bias, h.l)
		}
	}
	if b.err != nil {
		return b.err
	}
	for i := range r.Roles {
		r.byRole[r.Roles[i].Role] = i
	}
	return nil
}

// binder appends bindings, keeping the first error.
type binder struct {
	m   *matcher
	r   *Match
	err error
}

func (b *binder) add(role string, c constant, stored bool, repeat int64, slice *Slice, shape ...int) {
	if b.err == nil && !c.t.DType.IsFloat() {
		b.err = fault.New(fault.Data, "initializer %s: a weight of %s is not supported", quote(c.name), c.t.DType)
	}
	b.r.Roles = append(b.r.Roles, Binding{
		Role: role, Initializer: c.name, Shape: shape, Transposed: stored, DType: c.t.DType,
		tensor: c.t, repeat: int(repeat), at: c.at, asRead: c.dims, asType: c.dtype, readTransposed: c.transposed, Slice: slice,
	})
}

func (b *binder) table(role string, c constant, repeat int64) {
	n := rows(c)
	if repeat > 0 {
		n /= int(repeat)
	}
	b.add(role, c, false, repeat, nil, n, int(c.dims[len(c.dims)-1]))
}

func (b *binder) linear(weight, bias string, l *linear) {
	b.add(weight, l.w, l.stored, 0, l.slice, int(l.out), int(l.in))
	b.add(bias, *l.b, false, 0, l.slice, int(l.out))
}

func (b *binder) norm(gamma, beta string, n *norm) {
	b.add(gamma, n.gamma, false, 0, nil, int(n.width))
	b.add(beta, n.beta, false, 0, nil, int(n.width))
}

// decideTied finds out whether the masked-LM decoder is the word embedding: the same
// initializer, or an equal copy, which constant folding makes.
func (m *Match) decideTied() error {
	i, ok := m.byRole[bert.RoleDecoderWeight]
	if !ok {
		return nil
	}
	decoder, word := &m.Roles[i], &m.Roles[m.byRole[bert.RoleWord]]
	tied := decoder.tensor == word.tensor
	if !tied {
		var err error
		if tied, err = m.File.equalMatrices(word, decoder); err != nil {
			return err
		}
	}
	if !tied {
		return nil
	}
	m.TiedDecoder, m.Config.TiedDecoder = true, true
	decoder.Copy = true
	// A copy is not a parameter: it goes to the end of the list.
	last := m.Roles[i]
	m.Roles = append(append(m.Roles[:i:i], m.Roles[i+1:]...), last)
	for i := range m.Roles {
		m.byRole[m.Roles[i].Role] = i
	}
	return nil
}

// payload gives random access to a tensor's bytes.
func (f *File) payload(t *TensorRef) (r io.ReaderAt, at int64, done func(), err error) {
	done = func() {}
	switch {
	case t.External != nil:
		file, _, err := f.openExternal(t.External.Location)
		if err != nil {
			return nil, 0, done, fault.In(t.where(), err)
		}
		return file, t.External.Offset, func() { file.Close() }, nil
	case t.hasRaw && f.file != nil:
		return f.file, t.raw.body, done, nil
	}
	b, err := f.ReadBytes(t)
	return bytes.NewReader(b), 0, done, err
}

// equalMatrices compares two parameters [rows,cols] as float32, bit for bit but for the
// sign of zero, reading both in blocks.
func (f *File) equalMatrices(a, b *Binding) (bool, error) {
	if a.Shape[0] != b.Shape[0] || a.Shape[1] != b.Shape[1] {
		return false, nil
	}
	x, xAt, done, err := f.payload(a.tensor)
	if err != nil {
		return false, err
	}
	defer done()
	y, yAt, done2, err := f.payload(b.tensor)
	if err != nil {
		return false, err
	}
	defer done2()
	read := func(r io.ReaderAt, at int64, t *TensorRef, into []float32) ([]float32, error) {
		raw := make([]byte, cap(into)*t.DType.Size())
		if n, err := r.ReadAt(raw, at); n < len(raw) {
			return nil, fault.In(t.where(), readError(at, err))
		}
		return appendFloat32(into[:0], raw, t.DType)
	}
	rows, cols := a.Shape[0], a.Shape[1]
	const block = 2048
	left := make([]float32, 0, min(block, rows)*cols)
	right := make([]float32, 0, min(block, rows))
	for from := 0; from < rows; from += block {
		n := min(block, rows-from)
		left, err = read(x, xAt+int64(from)*int64(cols)*int64(a.DType.Size()), a.tensor, left[:0:n*cols])
		if err != nil {
			return false, err
		}
		if !b.Transposed {
			same, err := read(y, yAt+int64(from)*int64(cols)*int64(b.DType.Size()), b.tensor, make([]float32, 0, n*cols))
			if err != nil {
				return false, err
			}
			for i := range left {
				if left[i] != same[i] {
					return false, nil
				}
			}
			continue
		}
		for c := 0; c < cols; c++ { // column c of the parameter is row c of what is stored
			right, err = read(y, yAt+(int64(c)*int64(rows)+int64(from))*int64(b.DType.Size()), b.tensor, right[:0:n])
			if err != nil {
				return false, err
			}
			for i, v := range right {
				if left[i*cols+c] != v {
					return false, nil
				}
			}
		}
	}
	return true, nil
}

// transpose returns the transpose of src [rows,cols].
func transpose(src []float32, rows, cols int) []float32 {
	dst := make([]float32, len(src))
	const block = 32
	for i := 0; i < rows; i += block {
		for j := 0; j < cols; j += block {
			for r := i; r < min(i+block, rows); r++ {
				for c := j; c < min(j+block, cols); c++ {
					dst[c*rows+r] = src[r*cols+c]
				}
			}
		}
	}
	return dst
}

// Load reads all parameters, linear weights as [out,in]. A weight that is NaN or infinite
// is an error naming the initializer unless m.AllowNonFinite.
func Load(m *Match) (bert.Weights, error) {
	w := bert.Weights{}
	for i := range m.Roles {
		b := &m.Roles[i]
		if b.Copy {
			continue
		}
		data, err := m.read(b)
		if err != nil {
			return nil, inFile(m.File.Path, err)
		}
		w[b.Role] = data
	}
	if err := w.Check(m.Config); err != nil {
		return nil, inFile(m.File.Path, err)
	}
	return w, nil
}

// read returns one parameter as [out,in].
func (m *Match) read(b *Binding) ([]float32, error) {
	data, err := m.File.ReadFloat32(b.tensor)
	if err != nil {
		return nil, err
	}
	if !m.AllowNonFinite {
		for i, v := range data {
			if math.Float32bits(v)&0x7f800000 == 0x7f800000 { // infinite or NaN
				return nil, fault.New(fault.Data, "initializer %s: element %d of %s is %v", quote(b.Initializer), i, b.Role, v)
			}
		}
	}
	return b.fromFile(data), nil
}

// fromFile turns the tensor's elements into the parameter.
func (b *Binding) fromFile(data []float32) []float32 {
	if n := len(data) / max(b.repeat, 1); b.repeat > 1 {
		data = data[:n:n]
	}
	if b.Slice != nil {
		data = b.sliced(data)
	}
	if b.Transposed {
		data = transpose(data, b.Shape[1], b.Shape[0])
	}
	return data
}

// sliced returns a copy of the parameter's part of the tensor: columns, or elements.
func (b *Binding) sliced(data []float32) []float32 {
	s, total := b.Slice, int(b.tensor.Dims[len(b.tensor.Dims)-1])
	out := make([]float32, 0, len(data)/total*s.Len)
	for at := s.Start; at < len(data); at += total {
		out = append(out, data[at:at+s.Len]...)
	}
	return out
}

// fill writes the parameter into its part of the tensor's elements.
func (b *Binding) fill(content, data []float32) {
	if b.Slice == nil {
		copy(content, b.toFile(data))
		return
	}
	if b.Transposed {
		data = transpose(data, b.Shape[0], b.Shape[1])
	}
	s, total := b.Slice, int(b.tensor.Dims[len(b.tensor.Dims)-1])
	for at := s.Start; at < len(content); at += total {
		copy(content[at:at+s.Len], data[:s.Len])
		data = data[s.Len:]
	}
}

// toFile turns the parameter into the tensor's elements, zeros where the tensor holds others.
func (b *Binding) toFile(data []float32) []float32 {
	if b.Slice != nil {
		out := make([]float32, b.tensor.Len)
		b.fill(out, data)
		return out
	}
	if b.Transposed {
		return transpose(data, b.Shape[0], b.Shape[1])
	}
	if b.repeat > 1 {
		out := make([]float32, 0, len(data)*b.repeat)
		for range b.repeat {
			out = append(out, data...)
		}
		return out
	}
	return data
}

// InFileLayout turns a parameter, or its gradient, from [out,in] into the layout of the
// initializer that holds it; dims are the initializer's. Several parameters may share one
// initializer: their gradients add up (packed ones are zero in the others' parts). out may
// be data itself.
func (m *Match) InFileLayout(role string, data []float32) (initializer string, dims []int64, out []float32, err error) {
	b, ok := m.Binding(role)
	if !ok {
		return "", nil, nil, fault.New(fault.Internal, "%s: the file holds no %s", m.File.Path, role)
	}
	want := 1
	for _, d := range b.Shape {
		want *= d
	}
	if len(data) != want {
		return "", nil, nil, fault.New(fault.Internal, "%s: %s has %d elements, not %d", m.File.Path, role, want, len(data))
	}
	return b.Initializer, b.tensor.Dims, b.toFile(data), nil
}
