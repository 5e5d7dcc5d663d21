package backend_test

import (
	"math"
	"testing"

	"sift/backend"
	"sift/backend/cpu"
	"sift/fault"
)

// TestArena walks a counter and an arena of the size it tells through the same steps.
func TestArena(t *testing.T) {
	step := func(a *backend.Arena) ([]backend.Tensor, error) {
		var all []backend.Tensor
		take := func(dtype backend.DType, rows, cols int) error {
			x, err := a.Alloc(dtype, rows, cols)
			if err != nil {
				return err
			}
			all = append(all, x)
			return nil
		}
		if err := take(backend.F32, 3, 5); err != nil {
			return nil, err
		}
		mark := a.Mark()
		if err := take(backend.F64, 100, 1); err != nil {
			return nil, err
		}
		a.Release(mark)
		for _, s := range []struct {
			dtype      backend.DType
			rows, cols int
		}{{backend.F64, 1, 1}, {backend.I32, 0, 7}, {backend.I32, 7, 1}, {backend.F32, 16, 4}} {
			if err := take(s.dtype, s.rows, s.cols); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	counter := backend.NewCounter()
	counted, err := step(counter)
	if err != nil {
		t.Fatal(err)
	}
	// 60, 800, 8, 0, 28 and 256 bytes, each rounded up to 64; the 800 are taken back.
	if want := int64(64 + 832); counter.Peak() != want || counter.Used() != 64+64+64+256 {
		t.Fatalf("counter: peak %d, want %d; used %d", counter.Peak(), want, counter.Used())
	}
	dev := cpu.NewReference(backend.F32)
	arena, err := backend.NewArena(dev, counter.Peak())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		arena.Reset()
		all, err := step(arena)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range all {
			c := counted[i]
			if x.Off != c.Off || x.Rows != c.Rows || x.Cols != c.Cols || x.DType != c.DType || x.Absent() || c.Absent() {
				t.Errorf("tensor %d is %+v, counted %+v", i, x, c)
			}
			if x.Off*x.DType.Size()%64 != 0 {
				t.Errorf("tensor %d lies at byte %d", i, x.Off*x.DType.Size())
			}
			s := backend.NewStream(dev)
			if s.Zero(x); s.Sync() != nil {
				t.Errorf("tensor %d: %v", i, s.Err())
			}
		}
	}
	if arena.Peak() != arena.Size() {
		t.Errorf("peak %d of %d", arena.Peak(), arena.Size())
	}
	if n := testing.AllocsPerRun(10, func() {
		arena.Reset()
		if _, err := arena.Alloc(backend.F32, 2, 2); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Alloc makes %g Go allocations", n)
	}
	if err := arena.Free(); err != nil {
		t.Fatal(err)
	}
	if _, err := arena.Alloc(backend.F32, 1, 1); err == nil {
		t.Error("a freed arena still gives memory")
	}
}

func TestArenaRefuses(t *testing.T) {
	dev := cpu.NewReference(backend.F32)
	arena, err := backend.NewArena(dev, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := arena.Alloc(backend.F32, 1, 25); err != nil {
		t.Errorf("100 bytes of 100: %v", err)
	}
	if arena.Used() != 100 {
		t.Errorf("used %d of 100", arena.Used())
	}
	if _, err := arena.Alloc(backend.F32, 0, 25); err != nil {
		t.Errorf("an empty tensor of a full arena: %v", err)
	}
	for _, s := range [][2]int{{1, 1}, {-1, 1}, {1, -1}, {math.MaxInt, math.MaxInt}, {math.MaxInt, 1}} {
		if _, err := arena.Alloc(backend.F32, s[0], s[1]); fault.KindOf(err) != fault.Internal || err == nil {
			t.Errorf("%v: %v", s, err)
		}
	}
	if _, err := arena.Alloc(backend.None, 1, 1); err == nil {
		t.Error("a tensor without type")
	}
	if _, err := backend.NewArena(dev, -1); err == nil {
		t.Error("an arena of -1 bytes")
	}
	if _, err := backend.NewArena(dev, 1<<60); fault.KindOf(err) != fault.Device {
		t.Errorf("an arena of 2^60 bytes: %v", err)
	}
	if _, err := backend.Alloc(dev, backend.F32, -1, 1); err == nil {
		t.Error("a tensor of -1 rows")
	}
	if x, err := backend.Alloc(dev, backend.F32, 0, 3); err != nil || x.Absent() {
		t.Errorf("an empty tensor is %v, %v", x, err)
	}
}
