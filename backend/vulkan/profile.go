//go:build cgo && (linux || (darwin && moltenvk))

package vulkan

/*
#include "shim.h"
*/
import "C"

import (
	"cmp"
	"slices"
	"time"
	"unsafe"

	vk "github.com/vulkan-go/vulkan"

	"sift/backend"
)

// profile gathers where time goes while it is switched on.
type profile struct {
	total   backend.Profile
	kernels map[string]backend.KernelTime
	stamps  [2 * frameCalls]uint64
}

// clock is the present time if the device is being profiled.
func (d *device) clock() time.Time {
	if d.profile == nil {
		return time.Time{}
	}
	return time.Now()
}

// StartProfile times every kernel from now on with two timestamps of the device.
func (d *device) StartProfile() (err error) {
	defer hostMemory(&err)
	if err := d.Sync(); err != nil {
		return err
	}
	if d.physical.limits.period == 0 {
		return none("%s has no timestamps", d.physical.Name)
	}
	for i := range d.frames {
		if d.frames[i].queries != nil {
			continue
		}
		info := vk.QueryPoolCreateInfo{SType: vk.StructureTypeQueryPoolCreateInfo, QueryType: vk.QueryTypeTimestamp, QueryCount: 2 * frameCalls}
		var queries vk.QueryPool
		r := vk.CreateQueryPool(d.handle, &info, nil, &queries)
		info.Free()
		if r != vk.Success {
			return failed("create a query pool", r)
		}
		d.frames[i].queries = queries
	}
	d.profile = &profile{kernels: map[string]backend.KernelTime{}}
	return nil
}

// StopProfile returns the times since StartProfile.
func (d *device) StopProfile() (backend.Profile, error) {
	if d.profile == nil {
		return backend.Profile{}, none("not being profiled")
	}
	if err := d.Sync(); err != nil {
		return backend.Profile{}, err
	}
	p := d.profile
	d.profile = nil
	for _, k := range p.kernels {
		p.total.Kernels = append(p.total.Kernels, k)
	}
	slices.SortFunc(p.total.Kernels, func(a, b backend.KernelTime) int {
		if c := cmp.Compare(b.Seconds, a.Seconds); c != 0 {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return p.total, nil
}

// collect reads the timestamps of a frame that has been waited for.
func (p *profile) collect(d *device, f *frame) error {
	if f.used == 0 {
		return nil
	}
	if r := vk.Result(C.sv_times(d.table, C.uint64_t(handle(unsafe.Pointer(f.queries))), C.uint32_t(2*f.used), (*C.uint64_t)(unsafe.Pointer(&p.stamps[0])))); r != vk.Success {
		return d.fails("read timestamps", r)
	}
	for i, name := range f.timed[:f.used] {
		k := p.kernels[name]
		k.Name = name
		k.Calls++
		k.Seconds += float64(p.stamps[2*i+1]-p.stamps[2*i]) * d.physical.limits.period * 1e-9
		p.kernels[name] = k
	}
	return nil
}
