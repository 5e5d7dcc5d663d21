package train

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"sift/fault"
)

const (
	checkpointDir = "checkpoints"
	bestName      = "best.ckpt"
)

// generations lists the updates that have a checkpoint, newest first, whole or not.
func generations(d disk, dir string) ([]int, error) {
	names, err := d.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError(fault.IO, dir, err)
	}
	var updates []int
	for _, name := range names {
		var u int
		if _, err := fmt.Sscanf(name, "step-%d.ckpt", &u); err == nil && checkpointName(u) == name {
			updates = append(updates, u)
		}
	}
	slices.Sort(updates)
	slices.Reverse(updates)
	return updates, nil
}

// newest opens the newest whole checkpoint in dir; nil if there is none at all. Each
// damaged one passed over is returned by name and told to notice, which may be nil. If
// every one is damaged that is an error.
func newest(d disk, dir string, notice func(string)) (*checkpoint, []string, error) {
	updates, err := generations(d, dir)
	if err != nil || len(updates) == 0 {
		return nil, nil, err
	}
	var damaged []string
	for _, u := range updates {
		path := filepath.Join(dir, checkpointName(u))
		c, openErr := openCheckpoint(d, path)
		if openErr == nil {
			if len(damaged) > 0 && notice != nil {
				notice(fmt.Sprintf("%v; going back to %s", err, filepath.Base(path)))
			}
			return c, damaged, nil
		}
		if err == nil {
			err = openErr
		} else {
			err = &fault.Error{Kind: fault.KindOf(err), Text: err.Error() + "; " + openErr.Error(), Cause: err}
		}
		damaged = append(damaged, path)
	}
	return nil, damaged, err
}

// prune removes all checkpoints but the newest keep, and temporary files of a crash.
func prune(d disk, dir string, keep int) error {
	updates, err := generations(d, dir)
	if err != nil {
		return err
	}
	for _, u := range updates[min(keep, len(updates)):] {
		path := filepath.Join(dir, checkpointName(u))
		if err := d.Remove(path); err != nil {
			return diskError(fault.IO, path, err)
		}
	}
	return nil
}

// sweep removes the temporary files that a crash left in dir.
func sweep(d disk, dir string) error {
	names, err := d.List(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return diskError(fault.IO, dir, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") {
			if err := d.Remove(filepath.Join(dir, name)); err != nil {
				return diskError(fault.IO, filepath.Join(dir, name), err)
			}
		}
	}
	return nil
}
