//go:build cuda && cgo && linux

package cuda

/*
#include <stdlib.h>
#include "launch.h"
#include "cudashim.h"
*/
import "C"

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"gorgonia.org/cu"

	"sift/backend"
	"sift/fault"
)

// Built says whether this build has CUDA.
const Built = true

// What the embedded PTX needs: sm_80, and a driver that knows PTX 7.0.
const (
	oldestCapability = 80
	oldestDriver     = 11000
)

// Pools of memory came with CUDA 11.2; package cu does not know the attribute.
const (
	withPools      = 11020
	poolsSupported = cu.DeviceAttribute(115)
)

// driver returns why there is no usable driver, nil if there is one.
func driver() error {
	var why [256]C.char
	if C.sift_cuda_status(&why[0], C.int(len(why))) != 0 {
		return none("%s", C.GoString(&why[0]))
	}
	if v := cu.Version(); v < oldestDriver {
		return none("the driver supports CUDA %s; the kernels need %s", versionText(v), versionText(oldestDriver))
	}
	return nil
}

// versionText writes 12040 as 12.4.
func versionText(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// List returns the devices of the machine, also those too old to open, or why there is
// no driver.
func List() ([]Physical, error) {
	if err := driver(); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, none("count devices: %v", codeOf(err))
	}
	list := []Physical{}
	for i := range n {
		p, _, err := describe(i)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func describe(i int) (Physical, cu.Device, error) {
	dev, err := cu.GetDevice(i)
	if err != nil {
		return Physical{}, 0, none("device %d: %v", i, codeOf(err))
	}
	p := Physical{Index: i, Driver: versionText(cu.Version())}
	if p.Name, err = dev.Name(); err != nil {
		return p, dev, none("name of device %d: %v", i, codeOf(err))
	}
	major, err := dev.Attribute(cu.ComputeCapabilityMajor)
	if err != nil {
		return p, dev, none("capability of device %d: %v", i, codeOf(err))
	}
	minor, err := dev.Attribute(cu.ComputeCapabilityMinor)
	if err != nil {
		return p, dev, none("capability of device %d: %v", i, codeOf(err))
	}
	p.Capability = fmt.Sprintf("%d.%d", major, minor)
	if p.MemoryBytes, err = dev.TotalMem(); err != nil {
		return p, dev, none("memory of device %d: %v", i, codeOf(err))
	}
	if 10*major+minor < oldestCapability {
		p.Reason = fmt.Sprintf("its compute capability is %s; the kernels need %d.%d (A100, RTX 30 and newer)", p.Capability, oldestCapability/10, oldestCapability%10)
	}
	if name, err := blasLibrary(); err == nil {
		p.CuBLAS = name
	}
	return p, dev, nil
}

// gpu is an open GPU. Its memory and kernels belong to the primary context, which any
// thread may make current: enter does so around calls of package cu, sift_launch in C.
type gpu struct {
	physical        Physical
	handle          cu.Device
	context         cu.CUContext
	act             backend.DType // of activations
	multiprocessors int
	capability      int // 80 for 8.0

	modules map[string]cu.Module // by file
	kernels map[string]*kernel
	buffers map[*buffer]bool
	slots   map[*slot]bool
	queues  []*device // open ones, the first that Open made
	taken   int64     // bytes of device memory
	pools   bool      // memory comes from the driver's pool, in the order of a queue

	blasName string // empty: products go to own kernels
	tf32     bool
	retained bool
	gone     error // why the device is lost
}

// device is a queue of a GPU, which is what the rest of the program takes for the device.
type device struct {
	*gpu
	stream  cu.Stream
	fence   cu.Event // for queues that wait for this one
	working *buffer  // scratch

	ring         ring
	statusBuffer *buffer
	status       C.u64          // address of four words in which kernels report bad indices
	found        unsafe.Pointer // pinned: the words, as they were downloaded

	works   unsafe.Pointer // launches that are gathered: sift_work [segment]
	names   [segment]string
	pending int   // so many
	filling bool  // the parameters of the next are under way
	at      C.int // which of them the driver refused
	graphs  *graphs
	updates *buffer // u32: the update whose random bits dropout uses
	update  uint32  // what updates holds

	blas    *blas // nil: products go to the device's own kernels
	profile *profile
	closed  bool
}

// Open opens a device. Errors are of kind fault.Device.
func Open(o Options) (backend.Device, error) {
	list, err := List()
	if err != nil {
		return nil, err
	}
	index := 0
	if o.Select != "" {
		if index, err = strconv.Atoi(o.Select); err != nil || index < 0 || index >= len(list) {
			return nil, none("no device %q; there are %d", o.Select, len(list))
		}
	} else if len(list) == 0 {
		return nil, none("the driver shows no device")
	}
	if why := list[index].Reason; why != "" {
		return nil, none("%s: %s", list[index].Name, why)
	}
	d := &device{gpu: &gpu{physical: list[index], act: backend.F32, modules: map[string]cu.Module{}, kernels: map[string]*kernel{},
		buffers: map[*buffer]bool{}, slots: map[*slot]bool{}}}
	d.tf32 = o.TF32
	switch o.Precision {
	case backend.None, backend.F32:
	case backend.BF16:
		d.act = backend.BF16
	default:
		return nil, fault.New(fault.Config, "cuda: no precision %s; there are float32 and bfloat16", o.Precision)
	}
	if err := d.setup(o); err != nil {
		if closed := d.Close(); closed != nil && d.gone == nil {
			return nil, closed
		}
		return nil, err
	}
	return d, nil
}

func (d *device) setup(o Options) (err error) {
	if d.handle, err = cu.GetDevice(d.physical.Index); err != nil {
		return d.failed("open the device", err)
	}
	if d.context, err = d.handle.RetainPrimaryCtx(); err != nil {
		return d.failed("make a context", err)
	}
	d.retained = true
	var major, minor int
	if _, err := fmt.Sscanf(d.physical.Capability, "%d.%d", &major, &minor); err == nil {
		d.capability = 10*major + minor
	}
	if d.multiprocessors, err = d.handle.Attribute(cu.MultiprocessorCount); err != nil {
		return d.failed("count multiprocessors", err)
	}
	if cu.Version() >= withPools {
		pools, err := d.handle.Attribute(poolsSupported)
		if err != nil {
			return d.failed("ask for pools of memory", err)
		}
		d.pools = pools != 0
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	return d.begin(o.CuBLAS)
}

// begin makes the queue.
func (d *device) begin(withBLAS bool) (err error) {
	d.queues = append(d.queues, d)
	if d.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return d.failed("make a stream", err)
	}
	if d.ring.host, err = d.pinned(ringParts * partBytes); err != nil {
		return err
	}
	for i := range d.ring.done {
		if d.ring.done[i], err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return d.failed("make an event", err)
		}
	}
	if d.found, err = d.pinned(16); err != nil {
		return err
	}
	if d.statusBuffer, err = d.newBuffer(16); err != nil {
		return err
	}
	d.status = C.u64(d.statusBuffer.at)
	d.works = C.calloc(segment, C.sizeof_sift_work)
	if cu.Version() >= withGraphs {
		d.graphs = &graphs{known: map[uint64]*graph{}}
	}
	if withBLAS {
		return d.openBLAS()
	}
	return nil
}

// pinned returns host memory that copies need not stage.
func (d *device) pinned(bytes int) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	if r := result(C.cuMemHostAlloc(&p, C.size_t(bytes), 0)); r != success {
		return nil, d.failed(fmt.Sprintf("%d bytes of pinned memory", bytes), r)
	}
	return p, nil
}

