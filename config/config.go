// Package config holds the typed configuration of a run: what each key means, its
// default, and which values are legal. It reads nothing; package cli fills it from
// files, environment and flags.
package config

import "strings"

// Config is a whole run. Keys are written section.key, for example train.seed.
type Config struct {
	Model     Model     `mapstructure:"model" yaml:"model"`
	Task      Task      `mapstructure:"task" yaml:"task"`
	Data      Data      `mapstructure:"data" yaml:"data"`
	Train     Train     `mapstructure:"train" yaml:"train"`
	Optimizer Optimizer `mapstructure:"optimizer" yaml:"optimizer"`
	Sift      Sift      `mapstructure:"sift" yaml:"sift"`
	Device    Device    `mapstructure:"device" yaml:"device"`
}

// Model says where the encoder comes from: a file, or, for pre-training from scratch with
// no Path, the sizes of a new one.
type Model struct {
	Path         string `mapstructure:"path" yaml:"path"`           // ONNX file to import; empty: from scratch
	Tokenizer    string `mapstructure:"tokenizer" yaml:"tokenizer"` // directory, vocab.txt or tokenizer.json
	Layers       int    `mapstructure:"layers" yaml:"layers"`
	Hidden       int    `mapstructure:"hidden" yaml:"hidden"`
	Heads        int    `mapstructure:"heads" yaml:"heads"`
	Intermediate int    `mapstructure:"intermediate" yaml:"intermediate"` // 0: four times hidden
	Vocab        int    `mapstructure:"vocab" yaml:"vocab"`               // 0: as many as the tokenizer has
	Positions    int    `mapstructure:"positions" yaml:"positions"`
	TypeVocab    int    `mapstructure:"type_vocab" yaml:"type_vocab"`
	Activation   string `mapstructure:"activation" yaml:"activation"` // gelu | gelu_tanh
	Tied         bool   `mapstructure:"tied" yaml:"tied"`             // the masked-LM decoder is the word embedding
}

// Task says what is learnt and how to read the labelled files.
type Task struct {
	Name           string `mapstructure:"name" yaml:"name"`                         // classification | mlm
	TextColumn     string `mapstructure:"text_column" yaml:"text_column"`           // name, or number from 1
	TextPairColumn string `mapstructure:"text_pair_column" yaml:"text_pair_column"` // empty: single texts
	LabelColumn    string `mapstructure:"label_column" yaml:"label_column"`
	Metric         string `mapstructure:"metric" yaml:"metric"`         // accuracy | f1 | mcc
	MaxLength      int    `mapstructure:"max_length" yaml:"max_length"` // tokens, [CLS] and [SEP] included
}

// Data names the files and says how masked-LM examples are made of running text.
type Data struct {
	Train           Paths     `mapstructure:"train" yaml:"train"`
	Valid           Paths     `mapstructure:"valid" yaml:"valid"`
	Format          string    `mapstructure:"format" yaml:"format"`                     // auto | tsv | text
	MaskProbability float64   `mapstructure:"mask_probability" yaml:"mask_probability"` // share of tokens to predict
	MaskReplace     []float64 `mapstructure:"mask_replace" yaml:"mask_replace"`         // of those: [MASK], a random token, itself
	NextSentence    bool      `mapstructure:"next_sentence" yaml:"next_sentence"`
	ShortShare      float64   `mapstructure:"short_share" yaml:"short_share"` // examples of a random shorter length
	ValidShare      float64   `mapstructure:"valid_share" yaml:"valid_share"` // documents held out where valid is empty
}

// Paths are files and directories. In a configuration file they are one text or a list, a
// flag may be repeated, an environment variable holds one.
type Paths []string

// String lists the paths for messages.
func (p Paths) String() string { return strings.Join(p, ", ") }

// Train is the loop around the step.
type Train struct {
	Updates          int     `mapstructure:"updates" yaml:"updates"` // one of updates and epochs; 0 = by epochs
	Epochs           float64 `mapstructure:"epochs" yaml:"epochs"`   // passes over drawn examples
	MicroBatch       int     `mapstructure:"micro_batch" yaml:"micro_batch"`
	Accumulate       int     `mapstructure:"accumulate" yaml:"accumulate"`
	Precision        string  `mapstructure:"precision" yaml:"precision"` // f32 | bf16: of activations, on cuda | f16: of the operands of matrix products, on vulkan
	Seed             uint64  `mapstructure:"seed" yaml:"seed"`
	Dropout          float64 `mapstructure:"dropout" yaml:"dropout"`
	AttentionDropout float64 `mapstructure:"attention_dropout" yaml:"attention_dropout"`
	ClipNorm         float64 `mapstructure:"clip_norm" yaml:"clip_norm"` // 0: no clipping
	Freeze           string  `mapstructure:"freeze" yaml:"freeze"`       // none | embeddings | encoder | number of lowest layers (embeddings included)
	SaveEvery        int     `mapstructure:"save_every" yaml:"save_every"`
	EvaluateEvery    int     `mapstructure:"evaluate_every" yaml:"evaluate_every"` // 0: at the end of every epoch
	KeepCheckpoints  int     `mapstructure:"keep_checkpoints" yaml:"keep_checkpoints"`
	EarlyStopping    int     `mapstructure:"early_stopping" yaml:"early_stopping"` // evaluations without gain; 0: never
}

