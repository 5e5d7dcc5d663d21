//go:build cuda && cgo && linux

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sift/backend/cuda"
)

// needCUDA skips a test on a machine without a CUDA driver. SIFT_CUDA_DRIVER may name the
// emulator.
func needCUDA(t *testing.T) {
	t.Helper()
	list, err := cuda.List()
	if err == nil && len(list) > 0 {
		return
	}
	if os.Getenv("SIFT_REQUIRE_CUDA") == "1" {
		t.Fatalf("no CUDA device: %v", err)
	}
	t.Skipf("no CUDA device: %v", err)
}

// From a file to a verified file on CUDA: the run says what it ran on, its export is proved
// like any other, and the processor agrees with what it measured.
func TestFinetuneOnCUDA(t *testing.T) {
	needCUDA(t)
	finetuneOn(t, "cuda", []precisionCase{{"f32", "", 1e-5, nil}, {"bf16", "bfloat16", 3e-2, nil}})
}

// TestCuBLASOnCUDA: with products by cuBLAS, and in TF32, a run says so, its export is proved in
// float32 like any other, and a resumed run may not change the setting.
func TestCuBLASOnCUDA(t *testing.T) {
	needCUDA(t)
	if os.Getenv("SIFT_CUDA_CUBLAS") == "" && os.Getenv("SIFT_REQUIRE_CUDA") != "1" {
		t.Skip("SIFT_CUDA_CUBLAS is not set")
	}
	model := fixtures + "encoder-op14-fold-dynamic.onnx"
	dir := toyTask(t, 41)
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct{ cublas, precision, says, note, other string }{
		{"on", "f32", "products by cuBLAS ", "", "tf32"},
		{"tf32", "f32", " in TF32", tf32Note, "on"},
		{"tf32", "bf16", " in TF32", tf32Note, "off"},
	} {
		what := c.cublas + " " + c.precision
		out := in(c.cublas + c.precision)
		code, stdout, stderr := run("finetune", "--out", out, "--model", model, "--tokenizer", in("vocab.txt"), "--train", in("train.tsv"),
			"--valid", in("valid.tsv"), "--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12", "--train.micro_batch", "8",
			"--optimizer.lr", "1e-2", "--train.updates", "4", "--sift.score", "loss", "--device", "cuda", "--device.cublas", c.cublas,
			"--train.precision", c.precision, "--sift.score_precision", c.precision)
		if code != 0 || !strings.Contains(stderr, c.says) || !strings.Contains(stderr, "; a row's last bits may depend") || !strings.Contains(stderr, "export agrees with the trained model") {
			t.Fatalf("%s: exit %d: %s%s", what, code, stdout, stderr)
		}
		data, err := os.ReadFile(filepath.Join(out, "certificate.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), c.note) || c.note == "" && strings.Contains(string(data), tf32Note) {
			t.Errorf("%s: certificate %s", what, data)
		}
		if code, stdout, stderr := run("verify", filepath.Join(out, "model", "model.onnx"), "--device", "cuda", "--device.cublas", c.cublas); code != 0 {
			t.Errorf("%s: verify: exit %d: %s%s", what, code, stdout, stderr)
		}
		if code, _, stderr := run("finetune", "--resume", "--out", out); code != 0 {
			t.Errorf("%s: resumed: exit %d: %s", what, code, stderr)
		}
		want := "device.cublas is " + c.other + ", was " + c.cublas
		if code, _, stderr := run("finetune", "--resume", "--out", out, "--device.cublas", c.other); code != 78 || !strings.Contains(stderr, want) {
			t.Errorf("%s: resumed with %s: exit %d: %s", what, c.other, code, stderr)
		}
	}
}

// disturbed is the built program with a directory that has a task. The emulator makes calls fail.
type disturbed struct {
	path, dir, report string
}

// run runs the program with more variables in its environment. A run that hangs is killed.
func (p *disturbed) run(t *testing.T, env []string, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, p.path, args...)
	var errs bytes.Buffer
	c.Stderr, c.Env = &errs, append(append(os.Environ(), "SIFT_EMULATOR_REPORT="+p.report), env...)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("sift %s with %v hangs:\n%s", strings.Join(args, " "), env, errs.String())
	}
	return c.ProcessState.ExitCode(), errs.String()
}

// called returns how often each function was called in the last run.
func (p *disturbed) called(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile(p.report)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(data)) {
		var what, name string
		var n int
		if _, err := fmt.Sscan(line, &what, &name, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if what == "call" {
			counts[name] = n
		} else if n != 0 {
			t.Errorf("%d %s are left", n, name)
		}
	}
	return counts
}

