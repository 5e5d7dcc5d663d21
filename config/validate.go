package config

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"sift/fault"
)

// MaxDrawn bounds the sequences that one micro-batch may draw for selection.
const MaxDrawn = 65536

// Settle resolves the keys that follow another: train.updates given without train.epochs
// turns the default train.epochs off, and sift.score_precision is train.precision unless
// it is given. given reports whether a key was set by anything but the default. Call it
// before Validate.
func (c *Config) Settle(given func(key string) bool) {
	if given("train.updates") && c.Train.Updates != 0 && !given("train.epochs") {
		c.Train.Epochs = 0
	}
	if given("train.precision") && !given("sift.score_precision") {
		c.Sift.ScorePrecision = c.Train.Precision
	}
}

// Validate reports the first value that is illegal whatever the model and the data
// are, as a fault.Config error that names the key, the value and what is legal.
func (c Config) Validate() error {
	return first(c.Model.validate, c.Task.validate, c.Data.validate, c.Train.validate, c.Optimizer.validate, c.Sift.validate,
		c.Device.Validate, c.validateTogether)
}

// ValidateFinetune is Validate, and the inputs that fine-tuning cannot do without.
func (c Config) ValidateFinetune() error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := required("model.path", c.Model.Path, "an ONNX file"); err != nil {
		return err
	}
	return c.validateInputs()
}

// ValidatePretrain is Validate, and the inputs that pre-training cannot do without.
func (c Config) ValidatePretrain() error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Task.Name != "mlm" {
		return illegal("task.name", strconv.Quote(c.Task.Name), "must be mlm to pre-train")
	}
	if c.Model.Path == "" && c.Model.Tokenizer == "" {
		return required("model.tokenizer", "", "a tokenizer directory, vocab.txt or tokenizer.json")
	}
	return c.validateInputs()
}

func (c Config) validateInputs() error {
	labelled := c.Task.Name == "classification"
	return first(
		func() error {
			if labelled {
				return required("data.train", c.Data.Train.String(), "a labelled file")
			}
			return required("data.train", c.Data.Train.String(), "text files, directories of them, or prepared data")
		},
		func() error {
			for key, p := range map[string]Paths{"data.train": c.Data.Train, "data.valid": c.Data.Valid} {
				if labelled && len(p) > 1 {
					return illegal(key, p, "must be one labelled file")
				}
				if slices.Contains(p, "") {
					return illegal(key, strconv.Quote(p.String()), "one of the paths is empty")
				}
			}
			return nil
		},
		func() error {
			if c.Train.EarlyStopping > 0 && len(c.Data.Valid) == 0 && (labelled || c.Data.ValidShare == 0) {
				return illegal("train.early_stopping", c.Train.EarlyStopping, "needs data.valid")
			}
			return nil
		},
		func() error {
			for _, path := range c.Data.Valid {
				if slices.Contains(c.Data.Train, path) {
					return illegal("data.valid", path, "must be another file than data.train")
				}
			}
			return nil
		},
	)
}

// validate checks what a model built from scratch needs.
func (m Model) validate() error {
	return first(
		intFrom("model.layers", m.Layers, 1),
		intFrom("model.hidden", m.Hidden, 2),
		intFrom("model.heads", m.Heads, 1),
		func() error {
			if m.Hidden%m.Heads != 0 {
				return illegal("model.heads", m.Heads, "must divide model.hidden, which is "+strconv.Itoa(m.Hidden))
			}
			return nil
		},
		intFrom("model.intermediate", m.Intermediate, 0),
		func() error {
			if m.Intermediate == 1 {
				return illegal("model.intermediate", 1, "must be 0 (four times model.hidden) or at least 2")
			}
			return nil
		},
		intFrom("model.vocab", m.Vocab, 0),
		intFrom("model.positions", m.Positions, 1),
		intFrom("model.type_vocab", m.TypeVocab, 0),
		oneOf("model.activation", m.Activation, "gelu", "gelu_tanh"),
	)
}

