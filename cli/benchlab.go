package cli

import (
	"math"
	"math/rand/v2"
	"time"

	"sift/backend"
	"sift/fault"
)

// lab holds the tensors of one operation on one device. What it makes depends only on the
// order of the calls, so that two devices are given the same numbers.
type lab struct {
	dev  backend.Device
	s    *backend.Stream
	rng  *rand.Rand
	held []backend.Buffer
	err  error // first error of making a tensor
}

func newLab(dev backend.Device) *lab {
	return &lab{dev: dev, s: backend.NewStream(dev), rng: rand.New(rand.NewPCG(1, 2))}
}

// free returns the memory.
func (l *lab) free() error {
	err := l.s.Sync()
	for _, b := range l.held {
		if e := b.Free(); err == nil {
			err = e
		}
	}
	l.held = nil
	return err
}

func (l *lab) alloc(dtype backend.DType, rows, cols int) backend.Tensor {
	if l.err != nil {
		return backend.Tensor{}
	}
	t, err := backend.Alloc(l.dev, dtype, rows, cols)
	if err != nil {
		l.err = err
		return backend.Tensor{}
	}
	l.held = append(l.held, t.Buf)
	return t
}

// zeros is a tensor of zeros: an output, or the start of a sum.
func (l *lab) zeros(rows, cols int) backend.Tensor { return l.alloc(backend.F32, rows, cols) }

// actZeros and actRandom are zeros and random in the device's type of activations.
func (l *lab) actZeros(rows, cols int) backend.Tensor { return l.alloc(l.s.Act(), rows, cols) }
func (l *lab) actRandom(rows, cols int) backend.Tensor {
	return l.filled(l.actZeros(rows, cols), 0, 1)
}

// values is a tensor of numbers spread evenly from centre-spread to centre+spread.
func (l *lab) values(rows, cols int, centre, spread float64) backend.Tensor {
	return l.filled(l.zeros(rows, cols), centre, spread)
}

func (l *lab) filled(t backend.Tensor, centre, spread float64) backend.Tensor {
	rows, cols := t.Rows, t.Cols
	host := make([]float32, rows*cols)
	for i := range host {
		host[i] = float32(centre + spread*(2*l.rng.Float64()-1))
	}
	if l.err == nil {
		l.err = l.s.UploadF32(t, host)
	}
	return t
}

// random is values from -1 to 1.
func (l *lab) random(rows, cols int) backend.Tensor { return l.values(rows, cols, 0, 1) }

func (l *lab) integers(rows, cols int, host []int32) backend.Tensor {
	t := l.alloc(backend.I32, rows, cols)
	if l.err == nil {
		l.err = l.s.UploadI32(t, host)
	}
	return t
}

// below is a row of n integers from 0 to most-1.
func (l *lab) below(n, most int) backend.Tensor {
	host := make([]int32, n)
	for i := range host {
		host[i] = int32(l.rng.IntN(most))
	}
	return l.integers(1, n, host)
}

// layout packs sequences of the given lengths. With holes every seventh key may not be attended to.
func (l *lab) layout(lengths []int, holes bool) (backend.Layout, backend.Tensor) {
	offsets, valid, keys := []int32{0}, []int32{}, []int32{}
	lay := backend.Layout{Seqs: len(lengths)}
	for s, n := range lengths {
		for i := range n {
			v := int32(1)
			if holes && (i+s)%7 == 6 {
				v = 0
			}
			valid = append(valid, v)
			keys = append(keys, int32(s), int32(i), int32(1000+s), 0)
		}
		lay.Rows += n
		lay.MaxLen = max(lay.MaxLen, n)
		offsets = append(offsets, int32(lay.Rows))
	}
	lay.Offsets = l.integers(1, len(offsets), offsets)
	lay.KeyValid = l.integers(1, lay.Rows, valid)
	lay.RowKey = l.integers(lay.Rows, 4, keys)
	return lay, lay.RowKey
}

