package text

import (
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"sift/fault"
)

// Pages of a mapped file that were read stay in the process's resident memory until
// somebody takes them out: over an epoch that would be all of the corpus. So a store counts
// what it reads, and after residentBudget bytes drops the pages of every shard it touched
// since; the kernel keeps them in its cache as long as it likes, and giving them back
// costs a minor fault. A place that is read counts as a window of pages, since the
// kernel maps those around it along (64 KiB, fault_around_bytes), and what is read twice
// counts twice: the true number is smaller.
const (
	residentBudget = 64 << 20
	faultWindow    = 64 << 10
)

type residency struct {
	mapped bool   // some shard is
	dir    string // for messages
	counts atomic.Int64
	lock   sync.Mutex // held while pages are dropped
}

// touch counts a reading of s: a number of places, and bytes read in a row.
func (st *store) touch(s *shard, places, bytes int) {
	r := &st.resident
	if !r.mapped {
		return
	}
	if !s.touched.Load() {
		s.touched.Store(true)
	}
	if r.counts.Add(int64(places*faultWindow+bytes)) >= residentBudget {
		st.drop()
	}
}

// drop takes the pages that were touched out of the resident memory.
func (st *store) drop() {
	if !st.resident.lock.TryLock() {
		return
	}
	defer st.resident.lock.Unlock()
	st.resident.counts.Store(0)
	for _, s := range st.shards {
		if s.touched.Swap(false) {
			s.mapping.drop()
		}
	}
}

// guard and explain, deferred together by what reads shards,
//
//	defer st.explain(st.guard())
//
// turn the fault of reading a mapped page that is no longer there, as when the file was cut
// short meanwhile, into a panic that names the shard. Else it would end the process on
// the spot.
func (st *store) guard() (before bool) {
	return st.resident.mapped && debug.SetPanicOnFault(true)
}

func (st *store) explain(before bool) {
	if !st.resident.mapped {
		return
	}
	debug.SetPanicOnFault(before)
	r := recover()
	if r == nil {
		return
	}
	if e, ok := r.(interface{ Addr() uintptr }); ok {
		for i, s := range st.shards {
			if s.mapping.holds(e.Addr()) {
				panic(fault.New(fault.IO, "%s: cannot be read any more: was it changed or cut short since it was opened?", filepath.Join(st.resident.dir, shardName(i))))
			}
		}
	}
	panic(r)
}

// close releases all mappings.
func (st *store) close() error {
	var first error
	for i, s := range st.shards {
		if !s.mapping.mapped() {
			continue
		}
		s.narrow, s.wide, s.starts, s.ends, s.digests = nil, nil, nil, nil, nil
		if err := s.mapping.unmap(); err != nil && first == nil {
			first = fault.New(fault.IO, "%s: %v", filepath.Join(st.resident.dir, shardName(i)), err)
		}
	}
	return first
}