// Optimizer is AdamW and its schedule.
type Optimizer struct {
	Name         string   `mapstructure:"name" yaml:"name"` // adamw
	LR           float64  `mapstructure:"lr" yaml:"lr"`
	Beta1        float64  `mapstructure:"beta1" yaml:"beta1"`
	Beta2        float64  `mapstructure:"beta2" yaml:"beta2"`
	Eps          float64  `mapstructure:"eps" yaml:"eps"`
	WeightDecay  float64  `mapstructure:"weight_decay" yaml:"weight_decay"`
	DecayExclude []string `mapstructure:"decay_exclude" yaml:"decay_exclude"` // of: bias, norm, embeddings
	Schedule     string   `mapstructure:"schedule" yaml:"schedule"`           // linear | cosine | constant
	Warmup       float64  `mapstructure:"warmup" yaml:"warmup"`               // below 1: share of the updates; else updates
}

// Sift is the selection.
type Sift struct {
	Score          string  `mapstructure:"score" yaml:"score"` // none | loss | entropy | random
	ExitLayer      int     `mapstructure:"exit_layer" yaml:"exit_layer"`
	Keep           float64 `mapstructure:"keep" yaml:"keep"`
	Start          int     `mapstructure:"start" yaml:"start"`         // first selecting update
	End            int     `mapstructure:"end" yaml:"end"`             // first update no longer selecting; 0: never
	Interrupt      int     `mapstructure:"interrupt" yaml:"interrupt"` // every n-th update does not select; 0: never
	Reuse          bool    `mapstructure:"reuse" yaml:"reuse"`
	Aggregate      string  `mapstructure:"aggregate" yaml:"aggregate"` // mean | sum
	ScoringDropout bool    `mapstructure:"scoring_dropout" yaml:"scoring_dropout"`
	ScorePrecision string  `mapstructure:"score_precision" yaml:"score_precision"` // that of train.precision
	Head           string  `mapstructure:"head" yaml:"head"`                       // final
	Log            bool    `mapstructure:"log" yaml:"log"`
	Replay         string  `mapstructure:"replay" yaml:"replay"` // a recorded selection.jsonl
}

// Device says where to compute.
type Device struct {
	Name    string `mapstructure:"name" yaml:"name"`       // one of DeviceNames; a build may lack cuda and vulkan
	Threads int    `mapstructure:"threads" yaml:"threads"` // 0: all cores
	ISA     string `mapstructure:"isa" yaml:"isa"`         // auto | avx512 | avx2 | portable | go
	CuBLAS  string `mapstructure:"cublas" yaml:"cublas"`   // off | on | tf32: whether cuBLAS makes matrix products on cuda
}

// Default returns the configuration that fine-tuning starts from.
func Default() Config {
	return Config{
		Model: Model{Layers: 12, Hidden: 768, Heads: 12, Positions: 512, TypeVocab: 2, Activation: "gelu", Tied: true},
		Task:  Task{Name: "classification", TextColumn: "1", LabelColumn: "2", Metric: "accuracy", MaxLength: 128},
		Data:  Data{Train: Paths{}, Valid: Paths{}, Format: "auto", MaskProbability: 0.15, MaskReplace: []float64{0.8, 0.1, 0.1}, ShortShare: 0.1},
		Train: Train{Epochs: 3, MicroBatch: 32, Accumulate: 1, Precision: "f32", Seed: 1, Dropout: 0.1,
			AttentionDropout: 0.1, ClipNorm: 1, Freeze: "none", SaveEvery: 500, KeepCheckpoints: 2},
		Optimizer: Optimizer{Name: "adamw", LR: 5e-5, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01,
			DecayExclude: []string{"bias", "norm"}, Schedule: "linear", Warmup: 0.1},
		Sift: Sift{Score: "none", ExitLayer: 1, Keep: 0.5, Reuse: true, Aggregate: "mean",
			ScoringDropout: true, ScorePrecision: "f32", Head: "final"},
		Device: Device{Name: "auto", ISA: "auto", CuBLAS: "off"},
	}
}

// DefaultPretrain returns the configuration that pre-training starts from: BERT-base by
// arXiv:2402.07052, section 7, with shorter sequences.
func DefaultPretrain() Config {
	c := Default()
	c.Task.Name = "mlm"
	c.Data.NextSentence, c.Data.ValidShare = true, 0.02
	c.Optimizer.LR, c.Optimizer.Warmup = 1e-4, 0.01
	c.Train.Epochs = 1
	return c
}
