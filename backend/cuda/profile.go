//go:build cuda && cgo && linux

package cuda

import (
	"cmp"
	"slices"
	"time"

	"gorgonia.org/cu"

	"sift/backend"
)

// profile gathers, while it is switched on, two events around each kernel.
type profile struct {
	events []cu.Event // pairs, reused after each collection
	names  []string
	times  map[string]backend.KernelTime
	total  backend.Profile
	start  time.Time
}

// profiledCalls is how many launches are timed before their events are collected.
const profiledCalls = 4096

func (p *profile) begin(d *device, name string) error {
	if len(p.names) == profiledCalls {
		if err := p.collect(d); err != nil {
			return err
		}
	}
	p.start = time.Now()
	p.names = append(p.names, name)
	return p.record(d, 2*len(p.names)-2)
}

func (p *profile) end(d *device) error {
	err := p.record(d, 2*len(p.names)-1)
	p.total.Submit += time.Since(p.start)
	p.total.Submits++
	return err
}

func (p *profile) record(d *device, i int) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if i == len(p.events) {
		e, err := cu.MakeEvent(0)
		if err != nil {
			return d.failed("make an event", err)
		}
		p.events = append(p.events, e)
	}
	if err := p.events[i].Record(d.stream); err != nil {
		return d.failed("record an event", err)
	}
	return nil
}

// collect waits and adds up what the events say.
func (p *profile) collect(d *device) error {
	start := time.Now()
	if err := d.Sync(); err != nil {
		return err
	}
	p.total.Wait += time.Since(start)
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	for i, name := range p.names {
		ms, err := p.events[2*i].Elapsed(p.events[2*i+1])
		if err != nil {
			return d.failed("read an event", err)
		}
		k := p.times[name]
		k.Name, k.Calls, k.Seconds = name, k.Calls+1, k.Seconds+ms/1e3
		p.times[name] = k
	}
	p.names = p.names[:0]
	return nil
}

func (p *profile) free(note func(string, error)) {
	for i := range p.events {
		note("destroy an event", cu.DestroyEvent(&p.events[i]))
	}
	p.events = nil
}

// over frees the events between two launches.
func (p *profile) over(d *device) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	n := notes{gpu: d.gpu}
	p.free(n.note)
	return n.first
}

// StartProfile times every kernel of all queues from now on with two events.
func (d *device) StartProfile() error {
	for _, q := range d.queues {
		if err := q.Sync(); err != nil {
			return err
		}
		q.profile = &profile{times: map[string]backend.KernelTime{}}
	}
	return d.usable()
}

// StopProfile waits for enqueued work and returns the times since StartProfile.
func (d *device) StopProfile() (backend.Profile, error) {
	var total backend.Profile
	times, profiled := map[string]backend.KernelTime{}, false
	for _, q := range d.queues {
		p := q.profile
		if p == nil {
			continue
		}
		profiled = true
		if err := p.collect(q); err != nil {
			return backend.Profile{}, err
		}
		for name, k := range p.times {
			t := times[name]
			times[name] = backend.KernelTime{Name: name, Calls: t.Calls + k.Calls, Seconds: t.Seconds + k.Seconds}
		}
		total.Submit, total.Wait, total.Submits = total.Submit+p.total.Submit, total.Wait+p.total.Wait, total.Submits+p.total.Submits
		q.profile = nil
		if err := p.over(q); err != nil {
			return backend.Profile{}, err
		}
	}
	if !profiled {
		return backend.Profile{}, none("the device is not being profiled")
	}
	for _, k := range times {
		total.Kernels = append(total.Kernels, k)
	}
	slices.SortFunc(total.Kernels, func(a, b backend.KernelTime) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Name, b.Name))
	})
	return total, nil
}
