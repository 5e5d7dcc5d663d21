package text

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sift/fault"
)

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// rowsOf writes examples as "line:A|B=label".
func rowsOf(d *Dataset) string {
	var out []string
	for _, e := range d.Examples {
		out = append(out, fmt.Sprintf("%d:%s|%s=%d", e.Line, e.A, e.B, e.Label))
	}
	return strings.Join(out, " ")
}

func TestReadTSV(t *testing.T) {
	numbered := Columns{Text: "1", Label: "2"}
	for _, c := range []struct {
		name, content string
		columns       Columns
		rows, labels  string
		notes         int
	}{
		{"plain", "a\t1\nb\t0\n", numbered, "1:a|=1 2:b|=0", "0 1", 0},
		{"no final newline", "a\t1\nb\t0", numbered, "1:a|=1 2:b|=0", "0 1", 0},
		{"CRLF and BOM", "\ufeffa\t1\r\nb\t0\r\n", numbered, "1:a|=1 2:b|=0", "0 1", 0},
		{"blank lines keep the numbering", "\n\na\t1\n \t \n\nb\t0\n\n", numbered, "3:a|=1 6:b|=0", "0 1", 0},
		{"named", "label\tother\tsentence\n1\tx\ta\n0\ty\tb\n", Columns{Text: "sentence", Label: "label"}, "2:a|=1 3:b|=0", "0 1", 0},
		{"named and numbered", "label\tsentence\nx\ta\n", Columns{Text: "2", Label: "label"}, "2:a|=0", "x", 0},
		{"header seen by its numbers", "review\tscore\na\t1\nb\t0\n", numbered, "2:a|=1 3:b|=0", "0 1", 1},
		{"header seen by its words", "review\tLabel\na\tpos\nb\tneg\n", numbered, "2:a|=1 3:b|=0", "neg pos", 1},
		{"header seen without labels", "sentence\tx\na\tpos\n", Columns{Text: "1"}, "2:a|=-1", "", 1},
		{"no header asked", "review\tscore\na\t1\n", Columns{Text: "1", Label: "2", Header: "no"}, "1:review|=1 2:a|=0", "1 score", 0},
		{"header asked", "review\tscore\na\tx\n", Columns{Text: "1", Label: "2", Header: "yes"}, "2:a|=0", "x", 0},
		{"words as labels are no header", "a\tpos\nb\tneg\nc\tpos\n", numbered, "1:a|=1 2:b|=0 3:c|=1", "neg pos", 0},
		{"numbers in order of value", "a\t10\nb\t9\nc\t-1.5\n", numbered, "1:a|=2 2:b|=1 3:c|=0", "-1.5 9 10", 0},
		{"a name among numbers", "a\t10\nb\t9\nc\tx\nd\t9\n", numbered, "1:a|=0 2:b|=1 3:c|=2 4:d|=1", "10 9 x", 0},
		{"pair", "1\ta\tb\n0\tc\t\n", Columns{Text: "2", Pair: "3", Label: "1"}, "1:a|b=1 2:c|=0", "0 1", 0},
		{"quotes are text", "\"a\t1\nb\"\t0\n", numbered, "1:\"a|=1 2:b\"|=0", "0 1", 0},
		{"NUL and invalid bytes", "a\x00\xff\xfeb\t1\nc\t0\n", numbered, "1:a\x00\ufffdb|=1 2:c|=0", "0 1", 1},
		{"space around labels", "a\t 1\nb\t0 \n", numbered, "1:a|=1 2:b|=0", "0 1", 0},
		{"empty text", "\t1\nb\t0\n", numbered, "1:|=1 2:b|=0", "0 1", 1},
		{"more columns than asked", "a\t1\tx\ty\nb\t0\n", numbered, "1:a|=1 2:b|=0", "0 1", 0},
		{"lone CR is text", "a\rb\t1\nc\t0\n", numbered, "1:a\rb|=1 2:c|=0", "0 1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := ReadTSV(write(t, "d.tsv", c.content), c.columns, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := rowsOf(d); got != c.rows {
				t.Errorf("rows %q, want %q", got, c.rows)
			}
			if (c.columns.Label == "") != (d.Labels == nil) {
				t.Fatalf("labels %v", d.Labels)
			}
			if d.Labels != nil {
				if got := strings.Join(d.Labels.Names, " "); got != c.labels {
					t.Errorf("labels %q, want %q", got, c.labels)
				}
				total := 0
				for _, n := range d.Counts() {
					total += n
				}
				if total != len(d.Examples) {
					t.Errorf("counts %v of %d", d.Counts(), len(d.Examples))
				}
			}
			if len(d.Notes) != c.notes {
				t.Errorf("notes %q, want %d", d.Notes, c.notes)
			}
			for _, note := range d.Notes {
				if !strings.HasPrefix(note, d.Path+": ") {
					t.Errorf("note %q", note)
				}
			}
		})
	}
}

