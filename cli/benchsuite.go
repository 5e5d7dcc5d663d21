package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sift/atomicfile"
	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
	"sift/sifting"
	"sift/train"
)

// suiteName is where a suite is written unless --out says otherwise.
const suiteName = "sift-suite.json"

// suiteSizes say how much a suite does.
type suiteSizes struct {
	checks  []kernelCase
	timings []suiteCase
	updates []updateCase
	budget  time.Duration // of one timing
	half    bool          // products, attention and updates are measured in f16 or bf16 too, where the device can
}

type suiteCase struct {
	part string
	kernelCase
}

// updateCase is a model and a batch.
type updateCase struct {
	benchSize
	warmup, runs int
}

func benchSuiteCommand(t *terminal) *cobra.Command {
	var out string
	var quick, force bool
	cmd := &cobra.Command{
		Use:   "suite",
		Short: "Check and time a device in one go, into a file that can be sent.",
		Long: `Check and time a device in one go, into one JSON file that can be sent to those who have no such
device. Every operation is compared with the processor's at a few shapes; the matrix products of
BERT-base in all forms, attention at 128 and 512 tokens forward and backward, the operations that memory
limits, and whole updates of a tiny BERT and of BERT-base are timed, on the device and on the processor.
What fails is named and passed over; the exit code is then 1. The file is whole at any moment.

The file holds: format, program, system, processor, quick; device and cpu (name, description, type and
driver, kernel choices); peak_gflops of the processor; checks (op, shape, error: the largest difference
over the largest number, limit, ok); timings (part, op, shape, precision, operations, bytes, seconds: the
median of runs of calls_per_run calls each, gflops or gb_per_second, cpu: the same on the processor);
updates (model, sequences, tokens, seconds, tokens_per_second, gflops, cpu_seconds, profile: time per
kernel and shares of the update inside kernels, recording, submitting, waiting); failures; finished.`,
		Example: `  sift bench suite --device vulkan --out my-gpu.json
  sift bench suite --device vulkan:cpu --quick`,
		Args: noArguments,
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", suiteName, "`file` to write")
	f.BoolVar(&force, "force", false, "replace --out if it exists")
	f.BoolVar(&quick, "quick", false, "small shapes and few repeats: under three minutes on a software driver")
	addDeviceFlags(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput("--out", out, force); err != nil {
			return err
		}
		r, err := resolve(cmd.Flags(), config.Default())
		if err != nil {
			return err
		}
		s := &suite{t: t, out: out, sizes: fullSuite(), start: time.Now(), tf32: r.Device.CuBLAS == "tf32",
			open: func(use deviceUse) (*opened, error) { return openDevice(r.Device, use) }}
		if quick {
			s.sizes, s.report.Quick = quickSuite(), true
		}
		return s.run(cmd.Context())
	}
	return cmd
}

// suite is a run of sift bench suite.
type suite struct {
	t      *terminal
	out    string
	sizes  suiteSizes
	open   func(deviceUse) (*opened, error)
	tf32   bool // products of open's device are by cuBLAS in TF32
	start  time.Time
	report suiteReport

	on        *opened // nil after it failed, until it is opened again
	precision string  // that on was opened for
	cpu       backend.Device
	truth     backend.Device
	same      bool // the device is the processor: there is nothing to compare speed with
}

func (s *suite) run(ctx context.Context) (err error) {
	if s.on, err = s.open(deviceUse{}); err != nil {
		return err
	}
	s.precision = "f32"
	defer s.closeDevice()
	if s.cpu, err = cpu.Open(cpu.Options{}); err != nil {
		return err
	}
	defer s.cpu.Close()
	if s.same = s.on.device.Info().Kind == "cpu"; s.same {
		s.truth = cpu.NewReference(backend.F32)
		defer s.truth.Close()
	} else {
		s.truth = s.cpu
	}
	s.report.Truth = s.truth.Info().Name
	if err := s.describe(); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{s.check, s.time, s.update} {
		if err := part(ctx); err != nil {
			return err
		}
		if err := s.write(); err != nil {
			return err
		}
	}
	s.report.Finished = true
	if err := s.write(); err != nil {
		return err
	}
	if s.t.json {
		if err := s.t.object(s.report); err != nil {
			return err
		}
	} else if err := s.t.print("%s in %.0f s\n", s.out, s.report.Seconds); err != nil {
		return err
	}
	if n := len(s.report.Failures); n > 0 {
		return fault.New(fault.Answer, "bench suite: %s, first: %s; all are in %s", counted(n, "failure"), s.report.Failures[0], s.out)
	}
	return nil
}

// describe fills in and writes what is known before anything runs.
func (s *suite) describe() error {
	r := &s.report
	r.Format, r.Program, r.Go, r.System = suiteFormat, "sift "+Version, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Kernel = string(bytes.TrimSpace(text))
	}
	r.Processor, r.Processors = s.cpu.Info().Description, runtime.NumCPU()
	r.Device, r.CPU = describeDevice(s.on), describeDevice(&opened{device: s.cpu})
	r.Checks, r.Timings, r.Updates, r.Failures = []suiteCheck{}, []suiteTiming{}, []suiteUpdate{}, []string{}
	var err error
	if r.PeakGFLOPS, err = (&opened{device: s.cpu}).peak(); err != nil {
		return err
	}
	// Before anything is measured: a file that cannot be written is known at once.
	if err := s.write(); err != nil {
		return err
	}
	return s.line("%s\n", s.on.line())
}

