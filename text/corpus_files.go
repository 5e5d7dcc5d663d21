package text

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sift/fault"
)

// FindCorpus returns the text files that paths stand for: a file stands for itself, a
// directory for all files below it whose names end in .txt, in the order of their names.
// Names that begin with a dot are passed over, and a file that comes twice is read once.
//
// A path given may be a symbolic link. Below a directory, links to directories and links,
// pipes and devices named .txt are refused: a link may lead anywhere, round in circles
// too, and a pipe may never end.
func FindCorpus(paths []string) ([]string, error) {
	var files []string
	seen := make(map[string]bool)
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fault.New(fault.Missing, "%s: %v", path, cause(err))
		}
		found := []string{path}
		switch {
		case info.IsDir():
			if found, err = findBelow(nil, path); err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, fault.New(fault.Data, "%s: has no .txt file", path)
			}
		case !info.Mode().IsRegular():
			return nil, fault.New(fault.Missing, "%s: is not a regular file", path)
		}
		for _, file := range found {
			if clean := filepath.Clean(file); !seen[clean] {
				seen[clean] = true
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// findBelow appends the text files below a directory.
func findBelow(files []string, dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, fault.New(fault.Missing, "%s: %v", dir, cause(err))
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		named := strings.EqualFold(filepath.Ext(e.Name()), ".txt")
		link := e.Type()&fs.ModeSymlink != 0
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			if files, err = findBelow(files, path); err != nil {
				return nil, err
			}
		case link && (named || isDir(path)):
			return nil, fault.New(fault.Data, "%s: is a symbolic link, which is not followed below a directory", path)
		case named && !e.Type().IsRegular():
			return nil, fault.New(fault.Missing, "%s: is not a regular file", path)
		case named:
			files = append(files, path)
		}
	}
	return files, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// openText opens a regular file without ever waiting for a pipe's other end.
func openText(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		return f, nil
	}
	f.Close()
	if err != nil {
		return nil, fault.New(fault.Missing, "%s: %v", path, cause(err))
	}
	if info.IsDir() {
		return nil, fault.New(fault.Missing, "%s: is a directory", path)
	}
	return nil, fault.New(fault.Missing, "%s: is not a regular file", path)
}
