//go:build cgo && linux

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sift/backend/vulkan"
)

// program is the built program with what its runs share: a directory with a task, the
// environment, and the layer that makes calls into Vulkan fail.
type program struct {
	path, dir string
	env       []string
	report    string // the layer writes its counts there
}

// buildProgram builds sift and the layer, and finds a software driver, or skips.
func buildProgram(t *testing.T) *program {
	t.Helper()
	list, err := vulkan.List()
	software := ""
	for _, p := range list {
		if p.Type == "cpu" {
			software = p.Name
		}
	}
	absent := t.Skipf
	if os.Getenv("SIFT_REQUIRE_VULKAN") == "1" {
		absent = t.Fatalf
	}
	if software == "" {
		absent("no software driver of Vulkan is installed (scripts/setup): %v", err)
	}
	p := &program{dir: toyTask(t, 41)}
	layers := filepath.Join(p.dir, "layers") // the loader reads every json of it
	if err := os.Mkdir(layers, 0o777); err != nil {
		t.Fatal(err)
	}
	p.path, p.report = filepath.Join(p.dir, "sift"), filepath.Join(p.dir, "report")
	source := "../backend/vulkan/testdata/faultlayer/"
	if out, err := exec.Command("gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-Wl,-z,nodelete",
		"-o", filepath.Join(layers, "libfault.so"), source+"layer.c").CombinedOutput(); err != nil {
		absent("the fault layer needs gcc and Vulkan's headers (Debian: libvulkan-dev): %v: %s", err, out)
	}
	layer, err := os.ReadFile(source + "layer.json")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(layers, "layer.json"), string(layer))
	if out, err := exec.Command("go", "build", "-o", p.path, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(p.dir, "cache"), "VK_LAYER_PATH="+layers, "VK_INSTANCE_LAYERS=VK_LAYER_SIFT_fault",
		"SIFT_FAULT_REPORT="+p.report, "NODEVICE_SELECT=1") // Mesa 22's sorting of devices reads past the end of an empty list
	return p
}

