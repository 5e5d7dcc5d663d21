package backendtest

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
)

// role says what an operation may do with an operand.
type role uint8

const (
	in      role = iota // read only: must not change
	out                 // overwritten: holds NaN before
	inout               // updated
	scratch             // overwritten with anything
)

// axis says along which axis of an operand the rows of the batch lie, for taking a part.
type axis uint8

const (
	whole     axis = iota // a parameter, or a sum over rows
	alongRows             // [T, n]
	alongCols             // [1, T]
)

// operand is one tensor of a problem on the host. Every float value is a float32, so that
// a float32 device and the float64 reference see the same numbers.
type operand struct {
	name       string
	dtype      backend.DType // None: the device's float type
	rows, cols int
	data       []float64
	role       role
	axis       axis
}

// problem is one call of one operation.
type problem struct {
	op, name string
	operands []operand
	run      func(s *backend.Stream, x tensors)
	bound    func(s *backend.Stream, x tensors) // run for the scale "absolutes"; nil: run itself
	rowwise  bool                               // take part in the test of row-count independence
	kept     float64                            // 1/(1-p) of dropout, 0 if there is none
	answer   *answer                            // shared by all devices; nil outside problems()
}

// tensors are the operands on a device; one that is not there is the absent Tensor.
type tensors map[string]backend.Tensor

// results are the outputs by name, row after row.
type results map[string][]float64

func (p *problem) String() string { return p.op + " " + p.name }

// add appends an operand.
func (p *problem) add(role role, name string, rows, cols int, data []float64) *operand {
	if data == nil {
		data = filled(rows*cols, math.NaN())
	}
	if len(data) != rows*cols {
		panic("backendtest: operand " + name + " has the wrong length")
	}
	p.operands = append(p.operands, operand{name: name, rows: rows, cols: cols, data: data, role: role})
	return &p.operands[len(p.operands)-1]
}

// along says that o's rows are the batch's.
func (o *operand) along(a axis) *operand {
	o.axis = a
	return o
}

// ints makes o an integer tensor.
func (o *operand) ints() *operand {
	o.dtype = backend.I32
	return o
}

// find returns the operand of that name, nil if there is none.
func (p *problem) find(name string) *operand {
	for i := range p.operands {
		if p.operands[i].name == name {
			return &p.operands[i]
		}
	}
	return nil
}

// part returns the problem of rows [from, from+n) of the batch alone.
func (p problem) part(from, n int) problem {
	p.name = fmt.Sprintf("%s rows %d+%d", p.name, from, n)
	operands := p.operands
	p.operands, p.answer = nil, nil
	for _, o := range operands {
		switch o.axis {
		case alongRows:
			o.data, o.rows = o.data[from*o.cols:(from+n)*o.cols], n
		case alongCols:
			o.data, o.cols = o.data[from:from+n], n
		}
		p.operands = append(p.operands, o)
	}
	return p
}

// placement is how operands lie in device memory.
type placement uint8

const (
	plain   placement = iota // each contiguous in a buffer of its own
	strided                  // each a view of a larger matrix whose other elements are watched
)

// The elements around a strided view. Reading beyond an input's view brings NaN (for
// integers a plausible 1) into results; writing beyond any view changes them.
const (
	left, right   = 3, 2
	canaryOut     = -7777.25
	canaryInteger = 1
)

// placed are a problem's operands on a device.
type placed struct {
	dev    backend.Device
	whole  []backend.Tensor // the contiguous matrix around each operand
	images [][]float64      // its contents before the operation
	view   tensors
}

func place(dev backend.Device, p *problem, how placement) (*placed, error) {
	pl := &placed{dev: dev, view: tensors{}}
	for _, o := range p.operands {
		dtype := o.dtype
		if dtype == backend.None {
			dtype = dev.Info().Float
		}
		rows, cols := o.rows, o.cols
		if how == strided {
			rows, cols = rows+2, cols+left+right
		}
		w, err := backend.Alloc(dev, dtype, rows, cols)
		if err != nil {
			return nil, err
		}
		v, image := w, o.data
		if how == strided {
			v = w.RowRange(1, o.rows).ColRange(left, o.cols)
			around := math.NaN()
			switch {
			case o.dtype == backend.I32:
				around = canaryInteger
			case o.role != in:
				around = canaryOut
			}
			image = filled(rows*cols, around)
			for i := range o.rows {
				copy(image[(i+1)*cols+left:], o.data[i*o.cols:(i+1)*o.cols])
			}
		}
		if err := upload(dev, w, image); err != nil {
			return nil, err
		}
		pl.whole = append(pl.whole, w)
		pl.images = append(pl.images, image)
		pl.view[o.name] = v
	}
	return pl, nil
}

