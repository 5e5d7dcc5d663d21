package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const events = `{"Action":"output","Package":"sift/a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"output","Package":"sift/a","Test":"TestOne","Output":"    a_test.go:7: it is 4, want 5\n"}
{"Action":"fail","Package":"sift/a","Test":"TestOne","Elapsed":0.25}
{"Action":"pass","Package":"sift/a","Test":"TestTwo","Elapsed":0}
{"Action":"output","Package":"sift/a","Test":"TestThree","Output":"    a_test.go:9: no node: is it installed?\n"}
{"Action":"output","Package":"sift/a","Test":"TestThree","Output":"--- SKIP: TestThree (0.00s)\n"}
{"Action":"skip","Package":"sift/a","Test":"TestThree","Elapsed":0}
{"Action":"fail","Package":"sift/a","Elapsed":1}
{"Action":"pass","Package":"sift/b","Test":"TestFour","Elapsed":0}
{"Action":"pass","Package":"sift/b","Elapsed":2}
{"ImportPath":"sift/c","Action":"build-output","Output":"c/c.go:1:1: no such thing\n"}
{"Action":"output","Package":"sift/c","Output":"FAIL\tsift/c [build failed]\n"}
{"Action":"fail","Package":"sift/c","Elapsed":0}
{"Action":"skip","Package":"sift/d","Elapsed":0}
go: a line that is no event
`
	var out bytes.Buffer
	r := &report{out: &out, output: map[string][]string{}, failedIn: map[string]int{}}
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	if want := "passed 2\nfailed 2\nskipped 1\nskip no node: is it installed?: a TestThree\n"; r.summary() != want {
		t.Errorf("summary %q, want %q", r.summary(), want)
	}
	for _, line := range []string{"it is 4, want 5", "FAIL  sift/a", "ok    sift/b", "no such thing", "[build failed]", "a line that is no event"} {
		if strings.Count(out.String(), line) != 1 {
			t.Errorf("%q is not said once in\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), "=== RUN") || strings.Contains(out.String(), "sift/d") {
		t.Errorf("too much said:\n%s", out.String())
	}
}