// drop is dropout of a tenth of rows packed rows.
func (l *lab) drop(keys backend.Tensor) backend.Drop {
	return backend.Drop{P: 0.1, Seed: 3, Site: 5, Update: 7, RowKey: keys}
}

// kernelCase is an operation at one shape.
type kernelCase struct {
	op, shape  string
	operations float64 // necessary floating-point operations, 0 where memory is the limit
	bytes      float64 // least bytes read and written
	narrow     bool    // it also runs where activations are narrower than float32
	// setup makes the tensors; it returns the call, and what the call writes.
	setup func(l *lab) (call func(), written []backend.Tensor)
}

// results runs the case once and returns what it wrote.
func (c *kernelCase) results(dev backend.Device) (out [][]float32, err error) {
	l := newLab(dev)
	defer func() {
		if e := l.free(); err == nil {
			err = e
		}
	}()
	call, written := c.setup(l)
	if l.err != nil {
		return nil, l.err
	}
	call()
	for _, t := range written {
		host := make([]float32, t.Len())
		if err := l.s.DownloadF32(host, t); err != nil {
			return nil, err
		}
		out = append(out, host)
	}
	return out, nil
}

// timing is how long one call takes.
type timing struct {
	Seconds float64 `json:"seconds"` // the median
	Least   float64 `json:"least_seconds"`
	Runs    int     `json:"runs"`          // measurements
	Calls   int     `json:"calls_per_run"` // calls in each, handed over together
}

// time measures the case: after two calls for warming up, runs of as many calls as take
// some milliseconds, the device waited for at the end of each, for about as long as
// budget and at least three times. A call that takes ten times the budget is made once.
func (c *kernelCase) time(dev backend.Device, budget time.Duration) (t timing, err error) {
	l := newLab(dev)
	defer func() {
		if e := l.free(); err == nil {
			err = e
		}
	}()
	call, _ := c.setup(l)
	if l.err != nil {
		return t, l.err
	}
	run := func(calls int) (float64, error) {
		start := time.Now()
		for range calls {
			call()
		}
		if err := l.s.Sync(); err != nil {
			return 0, err
		}
		return time.Since(start).Seconds() / float64(calls), nil
	}
	first, err := run(1)
	if err != nil {
		return t, err
	}
	if first > 10*budget.Seconds() { // nothing that short a warm-up costs shows in it
		return timing{Seconds: first, Least: first, Runs: 1, Calls: 1}, nil
	}
	once, err := run(1)
	if err != nil {
		return t, err
	}
	t.Calls = max(1, min(200, int(math.Ceil(5e-3/max(once, 1e-7)))))
	t.Runs = max(3, min(25, int(budget.Seconds()/(once*float64(t.Calls)))))
	var all []float64
	for range t.Runs {
		s, err := run(t.Calls)
		if err != nil {
			return t, err
		}
		all = append(all, s)
	}
	t.Seconds, t.Least = median(all), all[0]
	for _, s := range all {
		t.Least = min(t.Least, s)
	}
	return t, nil
}

// worst is the largest difference of what two devices wrote, in units of the largest
// number of the tensor it is in.
func worst(got, want [][]float32) (float64, error) {
	most := 0.0
	if len(got) != len(want) {
		return 0, fault.New(fault.Internal, "%d tensors, want %d", len(got), len(want))
	}
	for i := range want {
		largest, off := 0.0, 0.0
		for j, w := range want[i] {
			g := got[i][j]
			if g != g || g-g != 0 {
				return 0, fault.New(fault.Answer, "element %d of result %d is %v, want %v", j, i+1, g, w)
			}
			largest = max(largest, math.Abs(float64(w)))
			off = max(off, math.Abs(float64(g)-float64(w)))
		}
		if off > 0 {
			most = max(most, off/max(largest, math.SmallestNonzeroFloat32))
		}
	}
	return most, nil
}
