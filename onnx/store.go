package onnx

import (
	"io"
	"math"

	"sift/atomicfile"
	"sift/bert"
	"sift/fault"
)

// Changes says what a written file has that the imported one had not.
type Changes struct {
	Patched   []string // initializers whose payload differs
	Added     []string // new initializers: untied parameters, and those of a new head
	Nodes     []string // outputs of new nodes
	Outputs   []string // new graph outputs
	DataFiles []string // external data files written beside the model
}

// Store writes the model to path with the weights w: payloads are patched in place and
// every other byte stays. Elements equal to those in the file keep their bytes, so that
// untouched weights give the same file; others are stored in the initializer's own type,
// rounded to nearest even. Parameters that share an initializer and now differ get
// initializers of their own, which Changes lists. The file appears whole or not at all.
func Store(m *Match, w bert.Weights, path string) (*Changes, error) {
	return Export(m, m.Config, w, path)
}

// Export is Store for a configuration that may differ from the imported one in its heads:
// where cfg has a classifier and the graph none, one is grafted on (and a pooler if there
// is none), with a new output "logits"; where the graph's classifier has another number of
// classes, its weights are replaced. Heads that w does not have stay as they are.
//
// External data is copied beside path, patched. A model too large for one protobuf message
// (2 GiB) gets its weights written to an external file named like path with ".data" added.
func Export(m *Match, cfg bert.Config, w bert.Weights, path string) (*Changes, error) {
	return export(m, cfg, w, path, math.MaxInt32)
}

func export(m *Match, cfg bert.Config, w bert.Weights, path string, largest int64) (*Changes, error) {
	s := &storing{m: m, f: m.File, cfg: cfg, w: w, changes: &Changes{}, largest: largest}
	if err := s.check(); err != nil {
		return nil, inFile(path, err)
	}
	if err := s.plan(); err != nil {
		return nil, inFile(m.File.Path, err)
	}
	if err := s.write(path); err != nil {
		return nil, err
	}
	return s.changes, nil
}

// storing is one export under way.
type storing struct {
	m       *Match
	f       *File
	cfg     bert.Config
	w       bert.Weights
	changes *Changes
	edits   []edit
	end     []byte // new fields at the end of the graph
	taken   map[string]bool
	patches map[*TensorRef][]float32 // new content, in the file's layout
	gone    map[*TensorRef]bool      // replaced as a whole
	largest int64                    // bytes of a model in one message
}

// check holds the request against what the file can take.
func (s *storing) check() error {
	if err := s.w.Check(s.cfg); err != nil {
		return err
	}
	have, want := s.m.Config, s.cfg
	for _, p := range []struct {
		name      string
		has, asks bool
	}{
		{"a masked-LM head", have.HasMLM, want.HasMLM}, {"a next-sentence head", have.HasNSP, want.HasNSP},
		{"a token classifier", have.TokenClasses > 0, want.TokenClasses > 0}, {"a question answering head", have.HasQA, want.HasQA},
		{"token types", have.TypeVocab > 0, want.TypeVocab > 0},
	} {
		if p.asks && !p.has {
			return fault.New(fault.Data, "the imported graph has no place for %s", p.name)
		}
	}
	trunk := func(c bert.Config) [10]int {
		return [10]int{c.Layers, c.Hidden, c.Heads, c.Intermediate, c.Vocab, c.Positions, c.TypeVocab, c.PositionOffset, int(c.Activation)}
	}
	if trunk(have) != trunk(want) {
		return fault.New(fault.Data, "the trained model's sizes are not those of the imported graph")
	}
	info, err := s.f.file.Stat()
	if err != nil || info.Size() != s.f.Size || info.ModTime().UnixNano() != s.f.modTime {
		return fault.New(fault.Missing, "%s changed since it was opened", printable(s.f.Path))
	}
	return nil
}

// data returns what w has for a binding; ok is false if it has nothing.
func (s *storing) data(b *Binding) (data []float32, ok bool) {
	if data, ok = s.w[b.Role]; !ok && b.Copy {
		data, ok = s.w[bert.RoleWord]
	}
	return data, ok
}

// plan collects all edits.
func (s *storing) plan() error {
	s.taken = map[string]bool{}
	for i := range s.f.Nodes {
		n := &s.f.Nodes[i]
		s.taken[n.Name] = true
		for _, v := range n.Outputs {
			s.taken[v] = true
		}
	}
	for _, t := range s.f.Initializers {
		s.taken[t.Name] = true
	}
	for _, v := range s.f.Inputs {
		s.taken[v.Name] = true
	}
	s.patches = map[*TensorRef][]float32{}
	s.gone = map[*TensorRef]bool{}
	shared := map[*TensorRef][]*Binding{}
	var order []*TensorRef
	for i := range s.m.Roles {
		b := &s.m.Roles[i]
		if shared[b.tensor] == nil {
			order = append(order, b.tensor)
		}
		shared[b.tensor] = append(shared[b.tensor], b)
	}
	resized := s.cfg.Classes > 0 && s.m.Config.Classes > 0 && s.cfg.Classes != s.m.Config.Classes
	for _, t := range order {
		if err := s.planTensor(t, shared[t], resized); err != nil {
			return err
		}
	}
	if resized {
		s.resizeOutput()
	}
	if s.cfg.Classes > 0 && s.m.Config.Classes == 0 {
		if err := s.graft(); err != nil {
			return err
		}
	}
	if len(s.end) > 0 {
		g := s.f.layout.graph
		s.edits = append(s.edits, insert(g.end, []span{g}, s.end))
	}
	return nil
}

