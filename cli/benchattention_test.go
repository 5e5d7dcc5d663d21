package cli

import (
	"strings"
	"testing"
)

func TestBenchAttention(t *testing.T) {
	var r struct {
		Device  string
		Results []struct {
			Op      string
			Seconds float64
			GFLOPS  float64
		}
	}
	object(t, &r, "bench", "attention", "--device", "reference", "--layers", "1", "--hidden", "16", "--heads", "2", "--batch", "2", "--length", "5")
	if len(r.Results) != 2 || r.Results[0].Op != "attention" || r.Results[1].Op != "attention backward" {
		t.Fatalf("%+v", r)
	}
	for _, x := range r.Results {
		if x.Seconds <= 0 || x.GFLOPS <= 0 {
			t.Errorf("%+v", r)
		}
	}
	code, _, stderr := run("bench", "attention", "--device", "reference", "--hidden", "16", "--heads", "3")
	if code != 64 || !strings.Contains(stderr, "--heads: 3") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
