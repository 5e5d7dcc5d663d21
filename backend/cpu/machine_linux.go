//go:build cgo

package cpu

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

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
