package onnx

import (
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sift/fault"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// longestShown bounds what a message quotes of a name.
const longestShown = 100

// quote shows a name from a file in a message: in quotes, on one line, not too long.
func quote(name string) string { return `"` + printable(name) + `"` }

// printable escapes what could break a line or a terminal, and shortens what is long.
func printable(name string) string {
	cut := ""
	if len(name) > longestShown {
		n := longestShown
		for n > 0 && !utf8.RuneStart(name[n]) {
			n--
		}
		cut = "... (" + itoa(int64(len(name))) + " bytes)"
		name = name[:n]
	}
	clean := true
	for _, r := range name {
		if r == utf8.RuneError || r == '"' || !unicode.IsPrint(r) {
			clean = false
			break
		}
	}
	if clean {
		return name + cut
	}
	q := strconv.Quote(name)
	return q[1:len(q)-1] + cut
}

// inFile puts the file before an error.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		path = strconv.Quote(path)
	}
	return fault.In(path, err)
}

// osReason drops the operation and path from an error of package os: the message has them.
func osReason(err error) error {
	switch e := err.(type) {
	case *os.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	case *os.SyscallError:
		return e.Err
	}
	return err
}

// dims shows dimensions as [2,3].
func dimsString(dims []int64) string {
	parts := make([]string, 0, len(dims))
	for i, d := range dims {
		if i == 16 {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, itoa(d))
	}
	return "[" + strings.Join(parts, ",") + "]"
}
