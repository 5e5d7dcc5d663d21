package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"

	"sift/atomicfile"
	"sift/fault"
	"sift/onnx"
)

// Certificate says what a model was checked against, on which inputs, and how far
// apart the two were. The same files, options and version give the same bytes.
type Certificate struct {
	Tool      string     `json:"tool"`
	Date      string     `json:"date,omitempty"`
	Verdict   string     `json:"verdict"` // "agree" or "differ"
	Model     Artifact   `json:"model"`
	Reference Artifact   `json:"compared_with"`
	Method    string     `json:"method"`
	Tolerance Tolerance  `json:"tolerance"`
	Seed      uint64     `json:"seed"`
	Inputs    []Tried    `json:"inputs"`
	NotTried  []Shape    `json:"not_tried,omitempty"` // beyond the budget of work
	Outputs   []Figures  `json:"outputs"`
	Unchecked []string   `json:"unchecked_outputs,omitempty"` // given by one side only
	Notes     []string   `json:"notes,omitempty"`
	External  []Artifact `json:"external_data,omitempty"`
}

// Artifact is a file, or something without one.
type Artifact struct {
	Kind   string `json:"kind"` // "onnx", "engine" or "data"
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// Tolerance is what an element may differ by: Absolute + Relative times its value.
type Tolerance struct {
	Absolute float64 `json:"absolute"`
	Relative float64 `json:"relative"`
}

// Tried is a batch that both sides ran.
type Tried struct {
	Source string `json:"source"` // "random" or "text"
	Shape
	Tokens int `json:"tokens"` // not masked
}

// Figures are the differences in one output, over all batches.
type Figures struct {
	Name        string  `json:"name"`
	Kind        string  `json:"kind,omitempty"`
	PerToken    bool    `json:"per_token"` // compared where the mask is 1
	Elements    int64   `json:"elements"`
	MaxAbsolute float64 `json:"max_absolute_difference"`
	// MaxRelative is over the elements of magnitude at least the absolute tolerance.
	MaxRelative float64 `json:"max_relative_difference"`
	Outside     int64   `json:"outside_tolerance"`
	NotFinite   int64   `json:"not_finite,omitempty"`
	// Rows whose largest element was compared, and where both sides have the same.
	ArgmaxRows  int64  `json:"argmax_rows,omitempty"`
	ArgmaxAgree int64  `json:"argmax_agree,omitempty"`
	Worst       string `json:"worst,omitempty"` // where the tolerance is exceeded most
}

// Agrees reports the verdict.
func (c *Certificate) Agrees() bool { return c.Verdict == agree }

const (
	agree  = "agree"
	differ = "differ"
)

// Err is nil if the two agree, and otherwise an error of kind fault.Answer that names
// the first output that does not.
func (c *Certificate) Err() error {
	for _, o := range c.Outputs {
		if o.NotFinite > 0 && o.Outside > 0 {
			return fault.New(fault.Answer, "%s: output %s: %d of %d elements are not finite (%s)",
				c.Model.Name, o.Name, o.NotFinite, o.Elements, o.Worst)
		}
		if o.Outside > 0 {
			return fault.New(fault.Answer, "%s: output %s: %d of %d elements differ by more than %g + %g of the value, at most by %g (%s)",
				c.Model.Name, o.Name, o.Outside, o.Elements, c.Tolerance.Absolute, c.Tolerance.Relative, o.MaxAbsolute, o.Worst)
		}
	}
	if !c.Agrees() {
		return fault.New(fault.Answer, "%s: does not agree with %s", c.Model.Name, c.Reference.Name)
	}
	return nil
}

// Write writes the certificate as JSON; path shows the whole of it or nothing.
func Write(path string, c *Certificate) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	return atomicfile.AtomicWrite(path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

// artifact hashes a file, up to limit bytes where limit is not negative.
func artifact(ctx context.Context, kind, path string, limit int64) (Artifact, error) {
	f, err := os.Open(path)
	if err != nil {
		return Artifact{}, fault.New(fault.Missing, "%s: %v", path, err)
	}
	defer f.Close()
	h := sha256.New()
	var in io.Reader = readerUntil{ctx, f}
	if limit >= 0 {
		in = io.LimitReader(in, limit)
	}
	n, err := io.Copy(h, in)
	if ctx.Err() != nil {
		return Artifact{}, ctx.Err()
	}
	if err != nil {
		return Artifact{}, fault.New(fault.IO, "%s: %v", path, err)
	}
	return Artifact{Kind: kind, Name: filepath.Base(path), Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// readerUntil stops reading when its context ends.
type readerUntil struct {
	ctx context.Context
	io.Reader
}

func (r readerUntil) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// externalData hashes the files that a model keeps weights in, which the file layer
// has checked to be inside the model's directory: each up to the last byte that the
// model refers to, whatever else the file holds.
func externalData(ctx context.Context, f *onnx.File) ([]Artifact, error) {
	locations, end := []string{}, map[string]int64{}
	for _, t := range f.Initializers {
		if t.External == nil {
			continue
		}
		l := t.External.Location
		if !slices.Contains(locations, l) {
			locations = append(locations, l)
		}
		end[l] = max(end[l], t.External.Offset+max(t.External.Length, t.Bytes()))
	}
	slices.Sort(locations)
	list := []Artifact{}
	for _, l := range locations {
		a, err := artifact(ctx, "data", filepath.Join(filepath.Dir(f.Path), l), end[l])
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}