func (t Task) validate() error {
	return first(
		oneOf("task.name", t.Name, "classification", "mlm"),
		func() error {
			return required("task.text_column", t.TextColumn, "a column's name, or its number from 1")
		},
		func() error {
			return required("task.label_column", t.LabelColumn, "a column's name, or its number from 1")
		},
		oneOf("task.metric", t.Metric, "accuracy", "f1", "mcc"),
		intFrom("task.max_length", t.MaxLength, 3),
	)
}

func (d Data) validate() error {
	return first(
		oneOf("data.format", d.Format, "auto", "tsv", "text"),
		func() error {
			if p := d.MaskProbability; !(p > 0 && p < 1) {
				return illegal("data.mask_probability", p, "must be above 0 and below 1")
			}
			return nil
		},
		d.validateReplace,
		share("data.short_share", d.ShortShare),
		probability("data.valid_share", d.ValidShare),
	)
}

func (d Data) validateReplace() error {
	const legal = "must be three shares that add up to 1: replaced by [MASK], by a random token, kept"
	sum := 0.0
	for _, p := range d.MaskReplace {
		if !(p >= 0 && p <= 1) {
			return illegal("data.mask_replace", d.MaskReplace, legal)
		}
		sum += p
	}
	if len(d.MaskReplace) != 3 || math.Abs(sum-1) > 1e-6 {
		return illegal("data.mask_replace", d.MaskReplace, legal)
	}
	return nil
}

func (t Train) validate() error {
	return first(
		intFrom("train.updates", t.Updates, 0),
		floatFrom("train.epochs", t.Epochs, 0),
		func() error {
			switch {
			case t.Updates == 0 && t.Epochs == 0:
				return fault.New(fault.Config, "train.updates: 0: one of train.updates and train.epochs must be above 0")
			case t.Updates != 0 && t.Epochs != 0:
				return fault.New(fault.Config, "train.updates: %d: train.epochs is %v; one of the two must be 0", t.Updates, t.Epochs)
			}
			return nil
		},
		intFrom("train.micro_batch", t.MicroBatch, 1),
		intFrom("train.accumulate", t.Accumulate, 1),
		func() error {
			if t.Accumulate > MaxDrawn {
				return illegal("train.accumulate", t.Accumulate, "must be at most "+strconv.Itoa(MaxDrawn))
			}
			return nil
		},
		oneOf("train.precision", t.Precision, "f32", "bf16", "f16"),
		probability("train.dropout", t.Dropout),
		probability("train.attention_dropout", t.AttentionDropout),
		floatFrom("train.clip_norm", t.ClipNorm, 0),
		t.validateFreeze,
		intFrom("train.save_every", t.SaveEvery, 0),
		intFrom("train.evaluate_every", t.EvaluateEvery, 0),
		intFrom("train.keep_checkpoints", t.KeepCheckpoints, 2),
		intFrom("train.early_stopping", t.EarlyStopping, 0),
	)
}

func (t Train) validateFreeze() error {
	if _, err := t.FrozenLayers(0); err != nil {
		return err
	}
	return nil
}

// FrozenLayers returns how many of the lowest things are frozen in a model of the
// given layers: -1 nothing, 0 the embeddings, n the embeddings and n layers.
// layers is also the answer for "encoder".
func (t Train) FrozenLayers(layers int) (int, error) {
	switch t.Freeze {
	case "none":
		return -1, nil
	case "embeddings":
		return 0, nil
	case "encoder":
		return layers, nil
	}
	n, err := strconv.Atoi(t.Freeze)
	if err != nil || n < 0 {
		return 0, illegal("train.freeze", t.Freeze, "must be none, embeddings, encoder, or a number of layers from 0")
	}
	if layers > 0 && n > layers {
		return 0, illegal("train.freeze", n, "the model has "+strconv.Itoa(layers)+" layers")
	}
	return n, nil
}

