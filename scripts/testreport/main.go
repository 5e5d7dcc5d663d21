// Command testreport reads what `go test -json` prints and says what a person wants to
// know: a line for each package, the output of each test that failed, and in a summary
// file how many passed and failed and why tests were skipped.
//
//	go test -json ./... | go run ./scripts/testreport -summary FILE
//
// The summary's lines are "passed N", "failed N", "skipped N", and for each skipped test
// "skip REASON: TEST". The exit code is 1 if anything failed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json, see `go doc cmd/test2json`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// report is what was read so far.
type report struct {
	out                     io.Writer
	output                  map[string][]string // by package and test, until the test ends
	failedIn                map[string]int      // tests, by package
	passed, failed, skipped int
	skips                   []string
}

func main() {
	summary := flag.String("summary", "", "write counts and skips to `FILE`")
	flag.Parse()
	r := &report{out: os.Stdout, output: map[string][]string{}, failedIn: map[string]int{}}
	err := r.read(os.Stdin)
	if err == nil && *summary != "" {
		err = os.WriteFile(*summary, []byte(r.summary()), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || r.failed > 0 {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line) // what the go command itself has to say
			} else {
				r.add(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e, r.output[key])
		} else {
			r.endTest(e, r.output[key])
		}
		delete(r.output, key)
	}
}

// shown is how many lines of a failed test's output are printed.
const shown = 100

func (r *report) endTest(e event, output []string) {
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips = append(r.skips, reason(output)+": "+strings.TrimPrefix(e.Package, "sift/")+" "+e.Test)
	case "fail":
		r.failed++
		r.failedIn[e.Package]++
		fmt.Fprintf(r.out, "--- FAIL: %s %s (%.2fs)\n", e.Package, e.Test, e.Elapsed)
		r.print(output)
	}
}

func (r *report) print(output []string) {
	for i, line := range output {
		if i == shown {
			fmt.Fprintf(r.out, "    ... and %d more lines\n", len(output)-i)
			break
		}
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(r.out, line)
		}
	}
}

func (r *report) endPackage(e event, output []string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok    %-28s %6.1fs\n", e.Package, e.Elapsed)
	case "fail":
		if r.failedIn[e.Package] == 0 { // it did not build, or ended outside a test
			r.failed++
			r.print(output)
		}
		fmt.Fprintf(r.out, "FAIL  %-28s %6.1fs\n", e.Package, e.Elapsed)
	}
}

var place = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason finds why a test was skipped: the last thing it said.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		if at := place.FindString(line); at != "" {
			return strings.TrimSpace(line[len(at):])
		}
	}
	return "no reason given"
}

func (r *report) summary() string {
	slices.Sort(r.skips)
	s := fmt.Sprintf("passed %d\nfailed %d\nskipped %d\n", r.passed, r.failed, r.skipped)
	for _, skip := range r.skips {
		s += "skip " + skip + "\n"
	}
	return s
}
