package cli

import (
	"math"
	"strings"
	"testing"
	"time"

	"sift/backend"
	"sift/train"
)

func TestProfileReport(t *testing.T) {
	r := newProfileReport(&train.StepProfile{Steps: 4, Seconds: 0.8, Profile: backend.Profile{
		Kernels: []backend.KernelTime{{Name: "gemm", Calls: 40, Seconds: 0.45}, {Name: "adamw", Calls: 8, Seconds: 0.15}},
		Record:  40 * time.Millisecond, Submit: 16 * time.Millisecond, Wait: 640 * time.Millisecond, Submits: 6,
	}})
	for _, x := range [][2]float64{{r.KernelShare, 0.75}, {r.RecordShare, 0.05}, {r.SubmitShare, 0.02}, {r.WaitShare, 0.8}, {r.UpdateSeconds, 0.2}, {r.Submits, 1.5}} {
		if math.Abs(x[0]-x[1]) > 1e-12 {
			t.Errorf("%g, want %g in %+v", x[0], x[1], r)
		}
	}
	if k := r.Kernels[0]; k.Calls != 10 || k.Share != 0.75 {
		t.Errorf("%+v", k)
	}
	text := r.text()
	for _, want := range []string{"gemm                            10      112.500    75.0%\n", "adamw                            2       37.500    25.0%\n",
		"the mean of 4 profiled updates of 200.000 ms", "inside kernels    150.000 ms   75.0%", "recording          10.000 ms    5.0%", "1.5 submissions"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if empty := newProfileReport(&train.StepProfile{Steps: 1}); empty.KernelShare != 0 || len(empty.Kernels) != 0 {
		t.Errorf("%+v", empty)
	}
}