// line prints a row for people.
func (s *suite) line(format string, args ...any) error {
	if s.t.json || s.t.quiet {
		return nil
	}
	return s.t.print(format, args...)
}

func (s *suite) write() error {
	s.report.Seconds = time.Since(s.start).Seconds()
	return atomicfile.AtomicWrite(s.out, func(w io.Writer) error {
		data, err := json.MarshalIndent(&s.report, "", "  ")
		if err != nil {
			return fault.New(fault.Internal, "encoding the suite: %w", err)
		}
		_, err = w.Write(append(data, '\n'))
		return err
	})
}

// device returns the device opened for a precision, again if it failed before: a lost
// device answers nothing any more.
func (s *suite) device(precision string) (backend.Device, error) {
	if s.on != nil && s.precision != precision {
		s.closeDevice()
	}
	if s.on == nil {
		use := deviceUse{precision: precision}
		if t := s.report.Device.Tuning; t != "" && !use.narrow() { // it is of f32
			use.tuning = []byte(t)
		}
		o, err := s.open(use)
		if err != nil {
			return nil, err
		}
		s.on, s.precision = o, precision
	}
	return s.on.device, nil
}

func (s *suite) closeDevice() {
	if s.on != nil {
		_ = s.on.device.Close() // what it would say was said by the operation that failed
		s.on = nil
	}
}

// failed notes a failure and gives the device up.
func (s *suite) failed(what string, err error) string {
	text := oneLine(err.Error())
	s.report.Failures = append(s.report.Failures, what+": "+text)
	s.closeDevice()
	return text
}

func (s *suite) stopped(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	if err := s.write(); err != nil {
		return err
	}
	return fault.New(fault.Interrupted, "bench suite: interrupted; what was measured until then is in %s", s.out)
}

// precisions lists what products are measured in.
func (s *suite) precisions() []string {
	narrow := map[string]string{"vulkan": "f16", "cuda": "bf16"}[s.report.Device.Kind]
	if s.sizes.half && narrow != "" {
		return []string{"f32", narrow}
	}
	return []string{"f32"}
}

// errorLimits are what a check allows: float32 sums in any order, operands rounded to
// float16, and operands and results rounded to bfloat16, in units of the largest result.
var errorLimits = map[string]float64{"f32": 5e-5, "f16": 5e-3, "bf16": 4e-2}

// limit is what a check in a precision allows. TF32 rounds operands like float16.
func (s *suite) limit(op, precision string) float64 {
	if s.tf32 && precision == "f32" && strings.HasPrefix(op, "gemm") {
		precision = "f16"
	}
	return errorLimits[precision]
}

