package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sift/backend/vulkan"
)

// needVulkan returns the name of a Vulkan device of this machine, lavapipe or else another
// software driver if there is one, or skips the test.
func needVulkan(t *testing.T) string {
	t.Helper()
	list, err := vulkan.List()
	name := ""
	for _, p := range list {
		if p.Type == "cpu" && (name == "" || strings.Contains(p.Name, "llvmpipe")) {
			name = fmt.Sprintf("vulkan:%d", p.Index)
		}
	}
	if name != "" {
		return name
	}
	if err == nil && len(list) > 0 {
		return "vulkan"
	}
	if os.Getenv("SIFT_REQUIRE_VULKAN") == "1" {
		t.Fatalf("no Vulkan device: %v", err)
	}
	t.Skipf("no Vulkan device: %v", err)
	return ""
}

// From a file to a verified file on Vulkan: the run says what it ran on, its export is
// proved like any other, and the processor agrees with what it measured.
func TestFinetuneOnVulkan(t *testing.T) {
	device := needVulkan(t)
	scaled := func(t *testing.T, stdout string, summary map[string]any) {
		if scale, _ := summary["loss_scale"].(float64); scale <= 0 || !strings.Contains(stdout, "the loss scale ended at ") {
			t.Errorf("f16: loss scale %g: %s", scale, stdout)
		}
	}
	unscaled := func(t *testing.T, stdout string, summary map[string]any) {
		if scale := summary["loss_scale"]; scale != nil || strings.Contains(stdout, "the loss scale ended at ") {
			t.Errorf("f32: loss scale %v: %s", scale, stdout)
		}
	}
	finetuneOn(t, device, []precisionCase{{"f32", "", 1e-5, unscaled}, {"f16", "rounded to float16", 1e-2, scaled}})
}

func TestBenchOnVulkan(t *testing.T) {
	device := needVulkan(t)
	var g struct {
		Device  string
		Peak    float64 `json:"peak_gflops"`
		Results []struct {
			GFLOPS float64
			Share  float64 `json:"share_of_peak"`
		}
	}
	object(t, &g, "bench", "gemm", "--device", device, "--size", "64x48x32", "--runs", "2")
	if !strings.HasPrefix(g.Device, "vulkan:") || len(g.Results) != 4 || g.Results[0].GFLOPS <= 0 || (g.Peak > 0) != (g.Results[0].Share > 0) {
		t.Errorf("%+v", g)
	}
	var s struct {
		Seconds float64 `json:"step_seconds"`
		Device  string
		Profile *profileReport
	}
	object(t, &s, "bench", "step", "--preset", "bert-tiny", "--batch", "2", "--length", "16", "--vocab", "500", "--runs", "2", "--profile", "--device", device)
	p := s.Profile
	if !(s.Seconds > 0) || p == nil || p.Updates != 2 || len(p.Kernels) < 10 {
		t.Fatalf("%+v", s)
	}
	if !(p.KernelShare > 0 && p.KernelShare < 1.05 && p.RecordShare > 0 && p.RecordShare < 1 && p.Submits >= 1) {
		t.Errorf("%+v", p)
	}
	code, stdout, stderr := run("bench", "step", "--preset", "bert-tiny", "--batch", "2", "--length", "16", "--vocab", "500", "--runs", "1", "--profile", "--device", device)
	if code != 0 || !strings.Contains(stdout, "inside kernels") || !strings.Contains(stdout, "device: vulkan:") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
