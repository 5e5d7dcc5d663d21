package text

// Columns says which cells of a TSV row are read. Each is the name of a header cell or
// a number from 1; an empty Pair or Label means that there is none. Header is "auto"
// (or ""), "yes" or "no".
type Columns struct {
	Text, Pair, Label string
	Header            string
}

// Example is one row. Label is -1 where the file has no label column.
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
	Notes    []string // what was mended on reading, for the user to see
}

// ReadTSV reads a file of tab-separated rows. With labels nil the labels are gathered
// from the file; else every label must be among them.
func ReadTSV(path string, columns Columns, labels *Labels) (*Dataset, error) { return nil, nil }

// Counts returns how many examples carry each label.
func (d *Dataset) Counts() []int { return nil }
