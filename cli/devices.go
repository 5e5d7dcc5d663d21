package cli

import (
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
	API         string `json:"api,omitempty"`
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
		Long: `List the devices this build can compute on: the instruction sets of the processor, and the Vulkan
devices under the names that --device takes. The first line is what --device auto takes. A software
driver, which runs Vulkan on the processor, is taken only by its name or as vulkan:cpu.`,
		Example: `  sift devices
  sift devices --json`,
		Args: noArguments,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		rows, err := systemVulkan().rows()
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
func (v vulkanDriver) rows() ([]deviceRow, error) {
	rows, err := processorRows()
	if err != nil {
		return nil, err
	}
	rows = append(rows, deviceRow{Name: "reference", Kind: "reference", Description: "plain Go, the truth other devices are tested against",
		ISA: "go", Threads: 1, Available: true})
	rows = append(rows, deviceRow{Name: "cuda", Kind: "cuda", Reason: "this build has no cuda backend"})
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
		if best != nil && p.Index == best.Index && p.Type == "discrete" && v.present() {
			r.Auto = true
			for i := range rows {
				rows[i].Auto = false
			}
		}
		rows = append(rows, r)
	}
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
	if r.API != "" {
		parts = append(parts, "Vulkan "+r.API)
	}
	if r.Threads > 0 {
		parts = append(parts, counted(r.Threads, "thread"))
	}
	if r.Kind == "vulkan" && r.MemoryBytes > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GB", float64(r.MemoryBytes)/1e9))
	}
	text := strings.Join(parts, ", ")
	if r.Auto {
		text += " (auto)"
	}
	return text
}
