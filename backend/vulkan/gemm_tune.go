//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"sift/backend"
	"sift/shaders"
)

// tuner holds the choice of kernels. Until a product is large enough for the choice to
// matter, or somebody asks for it, nothing is measured: all kernels give the same bits.
type tuner struct {
	first, small *product    // without measuring; for small matrices
	gemm         [4]*product // by form: transA + 2 transB; nil before the choice
	choice       tuning
}

// Products of fewer multiplications are not worth measuring for.
const tunedFrom = 1 << 24

// startTuning takes over a pinned choice and finds the kernels that need no measuring.
func (d *device) startTuning() error {
	for i := range products {
		p := &products[i]
		if !d.allows(p) {
			continue
		}
		if d.tuner.first == nil {
			d.tuner.first = p
		}
		if p.name == "blocked32x32" {
			d.tuner.small = p
		}
	}
	if d.tuner.first == nil {
		return none("%s runs no kernel for matrix products: %d invocations and %d bytes of shared memory a workgroup",
			d.physical.Name, d.caps.maxInvocations, d.caps.sharedBytes)
	}
	if d.caps.cpu {
		list := d.candidates()
		d.tuner.first = list[0]
		d.tuner.small = nil
	}
	if d.options.Tuning != nil {
		t, err := parseTuning(d.options.Tuning, d.fits)
		if err != nil {
			return err
		}
		d.pin(t)
	}
	return nil
}

// candidates are the kernels to measure, the likely best first: on a CPU those with
// lanes and the smallest of the others, elsewhere the blocked ones.
func (d *device) candidates() []*product {
	var lanes, others []*product
	for i := range products {
		p := &products[i]
		switch {
		case !d.allows(p):
		case p.lanes > 0:
			lanes = append(lanes, p)
		case !d.caps.cpu || p.name == "blocked32x32":
			others = append(others, p)
		}
	}
	if d.caps.cpu && len(lanes) > 0 {
		return append(lanes, others...)
	}
	if len(others) == 0 {
		return []*product{d.tuner.first}
	}
	return others
}

// fits says why a name is not that of a kernel this device runs.
func (d *device) fits(name string) error {
	p := productCalled(name)
	if p == nil {
		return errors.New("there is no such kernel")
	}
	if !d.allows(p) {
		return fmt.Errorf("%s does not run it", d.physical.Name)
	}
	return nil
}

func productCalled(name string) *product {
	for i := range products {
		if products[i].name == name {
			return &products[i]
		}
	}
	return nil
}

// pin makes a choice whose names fit.
func (d *device) pin(t tuning) {
	d.tuner.choice = t
	for form := range d.tuner.gemm {
		d.tuner.gemm[form] = productCalled(*t.form(form&1 != 0, form&2 != 0))
	}
}

// choose returns the kernel for a product of m x n x k. Matrices that make few large
// blocks take small ones, so that more of a GPU has work.
func (d *device) choose(a backend.GemmArgs, m, n, k int) (*product, error) {
	if d.tuner.small != nil && m*n <= 1<<14 {
		return d.tuner.small, nil
	}
	form := int(flag(a.TransA) + 2*flag(a.TransB))
	if p := d.tuner.gemm[form]; p != nil {
		return p, nil
	}
	if m*n < tunedFrom/max(k, 1) {
		return d.tuner.first, nil
	}
	if err := d.tune(); err != nil {
		return nil, err
	}
	return d.tuner.gemm[form], nil
}

// Tuning returns the choice of kernels as a line of JSON, measuring first if need be. It is
// nil if the device fails at that, which the next call will say.
func (d *device) Tuning() []byte {
	if d.usable() != nil {
		return nil
	}
	if d.tuner.gemm[0] == nil && d.tune() != nil {
		return nil
	}
	return d.tuner.choice.text()
}

// tune takes the choice from the cache directory, or measures and leaves it there.
func (d *device) tune() error {
	hash, err := gemmHash()
	if err != nil {
		return err
	}
	path := ""
	if dir := d.cacheDir(); dir != "" {
		path = filepath.Join(dir, "tuning-"+d.identity()+".json")
	}
	if t, ok := readTuning(path, hash, d.fits); ok {
		d.pin(t)
		return nil
	}
	t, err := d.measure()
	if err != nil {
		return err
	}
	d.pin(t)
	_ = writeTuning(path, hash, t)
	return nil
}

// gemmHash is the hash of the kernels among which there is a choice.
func gemmHash() (string, error) {
	h := sha256.New()
	for i := range products {
		code, err := shaders.Code(products[i].kernel)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, products[i])
		_ = binary.Write(h, binary.LittleEndian, code)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// measure times the candidates on a product of the size of a layer: on a GPU in each form,
// which takes milliseconds, on a CPU a smaller one in the form of the forward pass alone,
// since there compiling takes longer than running.
func (d *device) measure() (tuning, error) {
	var t tuning
	list := d.candidates()
	n, forms, runs := 1024, []int{0, 1, 2, 3}, 8
	if d.caps.cpu {
		n, forms, runs = 256, []int{2}, 1
	}
	for len(list) > 1 && int64(n)*int64(n)*4 > d.caps.maxRange {
		n /= 2
	}
	if len(list) == 1 {
		forms = nil
	}
	best := [4]*product{list[0], list[0], list[0], list[0]}
	if len(forms) > 0 {
		buf, err := d.Alloc(int64(3*n*n) * 4)
		if err != nil {
			return t, err
		}
		x := backend.NewTensor(buf, backend.F32, 3*n, n)
		a := backend.GemmArgs{C: x.RowRange(0, n), A: x.RowRange(n, n), B: x.RowRange(2*n, n), Alpha: 1}
		for _, form := range forms {
			a.TransA, a.TransB = form&1 != 0, form&2 != 0
			fastest := time.Duration(math.MaxInt64)
			for _, p := range list {
				took, err := d.timed(p, a, n, runs)
				if d.lost != nil {
					return t, err
				}
				if err == nil && took < fastest { // a kernel that the driver cannot compile is not chosen
					fastest, best[form] = took, p
				}
			}
		}
		if err := buf.Free(); err != nil {
			return t, err
		}
	}
	for form := range best {
		p := best[form]
		if len(forms) == 1 {
			p = best[forms[0]]
		}
		*t.form(form&1 != 0, form&2 != 0) = p.name
	}
	return t, nil
}

// timed returns the least time of p over three goes of so many products, after one that compiles it.
func (d *device) timed(p *product, a backend.GemmArgs, n, runs int) (time.Duration, error) {
	least := time.Duration(math.MaxInt64)
	for try := range 4 {
		if err := d.Sync(); err != nil {
			return 0, err
		}
		start := time.Now()
		for range runs {
			if err := d.gemmCall(p, a, n, n, n, 0, backend.Tensor{}); err != nil {
				return 0, err
			}
		}
		if err := d.Sync(); err != nil {
			return 0, err
		}
		if try > 0 {
			least = min(least, time.Since(start))
		}
	}
	return least, nil
}
