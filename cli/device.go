package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sift/backend"
	"sift/backend/cpu"
	"sift/config"
	"sift/fault"
)

// openDevice opens the device a configuration names.
// CUDA and Vulkan are not part of this build; naming one is an error, never a fallback.
func openDevice(d config.Device) (backend.Device, error) {
	switch d.Name {
	case "auto", "cpu":
		device, err := cpu.Open(cpu.Options{Threads: d.Threads, ISA: d.ISA})
		if err != nil {
			return nil, err
		}
		return device, nil
	case "reference":
		return cpu.NewReference(backend.F32), nil
	case "cuda", "vulkan":
		return nil, fault.New(fault.Device, "device.name: %s: this build has no %s backend; cpu is available", d.Name, d.Name)
	}
	return nil, fault.New(fault.Config, "device.name: %s: must be auto, cpu or reference", d.Name)
}

// chosen says which device runs and why.
func chosen(name string, info backend.Info) string {
	why := ""
	if name == "auto" {
		why = " (auto: this build has no GPU backend)"
	}
	return fmt.Sprintf("device: %s, %s, %s, %s%s", info.Name, info.Description, info.ISA, counted(info.Threads, "thread"), why)
}

// addDeviceFlags declares the device keys alone, for commands that configure nothing else.
func addDeviceFlags(flags *pflag.FlagSet) {
	base := config.Default()
	for _, s := range settings() {
		switch s.key {
		case "device.name":
			addConfigFlag(flags, "device", s, base)
			addConfigFlag(flags, s.key, s, base)
		case "device.threads", "device.isa":
			addConfigFlag(flags, s.key, s, base)
		}
	}
}

func devicesCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "devices",
		GroupID: groupLook,
		Short:   "List the devices this build can compute on.",
		Long: `List the devices this build can compute on, with the instruction sets of the processor.
The first line is what --device auto takes.`,
		Example: `  sift devices
  sift devices --json`,
		Args: noArguments,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		type row struct {
			Name        string `json:"name"`
			Kind        string `json:"kind"`
			Description string `json:"description"`
			ISA         string `json:"isa"`
			Threads     int    `json:"threads"`
			MemoryBytes int64  `json:"memory_bytes"`
			Available   bool   `json:"available"`
			Reason      string `json:"reason,omitempty"`
			Auto        bool   `json:"auto"`
		}
		var rows []row
		seen := map[string]bool{}
		for _, isa := range []string{"auto", "avx512", "avx2", "portable", "go"} {
			device, err := cpu.Open(cpu.Options{ISA: isa})
			if err != nil {
				rows = append(rows, row{Name: "cpu", Kind: "cpu", ISA: isa, Reason: oneLine(err.Error())})
				continue
			}
			info := device.Info()
			if err := device.Close(); err != nil {
				return err
			}
			if seen[info.ISA] {
				continue
			}
			seen[info.ISA] = true
			rows = append(rows, row{"cpu", info.Kind, info.Description, info.ISA, info.Threads, info.MemoryBytes, true, "", isa == "auto"})
		}
		rows = append(rows, row{Name: "reference", Kind: "reference", Description: "plain Go, the truth other devices are tested against",
			ISA: "go", Threads: 1, Available: true})
		for _, gpu := range []string{"cuda", "vulkan"} {
			rows = append(rows, row{Name: gpu, Kind: gpu, Reason: "this build has no " + gpu + " backend"})
		}
		if t.json {
			return t.object(map[string]any{"devices": rows, "processors": runtime.NumCPU()})
		}
		for _, r := range rows {
			what := r.Description + ", " + counted(r.Threads, "thread")
			if !r.Available {
				what = "not available: " + r.Reason
			}
			if r.Auto {
				what += " (auto)"
			}
			if err := t.print("%-10s %-9s %s\n", r.Name, r.ISA, what); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