func (o Optimizer) validate() error {
	rules := []func() error{
		oneOf("optimizer.name", o.Name, "adamw"),
		above("optimizer.lr", o.LR),
		probability("optimizer.beta1", o.Beta1),
		probability("optimizer.beta2", o.Beta2),
		above("optimizer.eps", o.Eps),
		floatFrom("optimizer.weight_decay", o.WeightDecay, 0),
		oneOf("optimizer.schedule", o.Schedule, "linear", "cosine", "constant"),
		floatFrom("optimizer.warmup", o.Warmup, 0),
		func() error {
			if o.Warmup >= 1 && o.Warmup != math.Trunc(o.Warmup) {
				return illegal("optimizer.warmup", o.Warmup, "must be a share below 1 or a whole number of updates")
			}
			return nil
		},
	}
	for _, name := range o.DecayExclude {
		rules = append(rules, oneOf("optimizer.decay_exclude", name, "bias", "norm", "embeddings"))
	}
	return first(rules...)
}

func (s Sift) validate() error {
	return first(
		oneOf("sift.score", s.Score, "none", "loss", "entropy", "random"),
		intFrom("sift.exit_layer", s.ExitLayer, 0),
		func() error {
			if !(s.Keep > 0 && s.Keep <= 1) { // also catches NaN
				return illegal("sift.keep", s.Keep, "must be above 0 and at most 1")
			}
			return nil
		},
		intFrom("sift.start", s.Start, 0),
		intFrom("sift.end", s.End, 0),
		func() error {
			if s.End != 0 && s.End <= s.Start {
				return illegal("sift.end", s.End, "must be 0 (never) or above sift.start, which is "+strconv.Itoa(s.Start))
			}
			return nil
		},
		intFrom("sift.interrupt", s.Interrupt, 0),
		func() error {
			if s.Interrupt == 1 {
				return illegal("sift.interrupt", 1, "would never select; must be 0 (never) or at least 2")
			}
			return nil
		},
		oneOf("sift.aggregate", s.Aggregate, "mean", "sum"),
		oneOf("sift.score_precision", s.ScorePrecision, "f32", "bf16", "f16"),
		oneOf("sift.head", s.Head, "final"),
		func() error {
			if s.Replay != "" && s.Score == "none" {
				return illegal("sift.replay", s.Replay, "sift.score is none; a replayed run must name the score it was recorded with")
			}
			return nil
		},
	)
}

// Validate reports the first illegal value, as Config.Validate does.
func (d Device) Validate() error {
	return first(
		d.validateName,
		intFrom("device.threads", d.Threads, 0),
		oneOf("device.isa", d.ISA, "auto", "avx512", "avx2", "portable", "go"),
		oneOf("device.cublas", d.CuBLAS, "off", "on", "tf32"),
		func() error {
			if kind, _, _ := strings.Cut(d.Name, ":"); d.CuBLAS != "off" && kind != "cuda" && kind != "auto" {
				return illegal("device.cublas", d.CuBLAS, "needs cuda; device.name is "+d.Name)
			}
			return nil
		},
	)
}

// DeviceNames are the legal values of device.name beside cuda:N and vulkan:N, where N is
// the index of a device as sift devices lists them.
func DeviceNames() []string {
	return []string{"auto", "cpu", "reference", "cuda", "vulkan", "vulkan:cpu"}
}

func (d Device) validateName() error {
	kind, n, ok := strings.Cut(d.Name, ":")
	if ok && (kind == "cuda" || kind == "vulkan") {
		if i, err := strconv.ParseUint(n, 10, 16); err == nil && strconv.FormatUint(i, 10) == n {
			return nil
		}
	}
	if slices.Contains(DeviceNames(), d.Name) {
		return nil
	}
	return illegal("device.name", strconv.Quote(d.Name), "must be one of "+strings.Join(DeviceNames(), ", ")+", or cuda:N or vulkan:N with N from 0")
}

// validatePrecision refuses what no device computes, and two precisions in one run.
func (c Config) validatePrecision() error {
	kind, _, _ := strings.Cut(c.Device.Name, ":")
	needs := map[string]string{"bf16": "cuda", "f16": "vulkan"}[c.Train.Precision]
	if needs != "" && kind != needs && kind != "auto" {
		return illegal("train.precision", c.Train.Precision, "needs "+needs+"; device.name is "+c.Device.Name)
	}
	if c.Sift.Score != "none" && c.Sift.ScorePrecision != c.Train.Precision {
		return illegal("sift.score_precision", c.Sift.ScorePrecision, "must be train.precision, which is "+c.Train.Precision)
	}
	return nil
}