// planTensor decides what becomes of one tensor: the first of the parameters in it keeps
// it, others stay if they are equal and move to initializers of their own if not.
func (s *storing) planTensor(t *TensorRef, bindings []*Binding, resized bool) error {
	old, err := s.f.ReadFloat32(t)
	if err != nil {
		return err
	}
	if bindings[0].Slice != nil {
		return s.planPacked(t, old, bindings)
	}
	var content []float32 // what the tensor will hold, nil while nobody has said
	for _, b := range bindings {
		data, ok := s.data(b)
		if !ok {
			data = b.fromFile(old)
		}
		if resized && (b.Role == bert.RoleClassWeight || b.Role == bert.RoleClassBias) {
			dims := []int64{int64(s.cfg.Classes)}
			if b.Role == bert.RoleClassWeight {
				dims = append(dims, int64(s.cfg.Hidden))
			}
			if len(bindings) == 1 && t.Name != "" && !s.foreign(t, bindings) {
				s.resize(b, data, dims)
			} else {
				s.move(b, data, dims)
			}
			continue
		}
		stored := b.toFile(data)
		switch {
		case content == nil && (sameBits(stored, old) || !s.foreign(t, bindings)):
			content = stored
		case content != nil && sameBits(stored, content):
		default:
			s.move(b, data, nil)
		}
	}
	if content != nil {
		return s.patch(t, old, content, bindings)
	}
	return nil
}

// planPacked is planTensor for a tensor that holds several parameters side by side.
func (s *storing) planPacked(t *TensorRef, old []float32, bindings []*Binding) error {
	content := append([]float32(nil), old...)
	first := map[Slice][]float32{}
	for _, b := range bindings {
		data, ok := s.data(b)
		if !ok {
			continue
		}
		if b.Slice == nil || first[*b.Slice] != nil && !sameBits(first[*b.Slice], data) {
			return fault.New(fault.Data, "initializer %s: layers that share packed attention weights cannot be written apart", quote(b.Initializer))
		}
		first[*b.Slice] = data
		b.fill(content, data)
	}
	return s.patch(t, old, content, bindings)
}

// patch notes that a tensor's elements change, if they do.
func (s *storing) patch(t *TensorRef, old, content []float32, bindings []*Binding) error {
	if sameBits(content, old) {
		return nil
	}
	s.patches[t] = content
	s.changes.Patched = append(s.changes.Patched, nameOf(t, bindings))
	return s.patchEdits(t, content)
}

func nameOf(t *TensorRef, bindings []*Binding) string {
	if t.Name != "" {
		return t.Name
	}
	return bindings[0].Initializer
}

