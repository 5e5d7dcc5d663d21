package train

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gofrs/flock"
	"go.yaml.in/yaml/v3"

	"sift/backend"
	"sift/config"
	"sift/fault"
)

// What a run directory holds.
const (
	configName    = "config.yaml"
	metricsName   = "metrics.jsonl"
	selectionName = "selection.jsonl"
	summaryName   = "summary.json"
	lockName      = ".lock"
	modelDir      = "model"
	modelName     = "model.onnx"
	configJSON    = "config.json"
	certificate   = "certificate.json"
)

// lockRun takes the run directory for this process. The lock goes with the process, so
// a crash leaves nothing to clean up; the file stays.
func lockRun(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, lockName))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, diskError(fault.CannotWrite, dir, err)
	}
	if !ok {
		return nil, fault.New(fault.CannotWrite, "%s: another process is working on this run", dir)
	}
	return lock, nil
}

// checkNew refuses a directory that holds anything.
func checkNew(dir string) error {
	names, err := osDisk{}.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return diskError(fault.CannotWrite, dir, err)
	}
	if slices.Contains(names, configName) {
		return fault.New(fault.CannotWrite, "%s: already a run; continue it with --resume or choose another directory", dir)
	}
	for _, name := range names {
		if name != lockName {
			return fault.New(fault.CannotWrite, "%s: not empty (%s)", dir, name)
		}
	}
	return nil
}

// makeRun creates the directories and the files that are known before training.
func makeRun(d disk, dir string, in *material, dev backend.Device, precision string) error {
	for _, sub := range []string{dir, filepath.Join(dir, checkpointDir), filepath.Join(dir, modelDir)} {
		if err := d.Mkdir(sub); err != nil {
			return diskError(fault.CannotWrite, sub, err)
		}
	}
	for _, f := range in.files {
		if err := writeFile(d, filepath.Join(dir, modelDir, f.name), f.data); err != nil {
			return err
		}
	}
	data, err := huggingFaceConfig(in.model, in.labels)
	if err != nil {
		return err
	}
	if err := writeFile(d, filepath.Join(dir, modelDir, configJSON), data); err != nil {
		return err
	}
	if err := writeDevice(d, dir, dev, precision); err != nil {
		return err
	}
	// Last, because a directory with a configuration is a run.
	if err := writeFile(d, filepath.Join(dir, configName), []byte(in.configText)); err != nil {
		return err
	}
	if err := d.SyncDir(filepath.Dir(dir)); err != nil {
		return diskError(fault.IO, dir, err)
	}
	return nil
}

func writeFile(d disk, path string, data []byte) error {
	return replace(d, path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// readRunConfig reads config.yaml of a run.
func readRunConfig(dir string) (config.Config, error) {
	path := filepath.Join(dir, configName)
	data, err := readAll(osDisk{}, path, 16<<20)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return config.Config{}, fault.New(fault.Missing, "%s: not a run directory: it has no %s", dir, configName)
		}
		return config.Config{}, err
	}
	return parseConfig(path, data)
}

// parseConfig decodes a resolved configuration; path is for errors.
func parseConfig(path string, data []byte) (config.Config, error) {
	c := config.Config{Device: config.Device{CuBLAS: config.Default().Device.CuBLAS}} // of runs older than the key
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		return config.Config{}, fault.New(fault.Data, "%s: %s", path, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return c, nil
}

// checkResume refuses to continue a checkpoint under other conditions, naming the first.
func checkResume(c *checkpoint, in *material, cfg config.Config) error {
	// Of text, ids are hashed: another tokenizer changes those too, so it is looked at before.
	for _, f := range []struct{ key, path, was, is string }{
		{"model.path", cfg.Model.Path, c.Inputs.Model, in.hashes.Model},
		{"model.tokenizer", cfg.Model.Tokenizer, c.Inputs.Tokenizer, in.hashes.Tokenizer},
		{"data.train", cfg.Data.Train.String(), c.Inputs.Train, in.hashes.Train},
		{"data.valid", cfg.Data.Valid.String(), c.Inputs.Valid, in.hashes.Valid},
		{"sift.replay", cfg.Sift.Replay, c.Inputs.Replay, in.hashes.Replay},
	} {
		if f.was != f.is {
			return fault.New(fault.Data, "%s: %s: not the file this run was started with: SHA-256 %s, was %s",
				f.path, f.key, short(f.is), short(f.was))
		}
	}
	if c.Model != in.model {
		return fault.New(fault.Data, "%s: a model of another shape", c.path)
	}
	return nil
}

func short(hash string) string {
	if hash == "" {
		return "none"
	}
	return hash[:min(12, len(hash))]
}

// checkConflicts refuses a changed configuration, naming every changed key.
func checkConflicts(dir string, before, after config.Config) error {
	changes := config.ResumeConflicts(before, after)
	if len(changes) == 0 {
		return nil
	}
	var list []string
	for _, c := range changes {
		list = append(list, fmt.Sprintf("%s is %s, was %s", c.Key, orNone(c.To), orNone(c.From)))
	}
	return fault.New(fault.Config, "%s: cannot resume with another configuration: %s",
		filepath.Join(dir, configName), strings.Join(list, "; "))
}

func orNone(s string) string {
	if s == "" {
		return "not set"
	}
	return s
}

// discardNew removes what a run that never began has written, and the directory if it
// was made for it.
func discardNew(dir string, existed bool) {
	for _, name := range []string{configName, deviceName, metricsName, selectionName, lockName, checkpointDir, modelDir} {
		os.RemoveAll(filepath.Join(dir, name))
	}
	if !existed {
		os.Remove(dir) // fails, as it should, if it holds anything
	}
}