// validateTogether checks keys of different sections against each other.
func (c Config) validateTogether() error {
	if c.Train.Updates > 0 && c.Optimizer.Warmup > float64(c.Train.Updates) {
		return illegal("optimizer.warmup", c.Optimizer.Warmup, "must be at most train.updates, which is "+strconv.Itoa(c.Train.Updates))
	}
	if c.Train.MicroBatch > MaxDrawn {
		return illegal("train.micro_batch", c.Train.MicroBatch, "must be at most "+strconv.Itoa(MaxDrawn))
	}
	if err := first(c.validateTask, c.validatePrecision); err != nil {
		return err
	}
	if c.Sift.Score == "none" {
		return nil
	}
	if c.Task.Name == "classification" && c.Sift.Score != "random" && c.Sift.ExitLayer == 0 {
		return illegal("sift.exit_layer", 0, "a pooled task exits at 1 or above: at 0 every [CLS] is the same")
	}
	if drawn := math.Round(float64(c.Train.MicroBatch) / c.Sift.Keep); drawn > MaxDrawn {
		return illegal("sift.keep", c.Sift.Keep, "would draw "+strconv.FormatFloat(drawn, 'g', 6, 64)+
			" sequences for a micro-batch of "+strconv.Itoa(c.Train.MicroBatch)+"; at most "+strconv.Itoa(MaxDrawn))
	}
	return nil
}

// validateTask checks the keys that one task has and the other has not.
func (c Config) validateTask() error {
	if c.Task.Name == "classification" {
		if c.Data.Format == "text" {
			return illegal("data.format", strconv.Quote("text"), "classification reads tsv")
		}
		return nil
	}
	return first(
		func() error {
			if c.Data.Format == "tsv" {
				return illegal("data.format", strconv.Quote("tsv"), "task.name mlm reads text")
			}
			return nil
		},
		func() error {
			if c.Task.Metric != "accuracy" {
				return illegal("task.metric", strconv.Quote(c.Task.Metric), "must be accuracy for task.name mlm")
			}
			return nil
		},
		intFrom("task.max_length", c.Task.MaxLength, 8),
	)
}

func first(rules ...func() error) error {
	for _, rule := range rules {
		if err := rule(); err != nil {
			return err
		}
	}
	return nil
}

func illegal(key string, value any, legal string) error {
	return fault.New(fault.Config, "%s: %v: %s", key, value, legal)
}

func required(key, value, what string) error {
	if value == "" {
		return fault.New(fault.Config, "%s: not set: must be %s", key, what)
	}
	return nil
}

func oneOf(key, value string, legal ...string) func() error {
	return func() error {
		if slices.Contains(legal, value) {
			return nil
		}
		if len(legal) == 1 {
			return illegal(key, strconv.Quote(value), "must be "+legal[0])
		}
		return illegal(key, strconv.Quote(value), "must be one of "+strings.Join(legal, ", "))
	}
}

func intFrom(key string, value, least int) func() error {
	return func() error {
		if value < least {
			return illegal(key, value, "must be at least "+strconv.Itoa(least))
		}
		return nil
	}
}

func floatFrom(key string, value, least float64) func() error {
	return func() error {
		if !(value >= least) || math.IsInf(value, 0) {
			return illegal(key, value, "must be a finite number of at least "+strconv.FormatFloat(least, 'g', -1, 64))
		}
		return nil
	}
}

func above(key string, value float64) func() error {
	return func() error {
		if !(value > 0) || math.IsInf(value, 0) {
			return illegal(key, value, "must be a finite number above 0")
		}
		return nil
	}
}

func share(key string, value float64) func() error {
	return func() error {
		if !(value >= 0 && value <= 1) {
			return illegal(key, value, "must be from 0 to 1")
		}
		return nil
	}
}

func probability(key string, value float64) func() error {
	return func() error {
		if !(value >= 0 && value < 1) {
			return illegal(key, value, "must be at least 0 and below 1")
		}
		return nil
	}
}