func sameBits(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

// foreign reports whether something besides the given parameters reads a tensor: a part of
// the graph that was not recognised, which must go on seeing the old values.
func (s *storing) foreign(t *TensorRef, bindings []*Binding) bool {
	known := map[use]bool{}
	for _, b := range bindings {
		known[b.at] = true
	}
	outputs := map[string]bool{}
	for _, v := range s.f.Outputs {
		outputs[v.Name] = true
	}
	todo := []string{bindings[0].Initializer}
	for len(todo) > 0 {
		v := todo[0]
		todo = todo[1:]
		if outputs[v] {
			return true
		}
		for _, u := range s.m.g.readers[v] {
			n := &s.f.Nodes[u.node]
			if known[u] || n.OpType == "Shape" {
				continue
			}
			switch n.OpType {
			case "Identity", "Cast", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Dropout", "Expand":
				if u.input == 0 && first(n) != "" {
					todo = append(todo, first(n))
					continue
				}
			}
			if !s.sameRole(n, known) {
				return true
			}
		}
	}
	return false
}

// sameRole reports whether a node that reads a tensor again does what a node does that a
// parameter was bound at: LayerNorms and linear maps may be written twice over.
func (s *storing) sameRole(n *Node, known map[use]bool) bool {
	for u := range known {
		if u.node == n.Index {
			return true
		}
	}
	return false
}

// resize replaces an initializer that holds nothing else by one of other dimensions.
func (s *storing) resize(b *Binding, data []float32, dims []int64) {
	if b.Transposed {
		data = transpose(data, int(dims[0]), int(dims[1]))
		dims = []int64{dims[1], dims[0]}
	}
	m := b.tensor.at[len(b.tensor.at)-1]
	now := tensorProto(b.tensor.Name, b.DType, dims, encodeFloat32(data, b.DType))
	s.edits = append(s.edits, replace(m.body, m.end, b.tensor.at, now))
	s.changes.Patched = append(s.changes.Patched, b.tensor.Name)
	s.gone[b.tensor] = true
}

// move gives a parameter an initializer of its own, in the layout in which the graph reads
// it, and lets the reading node read that. dims are [out,in] or [n] if they changed.
func (s *storing) move(b *Binding, data []float32, dims []int64) {
	inOut := b.Transposed != b.readTransposed // read as [in,out]
	asRead := b.asRead
	if dims != nil {
		asRead = dims
		if inOut && len(dims) == 2 {
			asRead = []int64{dims[1], dims[0]}
		}
	}
	rows, cols := b.Shape[0], 1
	if len(b.Shape) == 2 {
		cols = b.Shape[1]
	}
	if dims != nil {
		rows = int(dims[0])
	}
	if inOut {
		data = transpose(data, rows, cols)
	} else if b.repeat > 1 {
		data = b.toFile(data)
	}
	name := s.fresh(b.Role)
	s.end = message(s.end).bytes(5, tensorProto(name, b.asType, asRead, encodeFloat32(data, b.asType)))
	s.changes.Added = append(s.changes.Added, name)
	n := &s.f.Nodes[b.at.node]
	at := n.inputAt[b.at.input]
	s.edits = append(s.edits, replace(at.start, at.end, n.at, message(nil).text(1, name)))
}

// fresh returns a name that nothing in the graph has.
func (s *storing) fresh(name string) string {
	unique := name
	for i := 1; s.taken[unique]; i++ {
		unique = name + "_" + itoa(int64(i))
	}
	s.taken[unique] = true
	return unique
}

// patchEdits overwrites a tensor's elements where they stand. Those of an external file are
// written with that file.
func (s *storing) patchEdits(t *TensorRef, data []float32) error {
	switch {
	case t.External != nil:
		return nil
	case t.hasRaw:
		s.edits = append(s.edits, edit{t.raw.body, t.raw.end, t.at, t.raw.len(), func(w io.Writer) error {
			return patched(w, s.f.file, t.raw.body, t.DType, data)
		}})
		return nil
	case t.DType == Float || t.DType == Double:
		return s.patchTyped(t, data)
	}
	// Half-precision elements in a varint field change their lengths: raw_data takes their place.
	m := t.at[len(t.at)-1]
	sc := newScanner(s.f.file, s.f.Size)
	first := true
	return sc.each(m.body, m.end, func(g field) error {
		if g.num != t.typed {
			return nil
		}
		var now []byte
		if first {
			now = message(nil).bytes(9, encodeFloat32(data, t.DType))
			first = false
		}
		s.edits = append(s.edits, replace(g.start, g.end, t.at, now))
		return nil
	})
}

// patchTyped overwrites float_data or double_data.
func (s *storing) patchTyped(t *TensorRef, data []float32) error {
	m := t.at[len(t.at)-1]
	sc := newScanner(s.f.file, s.f.Size)
	size := int64(t.DType.Size())
	return sc.each(m.body, m.end, func(g field) error {
		if g.num != t.typed {
			return nil
		}
		n := (g.end - g.body) / size // fixed-width numbers, packed or alone
		piece := data[:n]
		data = data[n:]
		s.edits = append(s.edits, edit{g.body, g.end, t.at, g.end - g.body, func(w io.Writer) error {
			return patched(w, s.f.file, g.body, t.DType, piece)
		}})
		return nil
	})
}

// patched writes elements of type d: those that read as data keep their bytes.
func patched(w io.Writer, r io.ReaderAt, at int64, d DataType, data []float32) error {
	size := d.Size()
	return streamRange(r, at, int64(len(data)*size), func(b []byte) error {
		old, err := appendFloat32(make([]float32, 0, len(b)/size), b, d)
		if err != nil {
			return err
		}
		for i, v := range old {
			if math.Float32bits(v) != math.Float32bits(data[i]) {
				putFloat32(b[i*size:], data[i], d)
			}
		}
		data = data[len(old):]
		_, err = w.Write(b)
		return err
	})
}

// write makes the files, the model last: what it refers to is there when it appears.
func (s *storing) write(path string) error {
	data, err := s.externalFiles(path)
	if err != nil {
		return inFile(s.f.Path, err)
	}
	r, err := s.f.rewrite(s.edits)
	if err != nil {
		return inFile(s.f.Path, err)
	}
	if r.size > s.largest {
		more, err := s.externalise(path, data)
		if err != nil {
			return inFile(path, err)
		}
		data = append(data, more)
		if r, err = s.f.rewrite(s.edits); err != nil {
			return inFile(s.f.Path, err)
		}
		if r.size > s.largest {
			return inFile(path, fault.New(fault.CannotWrite, "the graph without its weights has %d bytes; a model ends at %d", r.size, s.largest))
		}
	}
	for _, d := range data {
		if err := d.write(s); err != nil {
			return err
		}
		s.changes.DataFiles = append(s.changes.DataFiles, d.path)
	}
	return atomicfile.AtomicWrite(path, func(w io.Writer) error {
		_, err := r.WriteTo(w)
		return err
	})
}
