package sift

import (
	"io"

	"sift/fault"
)

// Selection is one line of selection.jsonl: a selecting micro-batch.
type Selection struct {
	Update    int        `json:"update"`
	Micro     int        `json:"micro"`
	SampleIDs []uint64   `json:"sample_ids"`
	Scores    []*float64 `json:"scores"` // null where not finite
	Kept      []int      `json:"kept"`   // positions in SampleIDs
}

// Recorder writes Selections, one JSON object a line.
type Recorder struct{ w io.Writer }

// NewRecorder writes to w, one Write a line.
func NewRecorder(w io.Writer) *Recorder { return &Recorder{w: w} }

// Replay is a record read back.
type Replay struct{ lines map[[2]int]Selection }

// ReadReplay reads what a Recorder wrote; name is for errors.
func ReadReplay(r io.Reader, name string) (*Replay, error) {
	return nil, fault.New(fault.Internal, "sift: not written yet")
}
