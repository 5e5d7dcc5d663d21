package text

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"sift/fault"
)

// Labels maps label names to ids 0, 1, ... and back.
type Labels struct {
	Names []string // by id

	ids map[string]int
}

// NewLabels keeps names in the order given, as a run recorded them.
func NewLabels(names []string) (*Labels, error) {
	l := &Labels{Names: slices.Clone(names), ids: make(map[string]int, len(names))}
	for i, name := range names {
		if _, ok := l.ids[name]; ok || name == "" {
			return nil, fault.New(fault.Data, "labels: %s comes twice or is empty", show(name))
		}
		l.ids[name] = i
	}
	if len(names) == 0 {
		return nil, fault.New(fault.Data, "labels: there are none")
	}
	return l, nil
}

// Len returns the number of labels.
func (l *Labels) Len() int { return len(l.Names) }

// ID returns the id of a name.
func (l *Labels) ID(name string) (int, bool) {
	id, ok := l.ids[name]
	return id, ok
}

// sortLabels orders names by their number if all are numbers, else by their bytes. Two
// spellings of one number are refused: they would be two classes.
func sortLabels(names []string) error {
	slices.Sort(names)
	values := make(map[string]float64, len(names))
	for _, name := range names {
		v, ok := number(name)
		if !ok {
			return nil
		}
		values[name] = v
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(values[a], values[b]) })
	for i := 1; i < len(names); i++ {
		if values[names[i]] == values[names[i-1]] {
			return fault.New(fault.Data, "labels %s and %s are the same number", show(names[i-1]), show(names[i]))
		}
	}
	return nil
}

// number parses a decimal number; names such as inf and 0x10 are not numbers.
func number(s string) (float64, bool) {
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

// list shows a few names.
func (l *Labels) list() string {
	var shown []string
	for i, name := range l.Names {
		if i == 8 {
			shown = append(shown, "...")
			break
		}
		shown = append(shown, show(name))
	}
	return strings.Join(shown, ", ")
}