func (s *suite) check(ctx context.Context) error {
	for _, precision := range s.precisions() {
		for i := range s.sizes.checks {
			if err := s.stopped(ctx); err != nil {
				return err
			}
			c := &s.sizes.checks[i]
			if precision == "bf16" && !c.narrow {
				continue // the same kernels, which the backend's tests compare
			}
			row := suiteCheck{Op: c.op, Shape: c.shape, Precision: precision, Limit: s.limit(c.op, precision)}
			off, err := s.compare(c, precision)
			row.Error, row.OK = off, err == nil && off <= row.Limit
			if err == nil && !row.OK {
				err = fault.New(fault.Answer, "off by %.2g of the largest result, at most %.2g expected", off, row.Limit)
			}
			if err != nil {
				row.Failure = s.failed("check "+c.op+" "+c.shape+" "+precision, err)
			}
			s.report.Checks = append(s.report.Checks, row)
			if err := s.line("check      %-24s %-34s %s  %s\n", row.Op, row.Shape, precision, verdict(row)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *suite) compare(c *kernelCase, precision string) (float64, error) {
	want, err := c.results(s.truth)
	if err != nil {
		return 0, fault.In(s.report.Truth, err)
	}
	dev, err := s.device(precision)
	if err != nil {
		return 0, err
	}
	got, err := c.results(dev)
	if err != nil {
		return 0, err
	}
	return worst(got, want)
}

func (s *suite) time(ctx context.Context) error {
	for _, precision := range s.precisions() {
		for i := range s.sizes.timings {
			c := &s.sizes.timings[i]
			if precision != "f32" && c.part == "memory" {
				continue // nothing there is rounded, or only what is stored
			}
			if err := s.stopped(ctx); err != nil {
				return err
			}
			row := suiteTiming{Part: c.part, Op: c.op, Shape: c.shape, Precision: precision, Operations: c.operations, Bytes: c.bytes}
			if err := s.measure(c, precision, &row); err != nil {
				row.Failure = s.failed("time "+c.op+" "+c.shape+" "+precision, err)
			}
			s.report.Timings = append(s.report.Timings, row)
			if err := s.line("%-10s %-24s %-34s %s  %s\n", row.Part, row.Op, row.Shape, precision, row.text()); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure fills in the times of a case.
func (s *suite) measure(c *suiteCase, precision string, row *suiteTiming) (err error) {
	if !s.same {
		t, err := c.time(s.cpu, s.sizes.budget/2)
		if err != nil {
			return fault.In("cpu", err)
		}
		row.CPU = &t
	}
	dev, err := s.device(precision)
	if err != nil {
		return err
	}
	if row.timing, err = c.time(dev, s.sizes.budget); err != nil {
		return err
	}
	if c.part == "memory" {
		row.GBps = c.bytes / row.Seconds / 1e9
	} else {
		row.GFLOPS = c.operations / row.Seconds / 1e9
	}
	return nil
}

func (s *suite) update(ctx context.Context) error {
	for _, precision := range s.precisions() {
		for _, c := range s.sizes.updates {
			if err := s.stopped(ctx); err != nil {
				return err
			}
			row := suiteUpdate{Model: c.name, Sequences: c.batch, Tokens: c.length, Precision: precision}
			err := s.measureUpdate(ctx, c, precision, &row)
			if fault.KindOf(err) == fault.Interrupted {
				return s.stopped(ctx)
			}
			if err != nil {
				row.Failure = s.failed("update "+c.name+" "+precision, err)
			}
			s.report.Updates = append(s.report.Updates, row)
			if err := s.line("update     %-24s %-34s %s  %s", row.Model, fmt.Sprintf("%d x %d tokens", row.Sequences, row.Tokens), precision, row.text()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *suite) measureUpdate(ctx context.Context, c updateCase, precision string, row *suiteUpdate) error {
	on := func(dev backend.Device, profile bool) (*train.BenchResult, error) {
		return train.BenchStep(ctx, train.BenchOptions{Device: dev, Model: c.config(), Seqs: c.batch, Length: c.length, Warmup: c.warmup, Runs: c.runs,
			Seed: 1, Profile: profile, Sift: sifting.Options{Score: sifting.None, Dropout: 0.1, AttentionDropout: 0.1}})
	}
	if !s.same {
		r, err := on(s.cpu, false)
		if err != nil {
			return fault.In("cpu", err)
		}
		row.CPUSeconds = median(r.StepSeconds)
	}
	dev, err := s.device(precision)
	if err != nil {
		return err
	}
	_, profiler := dev.(backend.Profiler)
	r, err := on(dev, profiler)
	if err != nil {
		return err
	}
	row.Seconds, row.Runs, row.DeviceBytes = median(r.StepSeconds), len(r.StepSeconds), r.DeviceBytes
	row.TokensPerSecond, row.GFLOPS = float64(r.KeptRows)/row.Seconds, r.FLOPs/row.Seconds/1e9
	if r.Profile != nil {
		row.Profile = newProfileReport(r.Profile)
	}
	return nil
}
