//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package text

import (
	"errors"
	"os"
)

// canMap says that files cannot be mapped here, so shards are read into memory whole.
const canMap = false

func mapFile(*os.File, int64) (mapping, error) { return mapping{}, errors.ErrUnsupported }

func (m *mapping) drop() {}

func (m *mapping) unmap() error { return nil }
