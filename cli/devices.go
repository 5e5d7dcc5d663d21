package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sift/backend/cpu"
)

// deviceRow is one line of sift devices.
type deviceRow struct {
	Name        string `json:"name"` // as --device takes it
	Kind        string `json:"kind"`
	Description string `json:"description"`
	Type        string `json:"type,omitempty"` // of a Vulkan device: discrete, integrated, virtual, cpu, other
	Driver      string `json:"driver,omitempty"`
	API         string `json:"api,omitempty"`        // version of Vulkan or of CUDA that the driver has
	Capability  string `json:"capability,omitempty"` // compute capability of a CUDA device
	Library     string `json:"library,omitempty"`    // cuBLAS, if it was found
	ISA         string `json:"isa"`
	Threads     int    `json:"threads"`
	MemoryBytes int64  `json:"memory_bytes"`
	Available   bool   `json:"available"`
	Reason      string `json:"reason,omitempty"` // why it is not available, or why auto passes over Vulkan
	Auto        bool   `json:"auto"`
}

func devicesCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "devices",
		GroupID: groupLook,
		Short:   "List the devices this build can compute on.",
		Long: `List the devices this build can compute on: the instruction sets of the processor, and the CUDA
and Vulkan devices under the names that --device takes. The first line is what --device auto takes. A
software driver, which runs Vulkan on the processor, is taken only by its name or as vulkan:cpu.`,
		Example: `  sift devices
  sift devices --json`,
		Args: noArguments,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		rows, err := systemDrivers().rows()
		if err != nil {
			return err
		}
		if t.json {
			return t.object(map[string]any{"devices": rows, "processors": runtime.NumCPU()})
		}
		for _, r := range rows {
			if err := t.print("%-10s %-10s %s\n", r.Name, r.what(), r.text()); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// rows lists every device, what auto takes first.
func (v drivers) rows() ([]deviceRow, error) {
	rows, err := processorRows()
	if err != nil {
		return nil, err
	}
	rows = append(rows, deviceRow{Name: "reference", Kind: "reference", Description: "plain Go, the truth other devices are tested against",
		ISA: "go", Threads: 1, Available: true})
	rows = append(rows, v.cuda.rows()...)
	list, err := v.list()
	switch {
	case err != nil:
		rows = append(rows, deviceRow{Name: "vulkan", Kind: "vulkan", Reason: oneLine(err.Error())})
	case len(list) == 0:
		rows = append(rows, deviceRow{Name: "vulkan", Kind: "vulkan", Reason: "Vulkan has no device"})
	}
	best := bestGPU(list)
	for _, p := range list {
		r := deviceRow{Name: fmt.Sprintf("vulkan:%d", p.Index), Kind: "vulkan", Description: p.Name, Type: p.Type, Driver: p.Driver, API: p.API,
			MemoryBytes: p.MemoryBytes, Available: true}
		r.Auto = best != nil && p.Index == best.Index && p.Type == "discrete" && v.present()
		rows = append(rows, r)
	}
	onlyAuto(rows, v.present())
	slices.SortStableFunc(rows, func(a, b deviceRow) int {
		switch {
		case a.Auto == b.Auto:
			return 0
		case a.Auto:
			return -1
		}
		return 1
	})
	return rows, nil
}

// onlyAuto leaves the mark of auto to the one row that it takes: CUDA before Vulkan before
// the processor.
func onlyAuto(rows []deviceRow, gpu bool) {
	for _, kind := range []string{"cuda", "vulkan", "cpu"} {
		i := slices.IndexFunc(rows, func(r deviceRow) bool { return r.Auto && r.Kind == kind && (gpu || kind == "cpu") })
		if i < 0 {
			continue
		}
		for j := range rows {
			rows[j].Auto = j == i
		}
		return
	}
}

// rows lists the devices of CUDA, or why there are none.
func (c cudaDriver) rows() []deviceRow {
	list, err := c.list()
	if err != nil {
		return []deviceRow{{Name: "cuda", Kind: "cuda", Reason: oneLine(err.Error())}}
	}
	if len(list) == 0 {
		return []deviceRow{{Name: "cuda", Kind: "cuda", Reason: "the driver shows no device"}}
	}
	var rows []deviceRow
	taken := false
	for _, p := range list {
		r := deviceRow{Name: fmt.Sprintf("cuda:%d", p.Index), Kind: "cuda", Description: p.Name, Capability: p.Capability, API: p.Driver,
			MemoryBytes: p.MemoryBytes, Library: p.CuBLAS, Available: p.Reason == "", Reason: p.Reason}
		r.Auto = r.Available && !taken
		taken = taken || r.Auto
		rows = append(rows, r)
	}
	return rows
}

// processorRows lists the instruction sets of the processor, the best first.
func processorRows() ([]deviceRow, error) {
	var rows []deviceRow
	seen := map[string]bool{}
	for _, isa := range []string{"auto", "avx512", "avx2", "portable", "go"} {
		device, err := cpu.Open(cpu.Options{ISA: isa})
		if err != nil {
			rows = append(rows, deviceRow{Name: "cpu", Kind: "cpu", ISA: isa, Reason: oneLine(err.Error())})
			continue
		}
		info := device.Info()
		if err := device.Close(); err != nil {
			return nil, err
		}
		if seen[info.ISA] {
			continue
		}
		seen[info.ISA] = true
		rows = append(rows, deviceRow{Name: "cpu", Kind: info.Kind, Description: info.Description, ISA: info.ISA, Threads: info.Threads,
			MemoryBytes: info.MemoryBytes, Available: true, Auto: isa == "auto"})
	}
	return rows, nil
}

// what is the second column: the instruction set, or the kind of a Vulkan device.
func (r deviceRow) what() string {
	switch {
	case r.Kind == "cuda":
		return r.Capability
	case r.Kind != "vulkan":
		return r.ISA
	case r.Type == "cpu":
		return "software"
	}
	return r.Type
}

func (r deviceRow) text() string {
	if !r.Available {
		return "not available: " + r.Reason
	}
	parts := []string{r.Description}
	if r.Driver != "" {
		parts = append(parts, r.Driver)
	}
	switch {
	case r.Kind == "cuda":
		parts = append(parts, "CUDA "+r.API, cmp.Or(r.Library, "no cuBLAS"))
	case r.API != "":
		parts = append(parts, "Vulkan "+r.API)
	}
	if r.Threads > 0 {
		parts = append(parts, counted(r.Threads, "thread"))
	}
	if (r.Kind == "vulkan" || r.Kind == "cuda") && r.MemoryBytes > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GB", float64(r.MemoryBytes)/1e9))
	}
	text := strings.Join(parts, ", ")
	if r.Auto {
		text += " (auto)"
	}
	return text
}
