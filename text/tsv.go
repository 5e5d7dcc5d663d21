package text

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sift/fault"
)

// Columns says which cells of a TSV row are read. Each is the name of a header cell, or
// a number from 1 if it has only digits; an empty Pair or Label means that there is none.
//
// Header is "yes", "no" or "auto", and "" is auto: the first row is a header if a column
// is named; if the label cell is not a number in the first row but is one in all others;
// or if its text or label cell reads text, sentence, sentence1 or label.
type Columns struct {
	Text, Pair, Label string
	Header            string
}

// Example is one row. Label is -1 where no label column was asked for.
type Example struct {
	A, B  string
	Label int32
	Line  int // from 1
}

// Dataset is a TSV file read whole.
type Dataset struct {
	Path     string
	Hash     string // SHA-256 of the file's bytes, in hex
	Examples []Example
	Labels   *Labels  // nil without a label column
	Pairs    bool     // there is a pair column
	Notes    []string // "FILE: ...", what was assumed or mended on reading, for the user to see
}

// note adds to d.Notes.
func (d *Dataset) note(format string, args ...any) {
	d.Notes = append(d.Notes, d.Path+": "+fmt.Sprintf(format, args...))
}

// Counts returns how many examples carry each label.
func (d *Dataset) Counts() []int {
	if d.Labels == nil {
		return nil
	}
	counts := make([]int, d.Labels.Len())
	for i := range d.Examples {
		counts[d.Examples[i].Label]++
	}
	return counts
}

// column is one of Columns, resolved.
type column struct {
	key   string // of the configuration, for messages
	asked string
	index int // from 0, -1: absent
}

// row is a line that is not blank. Its cells are cut out when asked for: a line may
// consist of tabs.
type row struct {
	line int // from 1
	text string
}

// cell returns cell i, from 0, and whether there is one.
func (r row) cell(i int) (string, bool) {
	if i < 0 {
		return "", false
	}
	s := r.text
	for ; i > 0; i-- {
		_, rest, found := strings.Cut(s, "\t")
		if !found {
			return "", false
		}
		s = rest
	}
	s, _, _ = strings.Cut(s, "\t")
	return s, true
}

// ReadTSV reads a file of lines that end in LF or CRLF, cut into cells at each tab. As in
// the files of GLUE a quote is a character like any other. Blank lines are skipped, a
// byte order mark is ignored, bytes that are not UTF-8 become U+FFFD, NUL is kept (and
// dropped by the tokenizer), the last line may lack its end, and a line may have any
// length. Cells beyond those asked for are not looked at. White space around a label
// does not count.
//
// With labels nil the labels are gathered from the file: in ascending order if all are
// numbers, else sorted by bytes. Otherwise every label must be among those given.
func ReadTSV(path string, columns Columns, labels *Labels) (*Dataset, error) {
	content, hash, err := readFile(path, 0)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(content, "\xff\xfe") || strings.HasPrefix(content, "\xfe\xff") {
		return nil, fault.New(fault.Data, "%s: is UTF-16; write it as UTF-8", path)
	}
	content = strings.TrimPrefix(content, bom)
	if content == "" {
		return nil, fault.New(fault.Data, "%s: is empty", path)
	}
	d := &Dataset{Path: path, Hash: hash, Pairs: columns.Pair != ""}
	rows := d.split(content)
	if len(rows) == 0 {
		return nil, fault.New(fault.Data, "%s: has only blank lines", path)
	}
	text, pair, label, header, err := columns.resolve(rows)
	if err != nil {
		return nil, fault.In(path, err)
	}
	if header {
		if columns.named() == "" && columns.Header != "yes" {
			d.note("line %d was taken for a header", rows[0].line)
		}
		rows = rows[1:]
	}
	if len(rows) == 0 {
		return nil, fault.New(fault.Data, "%s: has a header and no rows", path)
	}

	empty := 0
	names := make([]string, 0, len(rows))
	d.Examples = make([]Example, len(rows))
	for i, r := range rows {
		e := Example{Label: -1, Line: r.line}
		name := ""
		for _, c := range []struct {
			column
			to *string
		}{{text, &e.A}, {pair, &e.B}, {label, &name}} {
			if c.index < 0 {
				continue
			}
			var ok bool
			if *c.to, ok = r.cell(c.index); !ok {
				has := plural(strings.Count(r.text, "\t")+1, "column")
				return nil, fault.New(fault.Data, "%s: line %d: has %s, %s asked", path, r.line, has, c.name())
			}
		}
		if strings.TrimSpace(e.A) == "" && strings.TrimSpace(e.B) == "" {
			empty++
		}
		if label.index >= 0 {
			if name = strings.TrimSpace(name); name == "" {
				return nil, fault.New(fault.Data, "%s: line %d: the label is empty", path, r.line)
			}
			names = append(names, name)
		}
		d.Examples[i] = e
	}
	if empty > 0 {
		d.note("%s with an empty text", plural(empty, "row"))
	}
	if label.index >= 0 {
		if err := d.label(names, labels); err != nil {
			return nil, fault.In(path, err)
		}
	}
	return d, nil
}

// split cuts the content into rows that are not blank.
func (d *Dataset) split(content string) []row {
	rows := make([]row, 0, strings.Count(content, "\n")+1)
	line, invalid := 0, 0
	for s := range strings.Lines(content) {
		line++
		s = strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
		if strings.Trim(s, " \t") == "" {
			continue
		}
		if !utf8.ValidString(s) {
			s = strings.ToValidUTF8(s, "\ufffd")
			invalid++
		}
		rows = append(rows, row{line, s})
	}
	if invalid > 0 {
		d.note("%s with bytes that are not UTF-8, read as U+FFFD", plural(invalid, "row"))
	}
	return rows
}

// label gives every example the id of its name.
func (d *Dataset) label(names []string, labels *Labels) error {
	if labels == nil {
		seen := make(map[string]bool)
		var distinct []string
		for _, name := range names {
			if !seen[name] {
				seen[name] = true
				distinct = append(distinct, name)
			}
		}
		if len(distinct) > 1000 && len(distinct) > len(names)/2 {
			return fault.New(fault.Data, "%d rows have %d distinct labels: is label_column right?", len(names), len(distinct))
		}
		if err := sortLabels(distinct); err != nil {
			return err
		}
		var err error
		if labels, err = NewLabels(distinct); err != nil {
			return err
		}
	}
	d.Labels = labels
	for i, name := range names {
		id, ok := labels.ID(name)
		if !ok {
			return fault.New(fault.Data, "line %d: label %s is not among %s", d.Examples[i].Line, show(name), labels.list())
		}
		d.Examples[i].Label = int32(id)
	}
	return nil
}

// plural writes "1 row", "2 rows".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
