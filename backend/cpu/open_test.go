//go:build cgo && unix

package cpu_test

import (
	"testing"

	"sift/backend"
	"sift/backend/backendtest"
	"sift/backend/cpu"
	"sift/fault"
)

// available returns the instruction sets this processor has.
func available() []string {
	var list []string
	for _, isa := range []string{"portable", "avx2", "avx512"} {
		if dev, err := cpu.Open(cpu.Options{Threads: 1, ISA: isa}); err == nil {
			dev.Close()
			list = append(list, isa)
		}
	}
	return list
}

func opener(threads int, isa string) func() (backend.Device, error) {
	return func() (backend.Device, error) { return cpu.Open(cpu.Options{Threads: threads, ISA: isa}) }
}

func TestConformance(t *testing.T) {
	for _, isa := range available() {
		t.Run(isa, func(t *testing.T) { backendtest.RunAll(t, opener(3, isa)) })
	}
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		options cpu.Options
		want    fault.Kind
	}{
		{cpu.Options{ISA: "sse"}, fault.Config},
		{cpu.Options{Threads: -1}, fault.Config},
	} {
		if dev, err := cpu.Open(c.options); err == nil || fault.KindOf(err) != c.want {
			t.Errorf("Open(%+v) gives %v, %v; want an error of kind %d", c.options, dev, err, c.want)
		}
	}
	dev, err := cpu.Open(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	list := available()
	if i := dev.Info(); i.ISA != list[len(list)-1] || i.Threads < 1 || i.Float != backend.F32 || i.MemoryBytes == 0 {
		t.Errorf("auto opens %+v, want the best of %v", i, list)
	}
	if _, err := dev.Alloc(1 << 60); fault.KindOf(err) != fault.Device {
		t.Errorf("an impossible allocation gives %v", err)
	}
}

func TestThreads(t *testing.T) {
	for _, isa := range available() {
		t.Run(isa, func(t *testing.T) {
			backendtest.RunThreads(t, func(threads int) (backend.Device, error) { return opener(threads, isa)() })
		})
	}
}