// enter makes the context current on this thread until leave.
func (d *device) enter() error {
	if err := d.usable(); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		runtime.UnlockOSThread()
		return d.failed("make the context current", err)
	}
	return nil
}

func (d *device) leave() { runtime.UnlockOSThread() }

// Info describes the device.
func (d *device) Info() backend.Info {
	parts := []string{d.physical.Name, "compute capability " + d.physical.Capability, "CUDA " + d.physical.Driver}
	if d.blasName != "" {
		parts = append(parts, "products by "+d.blasName)
	}
	return backend.Info{Name: "cuda:" + strconv.Itoa(d.physical.Index),
		Description: strings.Join(parts, ", "),
		Kind:        "cuda", Float: backend.F32, Act: d.act, MemoryBytes: d.physical.MemoryBytes}
}

// Close gives everything back: of a fork its queue, of the device that Open made all forks
// and the memory too. A lost device has nothing to give.
func (d *device) Close() error {
	if d.closed {
		return nil
	}
	var err error
	if len(d.queues) == 0 || d == d.queues[0] {
		for len(d.queues) > 1 {
			err = cmp.Or(err, d.queues[len(d.queues)-1].Close())
		}
		err = cmp.Or(err, d.release(d.freeAll))
		if d.retained {
			if e := d.handle.ReleasePrimaryCtx(); e != nil && err == nil && d.gone == nil {
				err = d.failed("release the context", e)
			}
		}
	} else {
		err = d.release(nil)
	}
	d.queues = slices.DeleteFunc(d.queues, func(q *device) bool { return q == d })
	d.closed = true
	C.free(d.works)
	return err
}

// release returns the queue, and what more frees; it tells the first error.
func (d *device) release(more func(note func(what string, err error))) error {
	if !d.retained || d.gone != nil {
		return nil
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	n := notes{gpu: d.gpu}
	note := n.note
	if d.stream != cu.NoStream {
		if err := d.flush(); err != nil {
			n.first = err
		}
		note("wait", d.stream.Synchronize())
	}
	if d.profile != nil {
		d.profile.free(note)
	}
	if d.blas != nil {
		if err := d.blas.close(d); err != nil && n.first == nil {
			n.first = err
		}
		d.free(d.blas.workspace, note)
	}
	if d.graphs != nil {
		d.graphs.free(note)
	}
	for _, b := range []*buffer{d.working, d.statusBuffer, d.updates} {
		d.free(b, note)
	}
	for _, p := range []unsafe.Pointer{d.ring.host, d.found} {
		if p != nil {
			note("free pinned memory", cu.MemFreeHost(p))
		}
	}
	for i := range d.ring.done {
		if d.ring.done[i] != (cu.Event{}) {
			note("destroy an event", cu.DestroyEvent(&d.ring.done[i]))
		}
	}
	if d.fence != (cu.Event{}) {
		note("destroy an event", cu.DestroyEvent(&d.fence))
	}
	if more != nil {
		more(note)
	}
	if d.stream != cu.NoStream {
		note("destroy the stream", d.stream.Destroy())
	}
	return n.first
}

// freeAll returns what the queues share.
func (g *gpu) freeAll(note func(what string, err error)) {
	for b := range g.buffers {
		g.free(b, note)
	}
	for s := range g.slots {
		s.release(note)
	}
	for _, m := range g.modules {
		note("unload kernels", m.Unload())
	}
}

// free returns a buffer that no enqueued work uses.
func (g *gpu) free(b *buffer, note func(what string, err error)) {
	if b != nil && b.at != 0 {
		note("free memory", cu.MemFree(b.at))
		b.at = 0
		delete(g.buffers, b)
	}
}
