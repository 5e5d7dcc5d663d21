package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/fault"
	"sift/onnx"
)

func TestUnknownOperation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.onnx")
	m := model(13, []node{{op: "Tanh", in: []string{"a"}, out: []string{"b"}}, {op: "Frobnicate", in: []string{"b"}, out: []string{"c"}}},
		[]input{{"a", onnx.Float}}, []string{"c"})
	if err := os.WriteFile(path, m, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = New(f)
	if fault.KindOf(err) != fault.Data || !strings.Contains(err.Error(), "node 1 (Frobnicate)") {
		t.Errorf("got %v", err)
	}
}

func TestInputsChecked(t *testing.T) {
	g := open(t, model(13, []node{{op: "Tanh", in: []string{"a"}, out: []string{"b"}}}, []input{{"a", onnx.Float}}, []string{"b"}))
	for _, inputs := range []map[string]*Tensor{
		nil,
		{"a": ints(1)},
		{"a": vector(1), "z": vector(1)},
		{"a": Floats([]float64{1}, -1)},
	} {
		if _, err := g.Run(inputs); fault.KindOf(err) != fault.Data || err == nil {
			t.Errorf("%v: got %v", inputs, err)
		}
	}
	if _, err := g.Run(map[string]*Tensor{"a": vector(1)}, "nothing"); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("an unknown output: %v", err)
	}
}

// chain doubles its input n times.
func chain(n int) []byte {
	nodes := []node{}
	for i := range n {
		nodes = append(nodes, node{op: "Add", in: []string{fmt.Sprint("v", i), fmt.Sprint("v", i)}, out: []string{fmt.Sprint("v", i+1)}})
	}
	return model(13, nodes, []input{{"v0", onnx.Float}}, []string{fmt.Sprint("v", n)})
}

// A long chain fits in the memory of a few tensors: each is dropped after its last use.
func TestTensorsAreDropped(t *testing.T) {
	g := open(t, chain(50))
	g.Limits.Live = 3 * 1000
	x := make([]float64, 1000)
	x[7] = 1
	got, err := g.Run(map[string]*Tensor{"v0": vector(x...)})
	if err != nil {
		t.Fatal(err)
	}
	if got["v50"].F[7] != math.Ldexp(1, 50) {
		t.Errorf("got %g", got["v50"].F[7])
	}
	g.Limits.Live = 1500
	if _, err := g.Run(map[string]*Tensor{"v0": vector(x...)}); fault.KindOf(err) != fault.Data || err == nil {
		t.Errorf("beyond the memory: %v", err)
	}
	g.Limits = DefaultLimits()
	g.Limits.Work = 10_000
	if _, err := g.Run(map[string]*Tensor{"v0": vector(x...)}); err == nil || !strings.Contains(err.Error(), "operations") {
		t.Errorf("beyond the work: %v", err)
	}
}

// Only what the asked value depends on is run.
func TestInnerValue(t *testing.T) {
	g := open(t, chain(50))
	g.Limits.Work = 4 // the input and three sums
	got, err := g.Run(map[string]*Tensor{"v0": vector(1)}, "v3", "v0")
	if err != nil {
		t.Fatal(err)
	}
	if got["v3"].F[0] != 8 || got["v0"].F[0] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	g := open(t, chain(3))
	if _, err := g.RunContext(ctx, map[string]*Tensor{"v0": vector(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The blocked product equals the plain sum at sizes around the blocks' edges, in all
// four transpositions.
func TestProduct(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range [][3]int{{1, 1, 1}, {2, 4, 8}, {3, 5, 7}, {33, 65, 513}, {64, 64, 512}, {67, 130, 1030}, {1, 7, 600}, {5, 1, 3}} {
		m, n, k := size[0], size[1], size[2]
		a, b := make([]float64, m*k), make([]float64, k*n)
		for i := range a {
			a[i] = rng.NormFloat64()
		}
		for i := range b {
			b[i] = rng.NormFloat64()
		}
		for form := range 4 {
			left, right := matrix{data: a, row: k, col: 1}, matrix{data: b, row: n, col: 1}
			if form&1 != 0 {
				left.row, left.col = 1, m
			}
			if form&2 != 0 {
				right.row, right.col = 1, k
			}
			c := make([]float64, m*n)
			product2D(context.Background(), c, left, right, m, n, k)
			for i := range m {
				for j := range n {
					want := 0.0
					for p := range k {
						want += a[i*left.row+p*left.col] * b[p*right.row+j*right.col]
					}
					if d := math.Abs(c[i*n+j] - want); !(d < 1e-11) {
						t.Fatalf("%v form %d: element %d,%d is off by %g", size, form, i, j, d)
					}
				}
			}
		}
	}
}
