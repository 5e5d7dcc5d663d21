package train

import (
	"runtime"

	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/text"
)

// examples are a labelled file as token ids for one model. A nil *examples is an absent
// file: it has no examples.
type examples struct {
	*text.Encoded
	types bool // the model tells the texts of a pair apart
}

// readExamples reads and encodes a file. labels nil gathers them from the file, or, with
// task.LabelColumn empty, reads none.
func readExamples(path string, task config.Task, labels *text.Labels, tok *text.Tokenizer, model bert.Config,
	notice func(string)) (*examples, *text.Dataset, error) {
	if err := checkLength(task, model); err != nil {
		return nil, nil, err
	}
	data, err := text.ReadTSV(path, text.Columns{Text: task.TextColumn, Pair: task.TextPairColumn, Label: task.LabelColumn}, labels)
	if err != nil {
		return nil, nil, err
	}
	if notice != nil {
		for _, note := range data.Notes {
			notice(note)
		}
	}
	return encode(data, task, tok, model), data, nil
}

// checkLength refuses a maximum length past the position table.
func checkLength(task config.Task, model bert.Config) error {
	if task.MaxLength > model.MaxTokens() {
		return fault.New(fault.Config, "task.max_length: %d: the model has positions for %d tokens", task.MaxLength, model.MaxTokens())
	}
	return nil
}

func encode(data *text.Dataset, task config.Task, tok *text.Tokenizer, model bert.Config) *examples {
	e := tok.EncodeAll(data, task.MaxLength, runtime.GOMAXPROCS(0))
	return &examples{Encoded: e, types: model.TypeVocab > 1}
}

// Len is the number of examples.
func (e *examples) Len() int {
	if e == nil {
		return 0
	}
	return e.Encoded.Len()
}

// length is the number of tokens of example i.
func (e *examples) length(i int) int { return e.Offsets[i+1] - e.Offsets[i] }

// longest is the number of tokens of the longest example.
func (e *examples) longest() int {
	n := 0
	for i := range e.Len() {
		n = max(n, e.length(i))
	}
	return n
}

// tokens is the number of tokens of all examples.
func (e *examples) tokens() int {
	if e == nil {
		return 0
	}
	return len(e.IDs)
}

// sequence is example i at a place of the data stream.
func (e *examples) sequence(i int, sampleID uint64) bert.Sequence {
	enc := e.Sequence(i)
	s := bert.Sequence{IDs: enc.IDs, Label: e.Labels[i], SampleID: sampleID}
	if e.types {
		s.Types = enc.Types
	}
	return s
}
