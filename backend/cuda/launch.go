//go:build cuda && cgo && linux

package cuda

/*
#include <string.h>
#include "launch.h"
*/
import "C"

import (
	"embed"
	"io/fs"
	"strings"
	"unsafe"

	"gorgonia.org/cu"

	"sift/backend"
	"sift/backend/philox"
	"sift/fault"
)

//go:embed kernels/*.ptx
var ptx embed.FS

// entries gives, for each kernel, the file that holds it.
var entries = func() map[string]string {
	m := map[string]string{}
	files, err := fs.Glob(ptx, "kernels/*.ptx")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(ptx, file)
		if err != nil {
			panic(err)
		}
		for _, part := range strings.Split(string(text), ".entry ")[1:] {
			name, _, _ := strings.Cut(part, "(")
			m[name] = file
		}
	}
	return m
}()

// kernel is a function of the device.
type kernel struct {
	function cu.Function
	dynamic  int // bytes of dynamic shared memory it may have
}

// plentyShared is the dynamic shared memory that a function may have without asking.
const plentyShared = 48 << 10

// kernel returns the function called name; its file is compiled at the first use.
func (d *device) kernel(name string) (*kernel, error) {
	if k := d.kernels[name]; k != nil {
		return k, nil
	}
	file, ok := entries[name]
	if !ok {
		return nil, fault.New(fault.Internal, "cuda: no kernel %s", name)
	}
	module, ok := d.modules[file]
	var err error
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if !ok {
		text, err := fs.ReadFile(ptx, file)
		if err != nil {
			return nil, fault.As(fault.Internal, err)
		}
		if module, err = cu.LoadData(string(text)); err != nil {
			return nil, d.failed("load "+file, err)
		}
		d.modules[file] = module
	}
	k := &kernel{dynamic: plentyShared}
	if k.function, err = module.Function(name); err != nil {
		return nil, d.failed("find kernel "+name, err)
	}
	d.kernels[name] = k
	return k, nil
}

func cFunction(f cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func cStream(s cu.Stream) C.CUstream       { return *(*C.CUstream)(unsafe.Pointer(&s)) }
func cContext(c cu.CUContext) C.CUcontext  { return *(*C.CUcontext)(unsafe.Pointer(&c)) }

// The handles of package cu are one pointer each, which its types do not promise.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(cu.Function{})-8]
	_ = [1]struct{}{}[unsafe.Sizeof(cu.Stream{})-8]
	_ = [1]struct{}{}[unsafe.Sizeof(cu.CUContext{})-8]
	_ = [1]struct{}{}[unsafe.Sizeof(cu.Event{})-8]
)

// params returns zeroed memory for the parameters of the next launch. Nothing may be enqueued
// before that.
func (d *device) params() unsafe.Pointer {
	d.filling = true
	p := unsafe.Pointer(&d.work(d.pending).params)
	C.memset(p, 0, C.LAUNCH_WORDS*8)
	return p
}

// launch enqueues a kernel over a grid of x, y, z blocks with the parameters that params
// was filled with. An empty grid is nothing to do. It may stay with the host until flush.
func (d *device) launch(name string, x, y, z, threads, shared int) error {
	d.filling = false
	if err := d.usable(); err != nil || x == 0 || y == 0 || z == 0 {
		return err
	}
	if y > 65535 || z > 65535 {
		return fault.New(fault.Internal, "cuda: %s over %d x %d x %d blocks", name, x, y, z)
	}
	k, err := d.kernel(name)
	if err != nil {
		return err
	}
	if shared > k.dynamic {
		if err := d.enter(); err != nil {
			return err
		}
		r := result(C.cuFuncSetAttribute(cFunction(k.function), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(shared)))
		d.leave()
		if r != success {
			return d.failed(name+": shared memory", r)
		}
		k.dynamic = shared
	}
	if d.profile != nil {
		if err := d.profile.begin(d, name); err != nil {
			return err
		}
	}
	w := d.work(d.pending)
	w.f, w.x, w.y, w.z, w.threads, w.shared = cFunction(k.function), C.u32(x), C.u32(y), C.u32(z), C.u32(threads), C.u32(shared)
	d.names[d.pending] = name
	d.pending++
	if d.profile != nil {
		if err := d.flush(); err != nil {
			return err
		}
		return d.profile.end(d)
	}
	if d.pending == segment {
		return d.flush()
	}
	return nil
}

// matrix is a tensor as kernels take it, zero if absent. A tensor of another device makes
// the next launch fail.
func matrix(t backend.Tensor) C.Matrix {
	if t.Absent() || t.Len() == 0 {
		return C.Matrix{}
	}
	b := t.Buf.(*buffer)
	return C.Matrix{at: C.u64(b.at) + C.u64(t.Off)*C.u64(t.DType.Size()), stride: C.i64(t.Stride)}
}

// drop is a Drop as kernels take it. Take it before params: it may enqueue the number of
// the update.
func (d *device) drop(a backend.Drop) (C.Drop, error) {
	if a.P == 0 {
		return C.Drop{kept: 1}, nil
	}
	if d.updates == nil || d.update != a.Update {
		if err := d.setUpdate(a.Update); err != nil {
			return C.Drop{}, err
		}
	}
	key := philox.Key(a.Seed)
	return C.Drop{threshold: C.u32(philox.Threshold(a.P)), kept: C.f32(1 / (1 - a.P)), seedLow: C.u32(key[0]), seedHigh: C.u32(key[1]),
		site: C.u32(a.Site), update: C.u64(d.updates.at), rowKey: matrix(a.RowKey)}, nil
}

// setUpdate makes what is launched from now on use the random bits of update u.
func (d *device) setUpdate(u uint32) error {
	if d.updates == nil {
		b, err := d.newBuffer(4)
		if err != nil {
			return err
		}
		d.updates = b
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := cu.MemsetD32Async(d.updates.at, uint(u), 1, d.stream); err != nil {
		return d.failed("set memory", err)
	}
	d.update = u
	return nil
}

// layout is a Layout as kernels take it.
func layout(l backend.Layout) C.PackedLayout {
	return C.PackedLayout{offsets: matrix(l.Offsets).at, keyValid: matrix(l.KeyValid).at, seqs: C.i32(l.Seqs), rows: C.i32(l.Rows)}
}

// own returns an error if a tensor lies in the memory of another device or in a freed
// buffer.
func (d *device) own(op string, tensors ...backend.Tensor) error {
	for _, t := range tensors {
		if t.Absent() {
			continue
		}
		if b, ok := t.Buf.(*buffer); !ok || b.dev.gpu != d.gpu || b.at == 0 {
			return fault.New(fault.Internal, "cuda: %s: a tensor of another device or in a freed buffer", op)
		}
	}
	return nil
}
