package sifting

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"

	"sift/fault"
)

// Selection is one line of selection.jsonl: a selecting micro-batch.
type Selection struct {
	Order     string     `json:"order,omitempty"` // Options.Order of the run that recorded
	Update    int        `json:"update"`          // from 1, as for people and in metrics
	Micro     int        `json:"micro"`
	SampleIDs []uint64   `json:"sample_ids"`
	Scores    []*float64 `json:"scores"` // null where not finite
	Kept      []int      `json:"kept"`   // positions in SampleIDs, ascending
}

// Recorder writes Selections, one JSON object a line.
type Recorder struct {
	w    io.Writer
	line []byte
}

// NewRecorder writes to w, one Write a line.
func NewRecorder(w io.Writer) *Recorder { return &Recorder{w: w} }

// write appends one line. It is written out by hand so that it reuses its memory.
func (r *Recorder) write(order string, update, micro int, ids []uint64, scores []float64, kept []int) error {
	b := append(r.line[:0], '{')
	if order != "" {
		b = append(strconv.AppendQuote(append(b, `"order":`...), order), ',')
	}
	b = append(b, `"update":`...)
	b = strconv.AppendInt(b, int64(update)+1, 10)
	b = append(b, `,"micro":`...)
	b = strconv.AppendInt(b, int64(micro), 10)
	b = append(b, `,"sample_ids":[`...)
	for i, id := range ids {
		b = strconv.AppendUint(comma(b, i), id, 10)
	}
	b = append(b, `],"scores":[`...)
	for i, v := range scores {
		b = comma(b, i)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, v, 'g', -1, 64)
		}
	}
	b = append(b, `],"kept":[`...)
	for i, k := range kept {
		b = strconv.AppendInt(comma(b, i), int64(k), 10)
	}
	r.line = append(b, "]}\n"...)
	if _, err := r.w.Write(r.line); err != nil {
		return fault.New(fault.IO, "selection record: %w", err)
	}
	return nil
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// Replay is a record read back: whom each selecting micro-batch kept.
type Replay struct {
	name  string
	lines map[[2]int]Selection // by update, from 0, and micro-batch
}

// ReadReplay reads what a Recorder wrote; name is for errors. A line may occur again
// unchanged, as where a run was resumed before the end of its record.
func ReadReplay(r io.Reader, name string) (*Replay, error) {
	p := &Replay{name: name, lines: map[[2]int]Selection{}}
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fault.New(fault.Missing, "%s: line %d: %w", name, n, err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if cause := p.add(line); cause != "" {
				return nil, fault.New(fault.Data, "%s: line %d: %s", name, n, cause)
			}
		}
		if err != nil {
			break
		}
	}
	if len(p.lines) == 0 {
		return nil, fault.New(fault.Data, "%s: no selections", name)
	}
	return p, nil
}

// add takes one line and returns what is wrong with it, if anything.
func (p *Replay) add(line []byte) string {
	var s Selection
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return err.Error()
	}
	if d.More() {
		return "more than one selection"
	}
	if s.Update < 1 || s.Micro < 0 || len(s.Kept) == 0 {
		return "not a selection of a micro-batch"
	}
	last := -1
	for _, k := range s.Kept {
		if k <= last || k >= len(s.SampleIDs) {
			return "kept positions do not ascend within the sequences"
		}
		last = k
	}
	key := [2]int{s.Update - 1, s.Micro}
	if old, ok := p.lines[key]; ok && (!slices.Equal(old.SampleIDs, s.SampleIDs) || !slices.Equal(old.Kept, s.Kept)) {
		return "update " + strconv.Itoa(s.Update) + " was recorded before with another selection"
	}
	p.lines[key] = s
	return ""
}

// Check returns an error of kind fault.Data if the record is of another order of samples,
// whose ids would name other sequences here.
func (p *Replay) Check(order string) error {
	for _, s := range p.lines {
		if s.Order != "" && order != "" && s.Order != order {
			return fault.New(fault.Data, "%s: recorded with another seed or other training data", p.name)
		}
	}
	return nil
}

// Covers reports whether a micro-batch of an update, both from 0, is recorded.
func (p *Replay) Covers(update, micro int) bool {
	_, ok := p.lines[[2]int{update, micro}]
	return ok
}

// kept appends to dst whom a micro-batch kept, if the record is about these sequences.
func (p *Replay) kept(update, micro int, ids []uint64, dst []int) ([]int, error) {
	s, ok := p.lines[[2]int{update, micro}]
	if !ok {
		return dst, fault.New(fault.Data, "%s: update %d, micro-batch %d: not recorded", p.name, update+1, micro)
	}
	if !slices.Equal(s.SampleIDs, ids) {
		return dst, fault.New(fault.Data, "%s: update %d, micro-batch %d: recorded for other sequences than this run draws", p.name, update+1, micro)
	}
	return append(dst, s.Kept...), nil
}