func TestReadTSVErrors(t *testing.T) {
	numbered := Columns{Text: "1", Label: "2"}
	yesNo, err := NewLabels([]string{"yes", "no"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		content string
		columns Columns
		labels  *Labels
		kind    fault.Kind
		want    string // FILE stands for the path
	}{
		{"", numbered, nil, fault.Data, "FILE: is empty"},
		{"\ufeff", numbered, nil, fault.Data, "FILE: is empty"},
		{"\n \n\t\n", numbered, nil, fault.Data, "FILE: has only blank lines"},
		{"a\nb\n", Columns{Text: "2"}, nil, fault.Data, "FILE: line 1: has 1 column, text_column 2 asked"},
		{"a\tx\nb\n", numbered, nil, fault.Data, "FILE: line 2: has 1 column, label_column 2 asked"},
		{"s\tl\nb\n", Columns{Text: "s", Label: "l"}, nil, fault.Data, `FILE: line 2: has 1 column, label_column "l" (2) asked`},
		{"s\tl\n", Columns{Text: "s", Label: "l"}, nil, fault.Data, "FILE: has a header and no rows"},
		{"s\tl\nb\t1\n", Columns{Text: "text", Label: "l"}, nil, fault.Data, `FILE: line 1: has no column "text" for text_column: "s\tl"`},
		{"s\ts\nb\t1\n", Columns{Text: "s"}, nil, fault.Data, `FILE: line 1: two columns are called "s"`},
		{"a\t\n", numbered, nil, fault.Data, "FILE: line 1: the label is empty"},
		{"a\tyes\nb\tmaybe\n", numbered, yesNo, fault.Data, `FILE: line 2: label "maybe" is not among "yes", "no"`},
		{"a\t1\nb\t1.0\n", numbered, nil, fault.Data, `FILE: labels "1" and "1.0" are the same number`},
		{"\xff\xfea\x00", numbered, nil, fault.Data, "FILE: is UTF-16; write it as UTF-8"},
		{"a\t1\n", Columns{Label: "2"}, nil, fault.Config, "FILE: text_column: is not set"},
		{"a\t1\n", Columns{Text: "0"}, nil, fault.Config, "FILE: text_column: is 0, columns count from 1"},
		{"a\t1\n", Columns{Text: "99999999999999999999"}, nil, fault.Config, "FILE: text_column: is 99999999999999999999, columns count from 1"},
		{"a\t1\n", Columns{Text: "2", Label: "2"}, nil, fault.Config, "FILE: label_column 2 is a text column too"},
		{"a\t1\n", Columns{Text: "a", Header: "no"}, nil, fault.Config, `FILE: column "a" is asked for by name, of a file without header`},
		{"a\t1\n", Columns{Text: "1", Header: "maybe"}, nil, fault.Config, `FILE: header: is "maybe", not auto, yes or no`},
	} {
		path := write(t, "d.tsv", c.content)
		_, err := ReadTSV(path, c.columns, c.labels)
		if err == nil {
			t.Errorf("%q %v: no error, want %s", c.content, c.columns, c.want)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), path, "FILE"); got != c.want || fault.KindOf(err) != c.kind {
			t.Errorf("%q %v: error %d %q, want %d %q", c.content, c.columns, fault.KindOf(err), got, c.kind, c.want)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), os.DevNull} {
		if _, err := ReadTSV(path, numbered, nil); fault.KindOf(err) != fault.Missing {
			t.Errorf("%s: %v", path, err)
		}
	}
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, "%d\tsentence number %d\n", i%2, i)
	}
	if _, err := ReadTSV(write(t, "swapped.tsv", many.String()), numbered, nil); err == nil || !strings.Contains(err.Error(), "is label_column right?") {
		t.Errorf("swapped columns: %v", err)
	}
}

