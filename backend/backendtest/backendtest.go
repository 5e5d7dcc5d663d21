// Package backendtest is the conformance suite of backend.Device. Every device runs the
// same problems, and is held against the float64 reference of backend/cpu within the
// limits of one table, against itself for what must be equal bit by bit, and against the
// memory around its operands for what must not be touched.
package backendtest

import (
	"sync"
	"testing"

	"sift/backend"
)

// problems returns every problem of the suite, sorted by operation. They are made once,
// since several devices run them in one process, and never changed.
var problems = sync.OnceValue(func() []problem {
	var all []problem
	for _, list := range [][]problem{
		rowProblems(), embedProblems(), dropoutProblems(), gemmProblems(), activationProblems(),
		layerNormProblems(), attentionProblems(), crossEntropyProblems(), optimiserProblems(),
	} {
		all = append(all, list...)
	}
	for i := range all {
		all[i].answer = new(answer)
	}
	return all
})

// byOp calls f once per operation, in a subtest of its name, with its problems.
func byOp(t *testing.T, all []problem, f func(t *testing.T, list []problem)) {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].op == all[0].op {
			n++
		}
		list := all[:n]
		t.Run(list[0].op, func(t *testing.T) { f(t, list) })
		all = all[n:]
	}
}

// RunAll tests the device that open opens: each operation on odd sizes, one row, no rows
// and strided views against the float64 reference; inputs and surroundings unchanged;
// rows and sequences computed alike in any company; NaN carried through; transfers;
// no Go memory per call. A float64 device is also tested by finite differences.
func RunAll(t *testing.T, open func() (backend.Device, error)) {
	dev, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dev.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	t.Run("Info", func(t *testing.T) { testInfo(t, dev) })
	t.Run("Transfer", func(t *testing.T) { testTransfer(t, dev) })
	t.Run("Values", func(t *testing.T) { testValues(t, dev) })
	t.Run("Mask", func(t *testing.T) { testMask(t, dev) })
	t.Run("MaskedKeys", func(t *testing.T) { testMaskedKeys(t, dev) })
	t.Run("Rows", func(t *testing.T) { testRows(t, dev) })
	t.Run("Sequences", func(t *testing.T) { testSequences(t, dev) })
	t.Run("NotANumber", func(t *testing.T) { testNotANumber(t, dev) })
	t.Run("Allocations", func(t *testing.T) { testAllocations(t, dev) })
	if q, ok := dev.(backend.Queued); ok {
		t.Run("Queued", func(t *testing.T) { testQueued(t, q) })
	}
	if dev.Info().Float == backend.F64 {
		t.Run("Gradients", func(t *testing.T) { testGradients(t, dev) })
	}
}

// RunValues compares the operations that take chooses with the reference, for a device
// that is limited in a way that some operations' problems are too large for.
func RunValues(t *testing.T, open func() (backend.Device, error), take func(op string) bool) {
	dev, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dev.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	var list []problem
	for _, p := range problems() {
		if take(p.op) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		t.Fatal("no operation is taken")
	}
	testList(t, dev, list)
}

// testValues compares every problem with the reference, in both placements, and the
// placements with each other: where an operand lies must not show in the bits.
func testValues(t *testing.T, dev backend.Device) { testList(t, dev, problems()) }

func testList(t *testing.T, dev backend.Device, list []problem) {
	byOp(t, list, func(t *testing.T, list []problem) {
		var worst float64
		for i := range list {
			p := &list[i]
			got := must(t, dev, p, plain)
			worst = max(worst, compare(t, dev, p, got))
			equal(t, p, "as strided views", must(t, dev, p, strided), got)
		}
		t.Logf("%d problems, largest error %.0f%% of the limit", len(list), 100*worst)
	})
}

// equal requires two results to have the same bits.
func equal(t *testing.T, p *problem, how string, got, want results) {
	t.Helper()
	for name, w := range want {
		for i, v := range got[name] {
			if !same(v, w[i]) {
				t.Errorf("%s: %s[%d] is %.17g %s, %.17g otherwise", p, name, i, v, how, w[i])
				break
			}
		}
		if len(got[name]) != len(w) {
			t.Errorf("%s: %s has %d elements %s, %d otherwise", p, name, len(got[name]), how, len(w))
		}
	}
}

func testInfo(t *testing.T, dev backend.Device) {
	i := dev.Info()
	if i.Name == "" || i.Kind == "" || i.Description == "" {
		t.Errorf("nameless device: %+v", i)
	}
	if i.Float != backend.F32 && i.Float != backend.F64 {
		t.Errorf("device float is %s", i.Float)
	}
}