// free gives the memory back.
func (pl *placed) free() {
	for _, w := range pl.whole {
		_ = w.Buf.Free()
	}
}

// collect downloads the outputs, having checked that nothing else changed.
func (pl *placed) collect(p *problem) (results, error) {
	res := results{}
	for i, o := range p.operands {
		w, v := pl.whole[i], pl.view[o.name]
		now, err := download(pl.dev, w)
		if err != nil {
			return nil, err
		}
		values := make([]float64, 0, o.rows*o.cols)
		first, left := 0, 0 // where the view begins in the matrix around it
		if w.Cols > 0 {
			first, left = v.Off/w.Cols, v.Off%w.Cols
		}
		for row := range w.Rows {
			after, before := now[row*w.Cols:(row+1)*w.Cols], pl.images[i][row*w.Cols:(row+1)*w.Cols]
			written := o.role != in && row >= first && row < first+v.Rows
			if written {
				values = append(values, after[left:left+v.Cols]...)
			}
			for col, b := range before {
				if written && col >= left && col < left+v.Cols {
					continue
				}
				if a := after[col]; !same(b, a) {
					return nil, fmt.Errorf("%s changed from %g to %g at row %d column %d of its %dx%d view", o.name, b, a, row-first, col-left, v.Rows, v.Cols)
				}
			}
		}
		if o.role == out || o.role == inout {
			res[o.name] = values
		}
	}
	return res, nil
}

// execute runs a problem on a device and returns its outputs.
func execute(dev backend.Device, p *problem, how placement) (results, error) {
	pl, err := place(dev, p, how)
	if err != nil {
		return nil, err
	}
	defer pl.free()
	s := backend.NewStream(dev)
	p.run(s, pl.view)
	if err := s.Sync(); err != nil {
		return nil, err
	}
	return pl.collect(p)
}

// answer is what the float64 reference gives for a problem, computed when first asked
// for, and the scales of its errors.
type answer struct {
	once   sync.Once
	want   results
	scales results
	err    error
}

// solve returns the reference's results and the scale of each output's errors.
func (p *problem) solve(t *testing.T) (want, scales results) {
	t.Helper()
	a := p.answer
	a.once.Do(func() {
		if a.want, a.err = execute(cpu.NewReference(backend.F64), p, plain); a.err != nil {
			return
		}
		a.scales = results{}
		for name := range a.want {
			a.scales[name] = limit(p.op, name).scale(p, a.want, name)
		}
	})
	if a.err != nil {
		t.Fatalf("%s on the reference: %v", p, a.err)
	}
	return a.want, a.scales
}

// must is execute for a device whose failure ends the test.
func must(t testing.TB, dev backend.Device, p *problem, how placement) results {
	t.Helper()
	res, err := execute(dev, p, how)
	if err != nil {
		t.Fatalf("%s on %s: %v", p, dev.Info().Name, err)
	}
	return res
}

func upload(dev backend.Device, dst backend.Tensor, src []float64) error {
	if dst.DType != backend.I32 {
		return dev.UploadF64(dst, src)
	}
	ints := make([]int32, len(src))
	for i, v := range src {
		ints[i] = int32(v)
	}
	return dev.UploadI32(dst, ints)
}

func download(dev backend.Device, src backend.Tensor) ([]float64, error) {
	dst := make([]float64, src.Len())
	if src.DType != backend.I32 {
		return dst, dev.DownloadF64(dst, src)
	}
	ints := make([]int32, len(dst))
	err := dev.DownloadI32(ints, src)
	for i, v := range ints {
		dst[i] = float64(v)
	}
	return dst, err
}

// same reports whether two values are equal, or both NaN; 0 and -0 differ.
func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

func filled(n int, v float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = v
	}
	return x
}

// source returns a generator that depends on nothing but the text.
func source(text string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(text))
	return rand.New(rand.NewPCG(h.Sum64(), 0))
}

// normal returns n float32 values of mean 0 and the given standard deviation.
func normal(rng *rand.Rand, n int, deviation float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = rounded(rng.NormFloat64() * deviation)
	}
	return x
}

// below returns n integers in [0, limit).
func below(rng *rand.Rand, n, limit int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(rng.IntN(limit))
	}
	return x
}

// rounded returns the float32 nearest to v.
func rounded(v float64) float64 { return float64(float32(v)) }

// roundedAll rounds every value of x to float32.
func roundedAll(x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = rounded(v)
	}
	return y
}