// run runs the program with more variables in its environment. A run that hangs is killed.
func (p *program) run(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, p.path, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr, c.Env = &out, &errs, append(p.env[:len(p.env):len(p.env)], env...)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("sift %s with %v hangs:\n%s", strings.Join(args, " "), env, errs.String())
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// finetune are the arguments of the run that is disturbed, in the directory out.
func (p *program) finetune(device, out string) []string {
	in := func(name string) string { return filepath.Join(p.dir, name) }
	return []string{"finetune", "--device", device, "--model", fixtures + "encoder-op14-fold-dynamic.onnx", "--tokenizer", in("vocab.txt"),
		"--train", in("train.tsv"), "--task.text_column", "text", "--task.label_column", "label", "--task.max_length", "12",
		"--train.micro_batch", "8", "--train.updates", "2", "--train.save_every", "1", "--sift.score", "loss", "--sift.exit_layer", "1",
		"--optimizer.lr", "1e-2", "--quiet", "--out", out}
}

// called returns how often each function was called in the last run.
func (p *program) called(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile(p.report)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, line := range strings.Split(string(data), "\n") {
		var what, name string
		var n, left int
		if _, err := fmt.Sscan(line+" 0", &what, &name, &n, &left); err == nil && what == "call" {
			counts[name] = n
		} else if what == "made" && left != 0 {
			t.Errorf("%d of %d %s are left", left, n, name)
		}
	}
	return counts
}

// whole requires that no temporary file is left under dir.
func whole(t *testing.T, what, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".tmp") {
			t.Errorf("%s: left %s", what, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestVulkanFaults disturbs fine-tuning on a software driver at the n-th call of a
// function for growing n until the run passes: one line, exit code 69, nothing
// half-written; and after a lost device the run goes on to the very bits of an
// undisturbed one. SIFT_VULKAN_FAULTS=all takes every n, else some of them.
func TestVulkanFaults(t *testing.T) {
	p := buildProgram(t)
	out := filepath.Join(p.dir, "run")
	final, clean := exportOf(t, out)
	var undisturbed string
	for range 2 { // the first one compiles and tunes, which costs calls
		clean()
		code, _, stderr := p.run(t, nil, p.finetune("vulkan:cpu", out)...)
		if undisturbed = stderr; code != 0 {
			t.Fatalf("without faults: exit %d: %s", code, stderr)
		}
	}
	want, counts := final(), p.called(t)
	if counts["vkQueueSubmit"] < 10 || counts["vkAllocateMemory"] < 2 {
		t.Fatalf("the run calls %v", counts)
	}

	for _, c := range []struct {
		function, from string
		result         int
		most           int // how many n are tried
		resume         bool
	}{
		{"vkAllocateMemory", "+", -2, 4, false}, // one failure alone is answered with a smaller block
		{"vkQueueSubmit", "", -4, 8, true},
		{"vkWaitForFences", "", -4, 4, true},
		{"vkCreateComputePipelines", "", -1, 3, true},
		{"vkCreateBuffer", "", -2, 3, false},
	} {
		t.Run(c.function, func(t *testing.T) {
			most := c.most
			if testing.Short() {
				most = 2
			}
			if os.Getenv("SIFT_VULKAN_FAULTS") == "all" {
				most = counts[c.function]
			}
			continued := 0
			for _, n := range spread(counts[c.function], most) {
				clean()
				what := fmt.Sprintf("%s:%d%s:%d", c.function, n, c.from, c.result)
				code, stdout, stderr := p.run(t, []string{"SIFT_FAULT=" + what}, p.finetune("vulkan:cpu", out)...)
				oneError(t, what, "vulkan", code, stderr, undisturbed)
				if stdout != "" {
					t.Errorf("%s: stdout is %q", what, stdout)
				}
				whole(t, what, out)
				if !c.resume {
					continue
				}
				checkpoints, err := filepath.Glob(filepath.Join(out, "checkpoints", "step-*"))
				if err != nil {
					t.Fatal(err)
				}
				if len(checkpoints) > 0 {
					continued++
				}
				code, _, stderr = p.run(t, nil, "finetune", "--resume", "--quiet", "--out", out)
				sameEnd(t, what, code, stderr, final, want)
			}
			if c.function == "vkQueueSubmit" && continued == 0 {
				t.Error("no run was continued from a checkpoint")
			}
			clean()
			what := fmt.Sprintf("%s:%d:%d", c.function, counts[c.function]+1, c.result)
			if code, _, stderr := p.run(t, []string{"SIFT_FAULT=" + what}, p.finetune("vulkan:cpu", out)...); code != 0 || final() != want {
				t.Errorf("beyond the last call: exit %d: %s", code, stderr)
			}
		})
	}
}

// spread returns at most most numbers of 1..n: the first, the last and others between.
func spread(n, most int) (all []int) {
	most = min(n, most)
	for i := range most {
		all = append(all, 1+i*(n-1)/max(most-1, 1))
	}
	return all
}

// TestVulkanCannotBeUsed: whatever stands between the program and a Vulkan device, one
// line names it, nothing is written, and auto takes the processor.
func TestVulkanCannotBeUsed(t *testing.T) {
	p := buildProgram(t)
	in := func(name string) string { return filepath.Join(p.dir, name) }
	driver := func(library string) string {
		return fmt.Sprintf(`{"file_format_version": "1.0.0", "ICD": {"library_path": %q, "api_version": "1.1.0"}}`, library)
	}
	write(t, in("garbage.so"), "not a library")
	if err := syscall.Mkfifo(in("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, in("garbage.json"), "{]")
	write(t, in("missing.json"), driver("./absent.so"))
	write(t, in("broken.json"), driver("./garbage.so"))
	icd := func(name string) []string {
		return []string{"VK_DRIVER_FILES=" + in(name), "VK_ICD_FILENAMES=" + in(name)}
	}
	for _, c := range []struct {
		name string
		env  []string
		want string
	}{
		{"no loader", []string{"SIFT_VULKAN_LOADER=" + in("absent.so")}, "no loader"},
		{"the loader is garbage", []string{"SIFT_VULKAN_LOADER=" + in("garbage.so")}, "no loader"},
		{"the loader is a pipe", []string{"SIFT_VULKAN_LOADER=" + in("pipe")}, "not a regular file"},
		{"the loader is another library", []string{"SIFT_VULKAN_LOADER=libm.so.6"}, "vkGetInstanceProcAddr"},
		{"no driver", icd("absent.json"), ""},
		{"the driver's file is garbage", icd("garbage.json"), ""},
		{"the driver is missing", icd("missing.json"), "driver"},
		{"the driver is garbage", icd("broken.json"), "driver"},
		{"no device", []string{"SIFT_FAULT_NO_DEVICES=1"}, "no device"},
		{"no instance", []string{"SIFT_FAULT=vkCreateInstance:1+:-3"}, "instance"},
		{"no list of devices", []string{"SIFT_FAULT=vkEnumeratePhysicalDevices:1+:-1"}, "list the devices"},
		{"the device does not open", []string{"SIFT_FAULT=vkCreateDevice:1+:-3"}, "cannot open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := in("run")
			code, stdout, stderr := p.run(t, c.env, p.finetune("vulkan:cpu", out)...)
			oneError(t, c.name, "vulkan", code, stderr, "")
			if stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("stdout %q, stderr %q, want %q", stdout, stderr, c.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a run directory was made without a device")
			}
			if code, stdout, stderr := p.run(t, c.env, "devices"); code != 0 || stderr != "" || !strings.Contains(stdout, "vulkan") {
				t.Errorf("sift devices: exit %d: %s%s", code, stdout, stderr)
			}
			code, stdout, stderr = p.run(t, c.env, "bench", "step", "--device", "auto", "--preset", "bert-tiny", "--batch", "1", "--length", "4",
				"--vocab", "40", "--runs", "1")
			if code != 0 || !strings.Contains(stdout, "device: cpu") || !strings.Contains(stdout, "(auto: ") {
				t.Errorf("auto: exit %d: %s%s", code, stdout, stderr)
			}
		})
	}
}
