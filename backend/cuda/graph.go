//go:build cuda && cgo && linux

package cuda

/*
#include "launch.h"
*/
import "C"

import (
	"bytes"
	"unsafe"

	"sift/fault"
)

// Launches gather on the host and go to the driver in segments, in one call of C. Where a
// segment comes again with the same kernels, grids and parameters, as those of a model's
// layers do in batches of one shape, it becomes a CUDA graph, which the driver enqueues as
// a whole. Segments with other parameters each time, such as the optimiser's, stay single
// launches.
//
// Whatever else enqueues work calls flush before, and whatever waits for the device calls
// it for all queues.
const (
	segment    = 64    // launches at most
	fewLaunch  = 4     // launches that are no graph
	mostGraphs = 128   // segments that are remembered in a queue
	withGraphs = 11040 // oldest driver whose graphs are used
)

// graph is a segment that was launched before.
type graph struct {
	work  []byte // as it was last
	ready bool   // exec is that
	exec  C.CUgraphExec
	used  int // launch count of the queue
}

// graphs are the segments of a queue by their kernels.
type graphs struct {
	known    map[uint64]*graph
	launches int // segments
	whole    int // of these as graphs
}

func (d *device) work(i int) *C.sift_work {
	return (*C.sift_work)(unsafe.Add(d.works, uintptr(i)*C.sizeof_sift_work))
}

// flush hands gathered launches to the driver.
func (d *device) flush() error {
	n := d.pending
	if n == 0 || d.gone != nil {
		return d.gone
	}
	if d.filling {
		return fault.New(fault.Internal, "cuda: work is enqueued between the parameters of a launch and the launch")
	}
	d.pending = 0
	if d.graphs == nil || n < fewLaunch || d.profile != nil {
		return d.launchEach(n)
	}
	g := d.graphs.find(d, n)
	work := unsafe.Slice((*byte)(d.works), n*C.sizeof_sift_work)
	if !bytes.Equal(g.work, work) {
		g.work, g.ready = append(g.work[:0], work...), false
		return d.launchEach(n)
	}
	if !g.ready {
		if r := result(C.sift_graph(cContext(d.context), cStream(d.stream), d.work(0), C.int(n), &g.exec)); r != success {
			return d.failed("make a graph of kernels", r)
		}
		g.ready = true
	}
	d.graphs.whole++
	if r := result(C.sift_graph_launch(cContext(d.context), cStream(d.stream), g.exec)); r != success {
		return d.failed("launch a graph of kernels", r)
	}
	return nil
}

// launchEach enqueues the first n gathered launches one by one.
func (d *device) launchEach(n int) error {
	if r := result(C.sift_launch(cContext(d.context), cStream(d.stream), d.work(0), C.int(n), &d.at)); r != success {
		return d.failed("launch "+d.names[min(int(d.at), n-1)], r)
	}
	return nil
}

// flushAll is flush for all queues.
func (g *gpu) flushAll() error {
	for _, q := range g.queues {
		if err := q.flush(); err != nil {
			return err
		}
	}
	return nil
}

// find returns the segment of the first n gathered launches. If it is new and there are too
// many, the one that was used longest ago is forgotten.
func (s *graphs) find(d *device, n int) *graph {
	s.launches++
	key := uint64(14695981039346656037) // FNV-1a, in words
	for i := range n {
		key = (key ^ uint64(uintptr(unsafe.Pointer(d.work(i).f)))) * 1099511628211
	}
	g := s.known[key]
	if g == nil {
		if len(s.known) == mostGraphs {
			s.forget(d)
		}
		g = &graph{}
		s.known[key] = g
	}
	g.used = s.launches
	return g
}

func (s *graphs) forget(d *device) {
	var oldest uint64
	used := s.launches
	for key, g := range s.known {
		if g.used < used {
			oldest, used = key, g.used
		}
	}
	s.known[oldest].free(func(what string, err error) {
		if err != nil {
			_ = d.failed(what, err) // told by the next call, if the device is lost by it
		}
	})
	delete(s.known, oldest)
}

func (g *graph) free(note func(what string, err error)) {
	if g.exec == nil {
		return
	}
	var err error
	if r := result(C.cuGraphExecDestroy(g.exec)); r != success {
		err = r
	}
	note("destroy a graph", err)
	g.exec = nil
}

func (s *graphs) free(note func(what string, err error)) {
	for _, g := range s.known {
		g.free(note)
	}
	s.known = nil
}
