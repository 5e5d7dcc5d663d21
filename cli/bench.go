package cli

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

func benchCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		GroupID: groupLook,
		Short:   "Measure how fast matrix products and training steps run here.",
		Long: `Measure how fast matrix products and training steps run here, beside the peak that plain
multiply-add loops reach on the same cores in the same run.`,
		Example: `  sift bench peak
  sift bench gemm --rows 1024
  sift bench gemm --size 512x768x768 --device vulkan:cpu
  sift bench suite --device vulkan --out my-gpu.json
  sift bench step --layers 12 --hidden 768 --heads 12 --batch 8 --length 128`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fault.New(fault.Usage, "sift bench %s: unknown; gemm, attention, step, suite and peak are known", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchPeakCommand(t), benchGemmCommand(t), benchAttentionCommand(t), benchStepCommand(t), benchSuiteCommand(t))
	return cmd
}

// benchDevice opens the device of a benchmark and measures the peak of the processor it
// runs on; 0 for a device of its own and for plain Go.
func benchDevice(cmd *cobra.Command, precision string) (*opened, float64, error) {
	r, err := resolve(cmd.Flags(), config.Default())
	if err != nil {
		return nil, 0, err
	}
	o, err := openDevice(r.Device, deviceUse{precision: precision})
	if err != nil {
		return nil, 0, err
	}
	peak, err := o.peak()
	if err != nil {
		o.device.Close()
		return nil, 0, err
	}
	return o, peak, nil
}

// peak measures the multiply-add peak of the processor that the device computes on, or returns
// what a device of its own is rated at.
func (o *opened) peak() (gflops float64, err error) {
	info := o.device.Info()
	switch {
	case o.software:
		// A driver starts threads of its own, on every core.
		gflops, err = cpu.Peak(0, "auto")
		if fault.KindOf(err) == fault.Device {
			return 0, nil // no C kernels in this build
		}
		return gflops, err
	case info.Kind != "cpu":
		if r, ok := o.device.(backend.Rated); ok {
			gflops, o.rated = r.Peak()
		}
		return gflops, nil
	case info.ISA == "go":
		return 0, nil // no C kernels, so no C peak loop
	}
	return cpu.Peak(info.Threads, info.ISA)
}

// peakLine says what a benchmark's figures are held against.
func (o *opened) peakLine(peak float64) string {
	info := o.device.Info()
	switch {
	case peak == 0:
		return fmt.Sprintf("%s, %s", info.Name, info.Description)
	case o.software:
		return fmt.Sprintf("%s, %s; peak of the processor %.1f GFLOP/s", info.Name, info.Description, peak)
	case o.rated != "":
		return fmt.Sprintf("%s, %s; nominal peak %.1f GFLOP/s, %s", info.Name, info.Description, peak, o.rated)
	}
	return fmt.Sprintf("peak %.1f GFLOP/s (%s, %s)", peak, info.ISA, counted(info.Threads, "thread"))
}

func benchPeakCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peak",
		Short: "Measure the multiply-add peak of the cores, per instruction set.",
		Long: `Measure the float32 multiply-add peak of the cores, per instruction set: loops of independent
fused multiply-adds in registers, no memory. Two operations count per multiply-add.`,
		Example: `  sift bench peak
  sift bench peak --json`,
		Args: noArguments,
	}
	addDeviceFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := resolve(cmd.Flags(), config.Default())
		if err != nil {
			return err
		}
		if o, err := openDevice(r.Device, deviceUse{}); err != nil {
			return err
		} else if err := o.device.Close(); err != nil {
			return err
		}
		type row struct {
			ISA    string  `json:"isa"`
			DType  string  `json:"dtype"`
			GFLOPS float64 `json:"gflops"`
		}
		var rows []row
		isas := []string{"avx512", "avx2", "portable"}
		if r.Device.ISA != "auto" {
			isas = []string{r.Device.ISA}
		}
		threads := 0
		for _, isa := range isas {
			device, err := cpu.Open(cpu.Options{Threads: r.Device.Threads, ISA: isa})
			if err != nil {
				if r.Device.ISA != "auto" {
					return err
				}
				continue
			}
			threads = device.Info().Threads
			if err := device.Close(); err != nil {
				return err
			}
			gflops, err := cpu.Peak(threads, isa)
			if err != nil {
				if r.Device.ISA != "auto" {
					return err
				}
				continue
			}
			rows = append(rows, row{isa, "float32", gflops})
		}
		if len(rows) == 0 {
			return fault.New(fault.Device, "bench peak: this build has no C kernels to measure (cgo was off)")
		}
		if t.json {
			return t.object(map[string]any{"threads": threads, "results": rows})
		}
		for _, r := range rows {
			if err := t.print("%-9s %s  %8.1f GFLOP/s on %s\n", r.ISA, r.DType, r.GFLOPS, counted(threads, "thread")); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// A gemmSize is one matrix product of a BERT step.
type gemmSize struct {
	name           string
	m, n, k        int
	transA, transB bool
}

// gemmSizes lists BERT's products at hidden size h and intermediate size f: forward
// (y = x W^T), gradient of the input (dY W) and of the weights (dY^T X), for rows
// tokens, and the decoder over labelled rows.
func gemmSizes(rows, h, f, vocab, labelled int) []gemmSize {
	var list []gemmSize
	for _, l := range []struct {
		name    string
		out, in int
	}{{"qkv", 3 * h, h}, {"projection", h, h}, {"up", f, h}, {"down", h, f}} {
		list = append(list,
			gemmSize{l.name + " forward", rows, l.out, l.in, false, true},
			gemmSize{l.name + " dX", rows, l.in, l.out, false, false},
			gemmSize{l.name + " dW", l.out, l.in, rows, true, false})
	}
	return append(list,
		gemmSize{"decoder forward", labelled, vocab, h, false, true},
		gemmSize{"decoder dX", labelled, h, vocab, false, false},
		gemmSize{"decoder dW", vocab, h, labelled, true, false})
}

func benchGemmCommand(t *terminal) *cobra.Command {
	var of benchSize
	var rows, runs int
	var size string
	cmd := &cobra.Command{
		Use:   "gemm",
		Short: "Time the matrix products of a BERT step.",
		Long: `Time the matrix products of a BERT step, or one product given as --size MxNxK. The median of
several runs is shown, as a share of the multiply-add peak of the processor measured just before,
where it is the processor that computes (device cpu, or a software driver of Vulkan), or of the peak that
follows from a GPU's data where CUDA gives them.`,
		Example: `  sift bench gemm --preset bert-base --batch 8 --length 128
  sift bench gemm --size 1024x3072x768 --json`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	of.add(flags)
	flags.IntVar(&rows, "rows", 0, "`tokens` in the batch (default batch x length)")
	flags.IntVar(&runs, "runs", 9, "timed `runs` of each product, the median counts")
	flags.StringVar(&size, "size", "", "one product `MxNxK`, timed in all four transpose forms, instead")
	addDeviceFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := of.settle(cmd); err != nil {
			return err
		}
		if !cmd.Flags().Changed("rows") {
			rows = of.batch * of.length
		}
		if rows < 1 || rows > 1<<24 {
			return fault.New(fault.Usage, "--rows: %d: must be from 1 to %d", rows, 1<<24)
		}
		if runs < 1 || runs > 1000 {
			return fault.New(fault.Usage, "--runs: %d: must be from 1 to 1000", runs)
		}
		sizes := gemmSizes(rows, of.hidden, of.intermediate, of.vocab, max(1, rows*15/100))
		if size != "" {
			m, n, k, err := parseSize(size)
			if err != nil {
				return err
			}
			sizes = nil
			for _, form := range []string{"nn", "nt", "tn", "tt"} {
				sizes = append(sizes, gemmSize{form, m, n, k, form[0] == 't', form[1] == 't'})
			}
		}
		o, peak, err := benchDevice(cmd, of.precision)
		if err != nil {
			return err
		}
		device := o.device
		defer device.Close()
		type result struct {
			Name          string  `json:"name"`
			M             int     `json:"m"`
			N             int     `json:"n"`
			K             int     `json:"k"`
			TransA        bool    `json:"trans_a"`
			TransB        bool    `json:"trans_b"`
			DType         string  `json:"dtype"`
			MedianSeconds float64 `json:"median_seconds"`
			GFLOPS        float64 `json:"gflops"`
			ShareOfPeak   float64 `json:"share_of_peak"` // of the processor or a GPU's nominal one; 0: not known
		}
		var results []result
		if !t.json {
			if err := t.print("%s\n", o.peakLine(peak)); err != nil {
				return err
			}
		}
		for _, s := range sizes {
			if err := cmd.Context().Err(); err != nil {
				return fault.New(fault.Interrupted, "bench gemm: interrupted")
			}
			seconds, err := timeGemm(device, s, runs)
			if err != nil {
				return err
			}
			r := result{s.name, s.m, s.n, s.k, s.transA, s.transB, map[string]string{"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[of.precision], seconds, 2 * float64(s.m) * float64(s.n) * float64(s.k) / seconds / 1e9, 0}
			if peak > 0 {
				r.ShareOfPeak = r.GFLOPS / peak
			}
			results = append(results, r)
			if !t.json {
				share := ""
				if peak > 0 {
					share = fmt.Sprintf("  %5.1f%% of peak", 100*r.ShareOfPeak)
				}
				if err := t.print("%-18s %6d x %6d x %6d  %9.3f ms  %8.1f GFLOP/s%s\n", r.Name, r.M, r.N, r.K,
					seconds*1e3, r.GFLOPS, share); err != nil {
					return err
				}
			}
		}
		if t.json {
			return t.object(map[string]any{"device": device.Info().Name, "peak_gflops": peak, "results": results})
		}
		return nil
	}
	return cmd
}

// parseSize reads MxNxK.
func parseSize(text string) (m, n, k int, err error) {
	parts := strings.Split(text, "x")
	var v [3]int
	if len(parts) == 3 {
		for i, p := range parts {
			if v[i], err = strconv.Atoi(p); err != nil || v[i] < 1 || v[i] > 1<<24 {
				return 0, 0, 0, fault.New(fault.Usage, "--size: %s: %q is not a size from 1 to %d", text, p, 1<<24)
			}
		}
		if uint64(v[0])*uint64(v[1])+uint64(v[0])*uint64(v[2])+uint64(v[1])*uint64(v[2]) < 1<<32 {
			return v[0], v[1], v[2], nil
		}
		return 0, 0, 0, fault.New(fault.Usage, "--size: %s: more than 16 GiB of matrices", text)
	}
	return 0, 0, 0, fault.New(fault.Usage, "--size: %s: must read MxNxK", text)
}

// timeGemm returns the median seconds of one product, after a warm-up.
func timeGemm(device backend.Device, s gemmSize, runs int) (float64, error) {
	shape := func(rows, cols int, trans bool) (int, int) {
		if trans {
			return cols, rows
		}
		return rows, cols
	}
	stream := backend.NewStream(device)
	var tensors [3]backend.Tensor
	for i, d := range [3][2]int{{s.m, s.n}, {}, {}} {
		switch i {
		case 1:
			d[0], d[1] = shape(s.m, s.k, s.transA)
		case 2:
			d[0], d[1] = shape(s.k, s.n, s.transB)
		}
		x, err := backend.Alloc(device, stream.Act(), d[0], d[1])
		if err != nil {
			return 0, err
		}
		defer x.Buf.Free()
		host := make([]float32, x.Len())
		for j := range host {
			host[j] = float32(math.Sin(float64(j % 9973))) // any values but zeros and denormals
		}
		if err := device.UploadF32(x, host); err != nil {
			return 0, err
		}
		tensors[i] = x
	}
	seconds := make([]float64, 0, runs)
	for i := range runs + 2 {
		start := time.Now()
		stream.Gemm(backend.GemmArgs{C: tensors[0], A: tensors[1], B: tensors[2], TransA: s.transA, TransB: s.transB, Alpha: 1})
		if err := stream.Sync(); err != nil {
			return 0, fmt.Errorf("bench gemm %s: %w", s.name, err)
		}
		if i >= 2 {
			seconds = append(seconds, time.Since(start).Seconds())
		}
	}
	return median(seconds), nil
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	sort.Float64s(x)
	if n := len(x); n%2 == 0 {
		return (x[n/2-1] + x[n/2]) / 2
	}
	return x[len(x)/2]
}
