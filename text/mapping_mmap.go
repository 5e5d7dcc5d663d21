//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package text

import (
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// canMap says that files can be mapped here.
const canMap = true

// noHugePages is MADV_NOHUGEPAGE of Linux.
const noHugePages = 15

// mapFile maps the first size bytes of a file, to be read only. Examples are read here and
// there, so the kernel is asked not to read ahead, nor to map two MiB where a page would do,
// which residency could not account for. Both are hints.
func mapFile(f *os.File, size int64) (mapping, error) {
	if size > math.MaxInt {
		return mapping{}, unix.ENOMEM
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return mapping{}, err
	}
	_ = unix.Madvise(data, unix.MADV_RANDOM)
	if runtime.GOOS == "linux" {
		_ = unix.Madvise(data, noHugePages)
	}
	return mapping{data}, nil
}

// drop takes the pages out of the resident memory; the file still has them.
func (m *mapping) drop() { _ = unix.Madvise(m.data, unix.MADV_DONTNEED) }

func (m *mapping) unmap() error {
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}