// TestCUDAFaults disturbs fine-tuning on the emulator at the n-th call of a function for
// several n: one line, exit code 69, nothing half-written; after a lost device the run goes
// on to the very bits of an undisturbed one. SIFT_CUDA_FAULTS=all takes every n.
func TestCUDAFaults(t *testing.T) {
	needCUDA(t)
	if !strings.Contains(os.Getenv("SIFT_CUDA_DRIVER"), "emulator") {
		t.Skip("only the emulator can be made to fail")
	}
	p := &disturbed{dir: toyTask(t, 41)}
	p.path, p.report = filepath.Join(p.dir, "sift"), filepath.Join(p.dir, "report")
	if out, err := exec.Command("go", "build", "-tags", "cuda", "-o", p.path, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	in := func(name string) string { return filepath.Join(p.dir, name) }
	out := in("run")
	args := []string{"finetune", "--device", "cuda", "--model", fixtures + "encoder-op14-fold-dynamic.onnx", "--tokenizer", in("vocab.txt"),
		"--train", in("train.tsv"), "--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12",
		"--train.micro_batch", "8", "--train.updates", "2", "--train.save_every", "1", "--sift.score", "loss", "--sift.exit_layer", "1",
		"--sift.reuse=false", "--optimizer.lr", "1e-2", "--quiet", "--out", out}
	final, clean := exportOf(t, out)
	code, undisturbed := p.run(t, nil, args...)
	if code != 0 {
		t.Fatalf("without faults: exit %d: %s", code, undisturbed)
	}
	want, counts := final(), p.called(t)
	if counts["cuLaunchKernel"] < 100 || counts["cuMemAllocAsync"] < 4 || counts["cuStreamSynchronize"] < 4 {
		t.Fatalf("the run calls %v", counts)
	}
	for _, c := range []struct {
		function string
		result   int
		most     int // how many n are tried
	}{
		{"cuMemAllocAsync", 2, 4},
		{"cuMemHostAlloc", 2, 4},
		{"cuDevicePrimaryCtxRetain", 2, 1},
		{"cuStreamCreate", 999, 2},
		{"cuModuleLoadData", 222, 2},
		{"cuModuleGetFunction", 500, 2},
		{"cuLaunchKernel", 700, 6},
		{"cuLaunchKernel", 719, 2},
		{"cuMemcpyHtoDAsync_v2", 700, 3},
		{"cuMemcpyDtoHAsync_v2", 700, 3},
		{"cuMemsetD8Async", 999, 2},
		{"cuStreamSynchronize", 700, 4},
		{"cuEventCreate", 2, 3},
		{"cuEventRecord", 999, 2},
		{"cuEventSynchronize", 700, 3},
		{"cuStreamWaitEvent", 700, 2},
		{"cuStreamEndCapture", 901, 1},
		{"cuGraphInstantiateWithFlags", 2, 2},
		{"cuGraphLaunch", 700, 2},
	} {
		t.Run(fmt.Sprintf("%s/%d", c.function, c.result), func(t *testing.T) {
			n := counts[c.function]
			if n == 0 {
				t.Skip("the run does not call it")
			}
			most := c.most
			if os.Getenv("SIFT_CUDA_FAULTS") == "all" {
				most = n
			}
			for _, at := range spread(n, most) {
				clean()
				what := fmt.Sprintf("%s:%d:%d", c.function, at, c.result)
				code, stderr := p.run(t, []string{"SIFT_EMULATOR_FAIL=" + what}, args...)
				if code == 0 && at > n-8 { // a call while the device is closed changes nothing
					continue
				}
				if !oneError(t, what, "cuda", code, stderr, undisturbed) {
					continue
				}
				if _, err := os.Stat(out); err != nil {
					continue // it had not begun
				}
				code, stderr = p.run(t, nil, "finetune", "--resume", "--quiet", "--out", out)
				sameEnd(t, what, code, stderr, final, want)
			}
		})
	}
	t.Run("cublas", func(t *testing.T) {
		clean()
		with := append(slices.Clone(args), "--device.cublas", "on")
		code, stderr := p.run(t, []string{"SIFT_CUDA_CUBLAS=/none/libcublas.so"}, with...)
		if oneError(t, "no cuBLAS", "cuda", code, stderr, undisturbed) && !strings.Contains(stderr, "device.cublas: on: cuda: no cuBLAS: /none/libcublas.so: cannot open") {
			t.Errorf("%q", stderr)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("a run directory was made without cuBLAS")
		}
		if code, stderr := p.run(t, nil, with...); code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		counts := p.called(t)
		if counts["cublasGemmEx"] < 50 {
			t.Errorf("the run calls %v", counts)
		}
		if code, stderr := p.run(t, nil, "finetune", "--resume", "--out", out, "--device.cublas", "off"); code != 78 || !strings.Contains(stderr, "device.cublas") {
			t.Errorf("resumed without: exit %d: %s", code, stderr)
		}
		what := fmt.Sprintf("cublasGemmEx:%d:13", counts["cublasGemmEx"]/2)
		clean()
		code, stderr = p.run(t, []string{"SIFT_EMULATOR_FAIL=" + what}, with...)
		oneError(t, what, "cuBLAS", code, stderr, undisturbed)
	})
	t.Run("machine", func(t *testing.T) {
		pipe := in("pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ env, want string }{
			{"SIFT_CUDA_DRIVER=/none/libcuda.so", "no driver: /none/libcuda.so: cannot open shared object file"},
			{"SIFT_CUDA_DRIVER=" + pipe, "no driver: " + pipe + ": not a regular file"},
			{"SIFT_EMULATOR_FAIL=cuInit:1:100", "the driver does not start"},
			{"SIFT_EMULATOR_VERSION=10020", "the driver supports CUDA 10.2; the kernels need 11.0"},
			{"SIFT_EMULATOR_DEVICES=0", "the driver shows no device"},
			{"SIFT_EMULATOR_CAPABILITY=75", "its compute capability is 7.5; the kernels need 8.0"},
			{"SIFT_EMULATOR_MEMORY=1000000", "no memory for"},
			{"SIFT_EMULATOR_MEMORY=1000000 SIFT_EMULATOR_POOLS=0", "no memory for"},
		} {
			clean()
			code, stderr := p.run(t, strings.Fields(c.env), args...)
			if oneError(t, c.env, "cuda", code, stderr, undisturbed) && !strings.Contains(stderr, c.want) {
				t.Errorf("%s: %q", c.env, stderr)
			}
		}
	})
}
