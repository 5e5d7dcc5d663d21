//go:build cgo

package cpu

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processor returns the processor's name as /proc/cpuinfo has it, else the architecture.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// memoryBytes returns the machine's memory, 0 if unknown.
func memoryBytes() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// cores counts the processor cores (not hardware threads) this process may run on.
func cores() int {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return runtime.NumCPU()
	}
	seen := map[string]bool{}
	for cpu := range 1024 {
		if !allowed.IsSet(cpu) {
			continue
		}
		siblings, err := os.ReadFile(filepath.Join("/sys/devices/system/cpu/cpu"+strconv.Itoa(cpu), "topology/thread_siblings_list"))
		if err != nil {
			siblings = []byte(strconv.Itoa(cpu))
		}
		seen[strings.TrimSpace(string(siblings))] = true
	}
	return max(1, len(seen))
}
