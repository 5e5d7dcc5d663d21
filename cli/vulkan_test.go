package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sift/backend/vulkan"
	"sift/verify"
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
	model := fixtures + "encoder-op14-fold-dynamic.onnx"
	var d description
	object(t, &d, "inspect", model)
	dir := toyTask(t, d.Vocab)
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, precision := range []string{"f32", "f16"} {
		out := in(precision)
		task := []string{"--model", model, "--tokenizer", in("vocab.txt"), "--train", in("train.tsv"), "--valid", in("valid.tsv"),
			"--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12", "--train.micro_batch", "8",
			"--optimizer.lr", "1e-2", "--train.updates", "30", "--sift.score", "loss", "--device", device, "--train.precision", precision}
		code, stdout, stderr := run(append([]string{"finetune", "--out", out}, task...)...)
		if code != 0 || !strings.Contains(stderr, "device: vulkan") || !strings.Contains(stderr, "export agrees with the trained model") {
			t.Fatalf("exit %d: %s%s", code, stdout, stderr)
		}
		if (precision == "f16") != strings.Contains(stdout, "the loss scale ended at ") {
			t.Errorf("%s: %s", precision, stdout)
		}
		var summary struct {
			Best  struct{ Accuracy, Loss float64 }
			Scale float64 `json:"loss_scale"`
		}
		data, err := os.ReadFile(filepath.Join(out, "summary.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &summary); err != nil {
			t.Fatal(err)
		}
		var cert verify.Certificate
		if data, err = os.ReadFile(filepath.Join(out, "certificate.json")); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &cert); err != nil {
			t.Fatal(err)
		}
		noted := strings.Contains(strings.Join(cert.Notes, " "), "rounded to float16")
		if cert.Verdict != "agree" || noted != (precision == "f16") || (summary.Scale > 0) != (precision == "f16") {
			t.Errorf("%s: certificate %s with notes %q, loss scale %g", precision, cert.Verdict, cert.Notes, summary.Scale)
		}
		tolerance := map[string]float64{"f32": 1e-5, "f16": 1e-2}[precision]
		for _, on := range []string{"cpu", device} {
			var e struct{ Accuracy, Loss float64 }
			object(t, &e, "eval", filepath.Join(out, "model", "model.onnx"), in("valid.tsv"), "--device", on, "--text", "text", "--label", "label", "--labels", "bad,fine")
			if off := math.Abs(e.Loss-summary.Best.Loss) / summary.Best.Loss; off > tolerance {
				t.Errorf("%s: the run found loss %g, %s finds %g in its export", precision, summary.Best.Loss, on, e.Loss)
			}
		}
		if code, stdout, stderr := run("verify", filepath.Join(out, "model", "model.onnx"), "--device", device); code != 0 {
			t.Errorf("%s: verify: exit %d: %s%s", precision, code, stdout, stderr)
		}
		// A finished run is taken up again with the kernels it had; the processor may not go on with it.
		if code, _, stderr := run("finetune", "--resume", "--out", out); code != 0 {
			t.Errorf("%s: resumed: exit %d: %s", precision, code, stderr)
		}
		if code, _, stderr := run("finetune", "--resume", "--out", out, "--device", "cpu"); code != 78 {
			t.Errorf("%s: resumed on the processor: exit %d: %s", precision, code, stderr)
		}
	}
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
