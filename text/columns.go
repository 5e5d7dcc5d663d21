package text

import (
	"slices"
	"strconv"
	"strings"

	"sift/fault"
)

// headerWords are cells that a first row has only if it is a header.
var headerWords = []string{"text", "sentence", "sentence1", "label"}

// name says which column was asked for: text_column 2, label_column "label".
func (c column) name() string {
	if isNumber(c.asked) {
		return c.key + " " + c.asked
	}
	return c.key + " " + strconv.Quote(c.asked) + " (" + strconv.Itoa(c.index+1) + ")"
}

// isNumber says whether a column is asked for by number.
func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// named returns a column that is asked for by name, "" if there is none.
func (c Columns) named() string {
	for _, s := range []string{c.Text, c.Pair, c.Label} {
		if s != "" && !isNumber(s) {
			return s
		}
	}
	return ""
}

// resolve finds the columns and decides whether the first row is a header.
func (c Columns) resolve(rows []row) (text, pair, label column, header bool, err error) {
	text = column{key: "text_column", asked: c.Text}
	pair = column{key: "text_pair_column", asked: c.Pair}
	label = column{key: "label_column", asked: c.Label}
	if c.Text == "" {
		return text, pair, label, false, fault.New(fault.Config, "text_column: is not set")
	}
	if !slices.Contains([]string{"", "auto", "yes", "no"}, c.Header) {
		return text, pair, label, false, fault.New(fault.Config, "header: is %q, not auto, yes or no", c.Header)
	}
	if name := c.named(); name != "" && c.Header == "no" {
		return text, pair, label, false, fault.New(fault.Config, "column %q is asked for by name, of a file without header", name)
	}
	for _, col := range []*column{&text, &pair, &label} {
		if err = col.find(rows[0]); err != nil {
			return text, pair, label, false, err
		}
	}
	if label.index >= 0 && (label.index == text.index || label.index == pair.index) {
		return text, pair, label, false, fault.New(fault.Config, "%s is a text column too", label.name())
	}
	switch {
	case c.named() != "" || c.Header == "yes":
		header = true
	case c.Header != "no":
		header = looksLikeHeader(rows, text.index, label.index)
	}
	return text, pair, label, header, nil
}

// find sets the index of the column, by number or by its name in the header.
func (c *column) find(header row) error {
	c.index = -1
	switch {
	case c.asked == "":
	case isNumber(c.asked):
		n, err := strconv.Atoi(c.asked)
		if err != nil || n < 1 {
			return fault.New(fault.Config, "%s: is %s, columns count from 1", c.key, c.asked)
		}
		c.index = n - 1
	default:
		i := 0
		for cell := range strings.SplitSeq(header.text, "\t") {
			if strings.TrimSpace(cell) == c.asked {
				if c.index >= 0 {
					return fault.New(fault.Data, "line %d: two columns are called %q", header.line, c.asked)
				}
				c.index = i
			}
			i++
		}
		if c.index < 0 {
			return fault.New(fault.Data, "line %d: has no column %q for %s: %s", header.line, c.asked, c.key, show(header.text))
		}
	}
	return nil
}

// looksLikeHeader applies the rule for numbered columns that Columns states.
func looksLikeHeader(rows []row, text, label int) bool {
	cell := func(r row, i int) string {
		s, _ := r.cell(i)
		return strings.TrimSpace(s)
	}
	for _, i := range []int{text, label} {
		if slices.Contains(headerWords, strings.ToLower(cell(rows[0], i))) {
			return true
		}
	}
	if _, ok := number(cell(rows[0], label)); ok || label < 0 || len(rows) < 2 {
		return false
	}
	for _, r := range rows[1:] {
		if _, ok := number(cell(r, label)); !ok {
			return false
		}
	}
	return true
}