func TestReadTSVGivenLabels(t *testing.T) {
	path := write(t, "d.tsv", "a\tno\nb\tno\n")
	labels, err := NewLabels([]string{"yes", "no"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ReadTSV(path, Columns{Text: "1", Label: "2"}, labels)
	if err != nil || rowsOf(d) != "1:a|=1 2:b|=1" || d.Labels != labels || !slices.Equal(d.Counts(), []int{0, 2}) {
		t.Fatal(d, err)
	}
	if d.Hash != "61ed3dc8471ea2c276cbc98e5ae6ae991a8e921611a6cb2afcdfe4989e32d732" {
		t.Error(d.Hash)
	}
	for _, names := range [][]string{nil, {"a", "a"}, {""}} {
		if _, err := NewLabels(names); fault.KindOf(err) != fault.Data {
			t.Errorf("%q: %v", names, err)
		}
	}
}

// A line of 64 MB is one example, or one row too short, and takes no time to speak of.
func TestLongLine(t *testing.T) {
	long := strings.Repeat("lorem ipsum ", 64<<20/12)
	d, err := ReadTSV(write(t, "d.tsv", long+"\t1\nb\t0"), Columns{Text: "1", Label: "2"}, nil)
	if err != nil || len(d.Examples) != 2 || d.Examples[0].A != long {
		t.Fatal(err)
	}
	tok := load(t)
	e := tok.EncodeAll(d, 128, 2)
	if got := e.Sequence(0); len(got.IDs) != 128 || e.Truncated != 1 {
		t.Error(len(got.IDs), e.Truncated)
	}
	tabs := strings.Repeat("\t", 32<<20) + "x"
	if _, err := ReadTSV(write(t, "d.tsv", tabs), Columns{Text: "99999999", Label: "2"}, nil); err == nil || !strings.Contains(err.Error(), "has 33554433 columns") {
		t.Error(err)
	}
}

func FuzzReadTSV(f *testing.F) {
	f.Add([]byte("sentence\tlabel\na\t1\nb\t0\n"), "sentence", "", "label")
	f.Add([]byte("\ufeffa\tb\tc\r\n\r\n\xff\x00\t\t\"x"), "1", "2", "3")
	f.Add([]byte("a\n"), "2", "", "")
	f.Fuzz(func(t *testing.T, content []byte, text, pair, label string) {
		path := filepath.Join(t.TempDir(), "f.tsv")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		columns := Columns{Text: text, Pair: pair, Label: label}
		d, err := ReadTSV(path, columns, nil)
		if err != nil {
			if !strings.HasPrefix(err.Error(), path+": ") || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("error %q", err)
			}
			return
		}
		again, err := ReadTSV(path, columns, d.Labels)
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("read again: %v", err)
		}
		if len(d.Examples) == 0 {
			t.Fatal("no examples and no error")
		}
		line := 0
		for _, e := range d.Examples {
			if e.Line <= line {
				t.Fatalf("line %d after %d", e.Line, line)
			}
			line = e.Line
			if (label == "") != (e.Label == -1) || d.Labels != nil && int(e.Label) >= d.Labels.Len() {
				t.Fatalf("label %d", e.Label)
			}
			if strings.ContainsAny(e.A+e.B, "\t\n") || pair == "" && e.B != "" {
				t.Fatalf("cells %q %q", e.A, e.B)
			}
		}
	})
}
