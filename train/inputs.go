package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/text"
)

// material is everything a run reads, read.
type material struct {
	model      bert.Config
	weights    bert.Weights
	labels     []string
	train      *examples // nil where text is trained on
	valid      *examples // nil: no validation
	text       *running  // nil where a labelled file is trained on
	hashes     inputs
	configText string
	tokenizer  *text.Tokenizer
	files      []file // of the tokenizer
	notices    []string
	export     bool // the finished model is written as an ONNX file
}

// file is a small file in memory.
type file struct {
	name string
	data []byte
}

// readInputs reads and checks all that cfg names, before anything is written.
func readInputs(cfg config.Config) (*material, error) {
	in := &material{}
	notice := func(s string) { in.notices = append(in.notices, s) }
	graph, err := importGraph(cfg.Model.Path)
	if err != nil {
		return nil, err
	}
	defer graph.Close()
	if cfg.Model.Tokenizer == "" {
		cfg.Model.Tokenizer = filepath.Dir(cfg.Model.Path)
	}
	tok, err := text.Load(cfg.Model.Tokenizer)
	if err != nil {
		return nil, err
	}
	in.tokenizer, in.model = tok, graph.config
	in.model.MaskValue = 0 // of the graph, which keeps its own; it may be -Inf, which JSON cannot hold
	if err := checkVocabulary(tok, in.model, cfg.Model.Tokenizer, notice); err != nil {
		return nil, err
	}
	train, data, err := readExamples(cfg.Data.Train[0], cfg.Task, nil, tok, in.model, notice)
	if err != nil {
		return nil, err
	}
	labels := data.Labels
	if labels.Len() < 2 {
		return nil, fault.New(fault.Data, "%s: %d label; at least 2 are needed to classify", cfg.Data.Train, labels.Len())
	}
	if in.model.Classes > 0 {
		if named := headLabels(cfg.Model.Path, in.model.Classes); named != nil && !slices.Equal(named, labels.Names) {
			if labels, err = reorder(named, labels); err != nil {
				notice(fmt.Sprintf("%s: its classifier was trained for the labels %s", cfg.Model.Path, strings.Join(named, ", ")))
				labels = data.Labels
			} else if train, data, err = readExamples(cfg.Data.Train[0], cfg.Task, labels, tok, in.model, nil); err != nil {
				return nil, err
			}
		}
	}
	in.train, in.labels, in.hashes.Train = train, labels.Names, data.Hash
	if len(cfg.Data.Valid) > 0 {
		if in.valid, data, err = readExamples(cfg.Data.Valid[0], cfg.Task, labels, tok, in.model, notice); err != nil {
			return nil, err
		}
		if in.valid.Len() == 0 {
			return nil, fault.New(fault.Data, "%s: no examples", cfg.Data.Valid)
		}
		in.hashes.Valid = data.Hash
	}
	if err := in.fitHead(cfg); err != nil {
		return nil, err
	}
	if in.weights, err = graph.load(); err != nil {
		return nil, err
	}
	fresh, err := bert.InitMissing(in.model, in.weights, cfg.Train.Seed)
	if err != nil {
		return nil, err
	}
	if len(fresh) > 0 {
		notice("fresh parameters: " + strings.Join(fresh, ", "))
	}
	if in.files, err = tokenizerFiles(tok, in.model.MaxTokens()); err != nil {
		return nil, err
	}
	return in, in.hash(cfg)
}

// fitHead gives the model a classifier of the data's labels.
func (in *material) fitHead(cfg config.Config) error {
	n := len(in.labels)
	if c := in.model.Classes; c != 0 && c != n {
		return fault.New(fault.Data, "%s: %d labels, but the classifier of %s has %d", cfg.Data.Train, n, cfg.Model.Path, c)
	}
	in.model.Classes, in.model.HasPooler = n, true
	return nil
}

func (in *material) hash(cfg config.Config) error {
	sum := sha256.New()
	for _, path := range in.tokenizer.Files { // the vocabulary, and the configuration if it counted
		hash, err := hashFile(path)
		if err != nil {
			return err
		}
		io.WriteString(sum, hash)
	}
	in.hashes.Tokenizer = hex.EncodeToString(sum.Sum(nil))
	var err error
	if cfg.Model.Path != "" {
		if in.hashes.Model, err = hashFile(cfg.Model.Path); err != nil {
			return err
		}
	}
	if cfg.Sift.Replay != "" {
		in.hashes.Replay, err = hashFile(cfg.Sift.Replay)
	}
	return err
}

// checkVocabulary compares the tokenizer's ids with the rows of the word embedding.
func checkVocabulary(tok *text.Tokenizer, model bert.Config, path string, notice func(string)) error {
	n := tok.VocabSize()
	if n > model.Vocab {
		return fault.New(fault.Data, "%s: %d tokens, but the model has embeddings for %d", path, n, model.Vocab)
	}
	if n < model.Vocab && notice != nil {
		notice(fmt.Sprintf("%s: %d tokens; the model has embeddings for %d", path, n, model.Vocab))
	}
	return nil
}

// hashFile returns the SHA-256 of a file's bytes in hex.
func hashFile(path string) (string, error) {
	r, err := osDisk{}.Open(path)
	if err != nil {
		return "", diskError(fault.Missing, path, err)
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(r, 0, r.Size()), make([]byte, 1<<20)); err != nil {
		return "", diskError(fault.IO, path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// headLabels returns the label names of config.json beside an ONNX file, by class; nil
// if it has none for that many classes, or only the placeholders LABEL_0, LABEL_1, ...
func headLabels(modelPath string, classes int) []string {
	data, err := readAll(osDisk{}, filepath.Join(filepath.Dir(modelPath), configJSON), 16<<20)
	if err != nil {
		return nil
	}
	var c struct {
		ID2Label map[string]string `json:"id2label"`
	}
	if json.Unmarshal(data, &c) != nil || len(c.ID2Label) != classes {
		return nil
	}
	names := make([]string, classes)
	placeholders := true
	for i := range names {
		name, ok := c.ID2Label[fmt.Sprint(i)]
		if !ok || slices.Contains(names[:i], name) {
			return nil
		}
		placeholders = placeholders && name == fmt.Sprintf("LABEL_%d", i)
		names[i] = name
	}
	if placeholders {
		return nil
	}
	return names
}

// reorder returns the labels in the order of names if they are the same ones.
func reorder(names []string, labels *text.Labels) (*text.Labels, error) {
	for _, name := range labels.Names {
		if !slices.Contains(names, name) {
			return nil, errors.New("other labels")
		}
	}
	return text.NewLabels(names)
}

// resolvedText is the configuration as config.yaml has it. Paths become absolute, so
// that a run is continued, and its model exported, from any directory.
func resolvedText(cfg config.Config) (config.Config, string, error) {
	paths := []*string{&cfg.Model.Path, &cfg.Model.Tokenizer, &cfg.Sift.Replay}
	cfg.Data.Train, cfg.Data.Valid = slices.Clone(cfg.Data.Train), slices.Clone(cfg.Data.Valid)
	for _, list := range []config.Paths{cfg.Data.Train, cfg.Data.Valid} {
		for i := range list {
			paths = append(paths, &list[i])
		}
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return cfg, "", fault.New(fault.IO, "%s: %w", *p, err)
		}
		*p = abs
	}
	data, err := yaml.Marshal(cfg)
	if err != nil {
		return cfg, "", fault.New(fault.Internal, "config.yaml: %w", err)
	}
	return cfg, string(data), nil
}
