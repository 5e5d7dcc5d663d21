package cli

import (
	"fmt"
	"strings"

	"sift/train"
)

// profileReport is where the time of an update goes, per update.
type profileReport struct {
	Kernels []kernelRow `json:"kernels"` // longest first
	Updates int         `json:"updates"`
	// Of one update, in seconds and as shares of it. Waiting overlaps with the kernels that
	// are waited for; recording and submitting do not overlap with each other.
	UpdateSeconds float64 `json:"update_seconds"`
	KernelSeconds float64 `json:"kernel_seconds"`
	RecordSeconds float64 `json:"record_seconds"`
	SubmitSeconds float64 `json:"submit_seconds"`
	WaitSeconds   float64 `json:"wait_seconds"`
	KernelShare   float64 `json:"kernel_share"`
	RecordShare   float64 `json:"record_share"`
	SubmitShare   float64 `json:"submit_share"`
	WaitShare     float64 `json:"wait_share"`
	Submits       float64 `json:"submits"` // per update
}

// kernelRow is one kernel, per update.
type kernelRow struct {
	Name    string  `json:"name"`
	Calls   float64 `json:"calls"`
	Seconds float64 `json:"seconds"`
	Share   float64 `json:"share"` // of all kernels
}

func newProfileReport(p *train.StepProfile) *profileReport {
	n := float64(p.Steps)
	r := &profileReport{Updates: p.Steps, UpdateSeconds: p.Seconds / n, RecordSeconds: p.Record.Seconds() / n,
		SubmitSeconds: p.Submit.Seconds() / n, WaitSeconds: p.Wait.Seconds() / n, Submits: float64(p.Submits) / n}
	for _, k := range p.Kernels {
		r.KernelSeconds += k.Seconds / n
	}
	for _, k := range p.Kernels {
		row := kernelRow{Name: k.Name, Calls: float64(k.Calls) / n, Seconds: k.Seconds / n}
		if r.KernelSeconds > 0 {
			row.Share = row.Seconds / r.KernelSeconds
		}
		r.Kernels = append(r.Kernels, row)
	}
	if s := r.UpdateSeconds; s > 0 {
		r.KernelShare, r.RecordShare, r.SubmitShare, r.WaitShare = r.KernelSeconds/s, r.RecordSeconds/s, r.SubmitSeconds/s, r.WaitSeconds/s
	}
	return r
}

// text is the report as a table.
func (r *profileReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-24s %9s %12s %8s\n", "kernel", "calls", "ms", "share")
	for _, k := range r.Kernels {
		fmt.Fprintf(&b, "%-24s %9.4g %12.3f %7.1f%%\n", k.Name, k.Calls, 1e3*k.Seconds, 100*k.Share)
	}
	fmt.Fprintf(&b, "per update, the mean of %s of %.3f ms:\n", counted(r.Updates, "profiled update"), 1e3*r.UpdateSeconds)
	for _, part := range []struct {
		name           string
		seconds, share float64
	}{{"inside kernels", r.KernelSeconds, r.KernelShare}, {"recording", r.RecordSeconds, r.RecordShare},
		{"submitting", r.SubmitSeconds, r.SubmitShare}, {"waiting", r.WaitSeconds, r.WaitShare}} {
		fmt.Fprintf(&b, "  %-15s %9.3f ms  %5.1f%%\n", part.name, 1e3*part.seconds, 100*part.share)
	}
	fmt.Fprintf(&b, "  %.3g submissions; waiting goes on while kernels run\n", r.Submits)
	return b.String()
}
